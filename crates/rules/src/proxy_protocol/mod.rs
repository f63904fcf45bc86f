//! The PROXY protocol (HAProxy's `doc/proxy-protocol.txt`): a header before everything else on a connection, by which whoever relays
//! it says between which addresses it was made.

mod binary;
mod senders;
mod text;

use crate::error::Kind;
use penstock_plan::ProxyVersion;
use std::net::SocketAddr;

pub use binary::SIGNATURE;
pub use senders::Senders;

/// The longest header that is read, or written: one of version 2 with a certificate or two in its TLVs fits.
pub const MOST: usize = binary::START + binary::MOST_BEHIND;

/// Between whom a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who connected.
    pub source: SocketAddr,
    /// To what.
    pub destination: SocketAddr,
}

/// A header that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes; what comes behind them is what the connection is about.
    pub length: usize,
    /// `None`: the sender speaks for itself (`LOCAL`), or does not know (`UNKNOWN`, a unix socket).
    pub addresses: Option<Addresses>,
}

/// Read the header that `input` begins with. `None`: all of it belongs to a header, and more must come. At most [`MOST`] bytes are
/// ever asked for.
///
/// # Errors
/// `ProxyHeaderMissing` where none begins, `ProxyHeaderBad` where one does and is wrong. Whatever could follow would not mend it.
pub fn read(input: &[u8]) -> Result<Option<Header>, Kind> {
    match (is_begun(input, SIGNATURE), is_begun(input, text::SIGNATURE)) {
        (true, _) => binary::read(input),
        (_, true) => text::read(input),
        _ => Err(Kind::ProxyHeaderMissing),
    }
}

/// Write a header behind what `out` has. `None`: nobody is spoken for (a probe of our own).
pub fn write(version: ProxyVersion, addresses: Option<&Addresses>, out: &mut Vec<u8>) {
    match version {
        ProxyVersion::V1 => text::write(addresses, out),
        ProxyVersion::V2 => binary::write(addresses, out),
    }
}

/// Whether as much of `signature` is there as can be.
fn is_begun(input: &[u8], signature: &[u8]) -> bool {
    input.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

/// Both addresses in one family, where they are of two: IPv4 as IPv6 has it.
fn alike(addresses: &Addresses) -> Addresses {
    let Addresses { source, destination } = *addresses;
    if source.is_ipv4() == destination.is_ipv4() {
        return *addresses;
    }
    let widen = |address: SocketAddr| match address {
        SocketAddr::V4(address) => SocketAddr::new(address.ip().to_ipv6_mapped().into(), address.port()),
        SocketAddr::V6(_) => address,
    };
    Addresses { source: widen(source), destination: widen(destination) }
}

/// IPv4 that is written as IPv6 is IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
