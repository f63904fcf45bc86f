//! Version 1: one line of text.

use super::{Addresses, Header, alike, canonical};
use crate::error::Kind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::{self, FromStr};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// The longest line, CRLF included: two whole IPv6 addresses and two ports (§2.1).
const MOST: usize = 107;

pub(super) fn read(input: &[u8]) -> Result<Option<Header>, Kind> {
    let line = input.get(..MOST).unwrap_or(input);
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        // CRLF needs two places.
        return if line.len() < MOST - 1 { Ok(None) } else { Err(Kind::ProxyHeaderBad) };
    };
    match (line.get(end), line.get(end + 1)) {
        (Some(b'\r'), Some(b'\n')) => {}
        (Some(b'\r'), None) if end + 2 <= MOST => return Ok(None),
        _ => return Err(Kind::ProxyHeaderBad),
    }
    let text = line.get(SIGNATURE.len()..end).and_then(|text| str::from_utf8(text).ok());
    let addresses = text.and_then(addresses).ok_or(Kind::ProxyHeaderBad)?;
    Ok(Some(Header { length: end + 2, addresses }))
}

/// What stands behind `PROXY `. The outer `None`: nothing that may.
fn addresses(text: &str) -> Option<Option<Addresses>> {
    let (family, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut words = rest.split(' ');
    let mut ends = match family {
        // What follows is to be ignored (§2.1).
        "UNKNOWN" => return Some(None),
        "TCP4" => [address::<Ipv4Addr>(words.next()?)?, address::<Ipv4Addr>(words.next()?)?],
        "TCP6" => [address::<Ipv6Addr>(words.next()?)?, address::<Ipv6Addr>(words.next()?)?],
        _ => return None,
    }
    .into_iter();
    let (source, destination) = (ends.next()?, ends.next()?);
    let source = SocketAddr::new(source, port(words.next()?)?);
    let destination = SocketAddr::new(destination, port(words.next()?)?);
    let addresses = Addresses { source: canonical(source), destination: canonical(destination) };
    words.next().is_none().then_some(Some(addresses))
}

fn address<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

/// Digits without a sign or a leading zero.
fn port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

pub(super) fn write(addresses: Option<&Addresses>, out: &mut Vec<u8>) {
    let line = match addresses.map(alike) {
        None => "PROXY UNKNOWN\r\n".into(),
        Some(Addresses { source, destination }) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (source.ip(), destination.ip());
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
        }
    };
    out.extend_from_slice(line.as_bytes());
}
