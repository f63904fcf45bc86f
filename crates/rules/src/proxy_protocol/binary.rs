//! Version 2: a binary header, behind which TLVs may say more.

use super::{Addresses, Header, alike, canonical};
use crate::error::Kind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What every header of version 2 begins with: no other protocol does (§2.2).
pub const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of what follows.
pub(super) const START: usize = 16;
/// The most that may follow. The field could say 65535, for which nobody has a use, and it is held for each connection.
pub(super) const MOST_BEHIND: usize = 4096;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;
const UNIX: u8 = 0x31;
/// A TLV's checksum over the whole header (§2.2.3).
const CRC32C: u8 = 0x03;

pub(super) fn read(input: &[u8]) -> Result<Option<Header>, Kind> {
    // Each byte is judged as soon as it is there: who is wrong is not waited for.
    let command = input.get(12).copied();
    let family = input.get(13).copied();
    if command.is_some_and(|command| !matches!(command, LOCAL | PROXY)) {
        return Err(Kind::ProxyHeaderBad);
    }
    if command == Some(PROXY) && family.is_some_and(|family| !matches!(family, 0 | TCP4 | TCP6 | UNIX)) {
        return Err(Kind::ProxyHeaderBad);
    }
    let behind = match input.get(14..START) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => {
            return if input.get(14).is_some_and(|high| usize::from(*high) << 8 > MOST_BEHIND) {
                Err(Kind::ProxyHeaderBad)
            } else {
                Ok(None)
            };
        }
    };
    if behind > MOST_BEHIND {
        return Err(Kind::ProxyHeaderBad);
    }
    let length = START + behind;
    let Some(header) = input.get(..length) else { return Ok(None) };
    let content = header.get(START..).unwrap_or_default();
    let (addresses, told) = match (command, family) {
        (Some(PROXY), Some(TCP4)) => (tcp4(content), 12),
        (Some(PROXY), Some(TCP6)) => (tcp6(content), 36),
        (Some(PROXY), Some(UNIX)) => (None, 216),
        // The sender's own connection, or one that it knows nothing of: the rest is to be ignored (§2.2).
        _ => return Ok(Some(Header { length, addresses: None })),
    };
    // Too short for its addresses, or with TLVs that are none.
    if !content.get(told..).is_some_and(|tlvs| are_whole(tlvs, header)) {
        return Err(Kind::ProxyHeaderBad);
    }
    Ok(Some(Header { length, addresses }))
}

fn tcp4(content: &[u8]) -> Option<Addresses> {
    let (ends, ports) = (content.get(..8)?, content.get(8..12)?);
    let (from, to) = ends.split_first_chunk::<4>()?;
    both(Ipv4Addr::from(*from).into(), Ipv4Addr::from(*to.first_chunk()?).into(), ports)
}

fn tcp6(content: &[u8]) -> Option<Addresses> {
    let (ends, ports) = (content.get(..32)?, content.get(32..36)?);
    let (from, to) = ends.split_first_chunk::<16>()?;
    both(Ipv6Addr::from(*from).into(), Ipv6Addr::from(*to.first_chunk()?).into(), ports)
}

fn both(from: IpAddr, to: IpAddr, ports: &[u8]) -> Option<Addresses> {
    let (source, destination) = ports.split_first_chunk::<2>()?;
    let destination = u16::from_be_bytes(*destination.first_chunk()?);
    Some(Addresses {
        source: canonical(SocketAddr::new(from, u16::from_be_bytes(*source))),
        destination: canonical(SocketAddr::new(to, destination)),
    })
}

/// Whether TLVs fill their place exactly. Only the checksum is looked into; the others say nothing that is used.
fn are_whole(mut tlvs: &[u8], header: &[u8]) -> bool {
    while let Some((kind, rest)) = tlvs.split_first() {
        let Some((length, rest)) = rest.split_first_chunk::<2>() else { return false };
        let Some((value, behind)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            return false;
        };
        if *kind == CRC32C && !is_sum(value, header, header.len() - behind.len()) {
            return false;
        }
        tlvs = behind;
    }
    true
}

/// Whether `value`, which ends at `end` of the header, is the checksum of all of it, its own place being zero.
fn is_sum(value: &[u8], header: &[u8], end: usize) -> bool {
    let Ok(said) = <[u8; 4]>::try_from(value) else { return false };
    let own = end.saturating_sub(4)..end;
    let bytes = header.iter().enumerate().map(|(at, byte)| if own.contains(&at) { 0 } else { *byte });
    crc32c(bytes) == u32::from_be_bytes(said)
}

/// CRC-32C (RFC 3309), bit by bit: a header is short, and hardly any has it.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(byte), step))
}

pub(super) fn write(addresses: Option<&Addresses>, out: &mut Vec<u8>) {
    out.extend_from_slice(SIGNATURE);
    let Some(Addresses { source, destination }) = addresses.map(alike) else {
        out.extend_from_slice(&[LOCAL, 0, 0, 0]);
        return;
    };
    let family = if source.is_ipv4() { [PROXY, TCP4, 0, 12] } else { [PROXY, TCP6, 0, 36] };
    out.extend_from_slice(&family);
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn checksums_are_those_of_the_rfc() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
    }
}
