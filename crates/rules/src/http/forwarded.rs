//! Who the client is, and who says so (`X-Forwarded-For`).

use super::request::trim;
use super::{Fields, Known};
use crate::network::Network;
use std::net::IpAddr;
use std::str;

/// Whether forwarded headers from `peer` are believed.
pub fn is_trusted(peer: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(peer))
}

/// The client: the peer itself, or, behind trusted proxies, the first untrusted address from the right of
/// `X-Forwarded-For`. What cannot be read ends the search at the last address that could.
pub fn client(peer: IpAddr, trusted: &[Network], fields: &Fields) -> IpAddr {
    let mut client = peer;
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return client;
    }
    let values: Vec<&[u8]> = fields.all_known(Known::XForwardedFor).collect();
    for entry in values.iter().rev().flat_map(|value| value.rsplit(|&byte| byte == b',')) {
        let Some(address) = address(entry) else { break };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// The scheme that the client spoke: what a trusted proxy says of that, or `own`, which is the connection's. Of several entries
/// the first is the client's. `fields` are those of a request from which an untrusted peer's word was taken out.
pub fn scheme(own: &'static str, fields: &Fields) -> &'static str {
    let Some(said) = fields.known(Known::XForwardedProto) else { return own };
    let first = trim(said.split(|&byte| byte == b',').next().unwrap_or_default());
    // Some proxies name the WebSocket's.
    match first {
        _ if first.eq_ignore_ascii_case(b"https") || first.eq_ignore_ascii_case(b"wss") => "https",
        _ if first.eq_ignore_ascii_case(b"http") || first.eq_ignore_ascii_case(b"ws") => "http",
        _ => own,
    }
}

/// An entry: an address, perhaps in brackets, perhaps with a port; with anything else it is none.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(trim(entry)).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = match text.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        Some((address, "")) => (IpAddr::V6(address.parse().ok()?), None),
        Some((address, behind)) => (IpAddr::V6(address.parse().ok()?), Some(behind.strip_prefix(':')?)),
        None => {
            let (address, port) = text.split_once(':')?;
            (IpAddr::V4(address.parse().ok()?), Some(port))
        }
    };
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    port.is_none_or(is_port).then(|| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_what_the_first_entry_says() {
        for (own, said, expected) in [
            ("http", None, "http"),
            ("http", Some("https"), "https"),
            ("https", Some("HTTP"), "http"),
            ("http", Some("https, http"), "https"),
            ("http", Some("wss"), "https"),
            ("https", Some("gopher"), "https"),
            ("https", Some(""), "https"),
        ] {
            let mut fields = Fields::default();
            said.iter().for_each(|said| fields.push("x-forwarded-proto", said));
            assert_eq!(scheme(own, &fields), expected, "{own} {said:?}");
        }
    }

    #[test]
    fn the_client_is_the_first_untrusted_address_from_the_right() {
        let trusted: Vec<Network> = vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        for (peer, values, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.9:4711"], "203.0.113.9"),
            ("::1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("10.0.0.1", &["6.6.6.6, garbage, 10.0.0.3"], "10.0.0.3"),
            ("10.0.0.1", &["10.0.0.5"], "10.0.0.5"),
            ("10.0.0.1", &["203.0.113.9:x"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1]x"], "10.0.0.1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("10.0.0.1", &["[192.0.2.1]:80"], "10.0.0.1"),
        ] {
            let mut fields = Fields::default();
            values.iter().for_each(|value| fields.push("x-forwarded-for", value));
            assert_eq!(
                client(peer.parse().unwrap(), &trusted, &fields),
                expected.parse::<IpAddr>().unwrap(),
                "{values:?}"
            );
        }
    }
}
