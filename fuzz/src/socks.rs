//! What clients of SOCKS say: one verdict for every way the bytes can come, bounded; a place that a head can have, and datagrams of which
//! no byte is lost.

use penstock_rules::forward::socks::{
    Command, LONGEST, Socks, destination, read_greeting, read_login, split, tunnel_to, write_header,
};
use penstock_rules::http::RequestHead;

/// Check one input: what a connection begins with, and what a datagram says.
pub fn check(bytes: &[u8]) {
    for version in [Socks::V4, Socks::V5] {
        let whole = version.read_request(bytes);
        for end in 0..bytes.len().min(LONGEST + 1) {
            match version.read_request(&bytes[..end]) {
                Ok(None) => {}
                verdict => assert_eq!(verdict, whole, "the verdict of {end} bytes is taken back"),
            }
        }
        match whole {
            Ok(Some((Command::Connect(place), length))) => {
                assert!(length <= bytes.len().min(LONGEST));
                check_place(&place);
            }
            Ok(Some((Command::Associate, length))) => assert!(length <= bytes.len().min(LONGEST)),
            Ok(None) => assert!(bytes.len() < LONGEST, "more than a request is waited for"),
            Err(_) => {}
        }
    }
    for named in [false, true] {
        if let Ok(Some((_, length))) = read_greeting(bytes, named) {
            assert!(length <= bytes.len());
        }
    }
    if let Ok(Some((_, length))) = read_login(bytes) {
        assert!(length <= bytes.len());
    }
    check_datagram(bytes);
}

fn check_datagram(bytes: &[u8]) {
    let Some((said, payload)) = split(bytes) else { return };
    assert_eq!([&[0, 0, 0], said, payload].concat(), bytes, "a byte is lost");
    let Ok(place) = destination(said) else { return };
    check_place(&place);
    if let Ok(address) = place.parse() {
        let mut written = Vec::new();
        write_header(address, &mut written);
        let (again, rest) = split(&written).expect("what we write is a header");
        let same = destination(again).map(|again| again.parse());
        assert!(rest.is_empty());
        assert!(same.is_ok_and(|same| same.is_ok_and(|same: std::net::SocketAddr| same.port() == address.port())));
    }
}

/// No place can say more than where it is.
fn check_place(place: &str) {
    assert!(!place.bytes().any(|byte| byte.is_ascii_control() || byte == b' '), "{place:?}");
    let mut head = RequestHead::default();
    if tunnel_to(place, None, &mut head).is_ok() {
        assert_eq!(head.method(), "CONNECT");
        assert!(place.ends_with(&format!(":{}", head.place_port())), "{place:?}");
    }
}
