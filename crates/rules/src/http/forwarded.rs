//! Who the client is, and who says so (`X-Forwarded-For`).

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

/// An entry: an address, perhaps with a port or in brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(inside) = text.strip_prefix('[') {
        return inside.split_once(']')?.0.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    }
    text.rsplit_once(':')?.0.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

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
