//! Who the client is: the right-most address that no trusted proxy vouches for, whatever else stands in the fields.

use crate::written::{self, shown};
use penstock_rules::http::forwarded::{client, is_trusted};
use penstock_rules::http::{
    BodyFraming, Fields, HeadLimits, HostLine, Identity, Known, RequestHead, RequestLines, write_request,
};
use penstock_rules::network::Network;
use std::net::IpAddr;

const LIMITS: HeadLimits = HeadLimits { bytes: 64 * 1024, fields: 50, uri: 8192, elsewhere: false };
/// What we add may take a head beyond the limits that it kept.
const WIDE: HeadLimits = HeadLimits { bytes: 128 * 1024, fields: 100, uri: 8192, elsewhere: false };
/// Where we stand, seen from the next hop.
const OURS: &str = "10.9.9.9";

/// Check one input: a line with the peer's address, a line of networks that are trusted, then fields.
pub fn check(bytes: &[u8]) {
    let Some((peer, networks, fields)) = read(bytes) else { return };
    let Some(mut head) = head(fields) else { return };
    let found = client(peer, &networks, &head.fields);
    check_client(peer, &networks, &head.fields, found);
    let trusted = is_trusted(peer, &networks);
    assert_eq!(trusted, networks.iter().any(|network| network.contains(peer)));
    if !trusted {
        head.strip_identity(false);
    }
    check_next_hop(peer, networks, &head, trusted, found);
}

fn read(bytes: &[u8]) -> Option<(IpAddr, Vec<Network>, &[u8])> {
    let mut lines = bytes.splitn(3, |&byte| byte == b'\n');
    let peer = str::from_utf8(lines.next()?).ok()?.parse().ok()?;
    let networks = str::from_utf8(lines.next()?).ok()?;
    let networks = networks.split(' ').filter_map(|text| text.parse().ok()).take(8).collect();
    Some((peer, networks, lines.next()?))
}

fn head(fields: &[u8]) -> Option<RequestHead> {
    let bytes = [b"GET / HTTP/1.1\r\nhost: a\r\n", fields, b"\r\n\r\n"].concat();
    let mut head = RequestHead::default();
    head.parse(&bytes, &LIMITS).ok().map(|()| head)
}

/// Told from the outside: the addresses to the right of the client are all trusted, and it is one of them only where nobody
/// further to the left can be read.
fn check_client(peer: IpAddr, networks: &[Network], fields: &Fields, found: IpAddr) {
    let trusted = |address: IpAddr| networks.iter().any(|network| network.contains(address));
    if !trusted(peer) {
        assert_eq!(found, peer, "an untrusted peer was believed");
        return;
    }
    let joined = fields.all_known(Known::XForwardedFor).collect::<Vec<_>>().join(&b","[..]);
    let entries: Vec<&[u8]> = joined.split(|&byte| byte == b',').collect();
    // What an entry may be read as: nothing, or one address that its text contains.
    let mut last = peer;
    for entry in entries.iter().rev() {
        let Some(address) = address(entry) else { break };
        last = address;
        if !trusted(address) {
            break;
        }
    }
    assert_eq!(found, last, "of {}", shown(&joined));
}

/// An address, alone, or in brackets, or with a port; and nothing else.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let port = |text: &str| !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let address: IpAddr = match text.strip_prefix('[') {
        Some(inside) => {
            let (address, behind) = inside.split_once(']')?;
            (behind.is_empty() || behind.strip_prefix(':').is_some_and(port)).then_some(())?;
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((address, behind)) if port(behind) && address.contains('.') => IpAddr::V4(address.parse().ok()?),
            _ => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// A hop that trusts us reads the same client from what we write.
fn check_next_hop(peer: IpAddr, mut networks: Vec<Network>, head: &RequestHead, trusted: bool, found: IpAddr) {
    let lines = RequestLines {
        outward: None,
        host: HostLine::Keep("a"),
        framing: BodyFraming::None,
        identity: &Identity::new(&peer.to_string(), "http", Some(80)),
        trusted,
        request_id: b"",
        upgrade: false,
    };
    let mut bytes = Vec::new();
    write_request(head, &lines, &mut bytes);
    let written = written::read(&bytes);
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-port", "x-forwarded-host"] {
        let count = written.all(name).len();
        assert!(count == 1 || (trusted && count > 0 && name != "x-forwarded-for"), "{count} fields {name}");
    }
    let mut next = RequestHead::default();
    next.parse(&bytes, &WIDE).expect("what we wrote");
    let ours: IpAddr = OURS.parse().expect("an address");
    networks.push(OURS.parse().expect("a network"));
    let untouched = is_trusted(peer, &networks) == trusted;
    if untouched && found != ours {
        assert_eq!(client(ours, &networks, &next.fields), found.to_canonical(), "the next hop sees another client");
    }
}
