//! Datagrams of SOCKS 5 (RFC 1928 §7): what stands before each, and where those of one association go.

use super::{Wrong, read_address};
use std::net::{IpAddr, SocketAddr};

/// Destinations of one association: of more, those that were used least recently and not for a while give way.
pub const MOST: usize = 64;

/// A datagram of a client, apart: the destination as it is said there, and what is to go to it. `None` for one that is to be dropped: of
/// another form, or a part of one (we put none together, which §7 leaves to us).
pub fn split(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let [0, 0, 0, behind @ ..] = datagram else { return None };
    let length = match behind {
        [1, ..] => 1 + 4 + 2,
        [3, length, ..] => 2 + usize::from(*length) + 2,
        [4, ..] => 1 + 16 + 2,
        _ => return None,
    };
    behind.split_at_checked(length)
}

/// The destination that is said so, as `host:port`.
///
/// # Errors
/// What is wrong with it.
pub fn destination(said: &[u8]) -> Result<String, Wrong> {
    match read_address(said)? {
        Some(((host, port), length)) if length == said.len() => super::place(&host, port),
        _ => Err(Wrong::Malformed),
    }
}

/// What stands before a datagram that came from there.
pub fn write_header(from: SocketAddr, to: &mut Vec<u8>) {
    to.extend_from_slice(&[0, 0, 0]);
    write_address(from, to);
}

/// What a client is told whose datagrams are awaited there.
pub fn write_granted(own: SocketAddr, to: &mut Vec<u8>) {
    to.extend_from_slice(&[5, 0, 0]);
    write_address(own, to);
}

fn write_address(address: SocketAddr, to: &mut Vec<u8>) {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            to.push(1);
            to.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            to.push(4);
            to.extend_from_slice(&ip.octets());
        }
    }
    to.extend_from_slice(&address.port().to_be_bytes());
}

/// What becomes of datagrams to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They go there.
    Open(SocketAddr),
    /// They are dropped.
    Closed,
    /// Its address is asked for.
    Asking,
}

/// Destinations of one association, by how they are said. Times are in whatever unit the caller counts.
#[derive(Debug, Default)]
pub struct Destinations(Vec<Destination>);

#[derive(Debug)]
struct Destination {
    said: Box<[u8]>,
    way: Way,
    used: u64,
    /// Since when it is so.
    since: u64,
}

impl Destinations {
    /// What was decided of this destination; `None`: it is to be decided, anew where it was closed for `hold`.
    pub fn find(&mut self, said: &[u8], now: u64, hold: u64) -> Option<Way> {
        let known = self.0.iter_mut().find(|one| *one.said == *said)?;
        known.used = now;
        (known.way != Way::Closed || now < known.since.saturating_add(hold)).then_some(known.way)
    }

    /// Decide; false where there is no room: all others were used within `hold`.
    pub fn put(&mut self, said: &[u8], way: Way, now: u64, hold: u64) -> bool {
        if let Some(known) = self.0.iter_mut().find(|one| *one.said == *said) {
            (known.way, known.since) = (way, now);
            return true;
        }
        if self.0.len() >= MOST {
            let idle = |one: &Destination| one.way != Way::Asking && one.used.saturating_add(hold) <= now;
            let oldest = self.0.iter().enumerate().filter(|(_, one)| idle(one)).min_by_key(|(_, one)| one.used);
            let Some((at, _)) = oldest else { return false };
            self.0.swap_remove(at);
        }
        self.0.push(Destination { said: said.into(), way, used: now, since: now });
        true
    }

    /// Whether datagrams went there: who else sends some is nobody to this client.
    pub fn has(&self, from: SocketAddr) -> bool {
        let from = (from.ip().to_canonical(), from.port());
        self.0.iter().any(|one| matches!(one.way, Way::Open(to) if (to.ip().to_canonical(), to.port()) == from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_read_in_every_form() {
        for (said, place) in [
            (&b"\x01\xc0\x00\x02\x01\x00\x35"[..], "192.0.2.1:53"),
            (b"\x03\x09a.example\x00\x35", "a.example:53"),
            (b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb", "[::1]:443"),
        ] {
            let datagram = [b"\0\0\0", said, b"hello"].concat();
            assert_eq!(split(&datagram), Some((said, &b"hello"[..])), "{place}");
            assert_eq!(destination(said), Ok(place.to_owned()));
            for end in 0..3 + said.len() {
                assert_eq!(split(&datagram[..end]), None, "{place} {end}");
            }
            assert_eq!(split(&datagram[..3 + said.len()]), Some((said, &b""[..])));
        }
    }

    #[test]
    fn what_is_wrong_is_dropped() {
        for datagram in [
            &b"\0\0\x01\x01\xc0\x00\x02\x01\x00\x35part"[..],
            b"\x01\0\0\x01\xc0\x00\x02\x01\x00\x35reserved",
            b"\0\0\0\x02\xc0\x00\x02\x01\x00\x35kind",
            b"",
        ] {
            assert_eq!(split(datagram), None);
        }
        for said in [
            &b"\x03\x00\x00\x35"[..],
            b"\x03\x03a\0b\x00\x35",
            b"\x01\xc0\x00\x02\x01\x00\x00",
            b"\x03\x04a:53\x00\x35",
        ] {
            assert!(destination(said).is_err(), "{said:?}");
        }
    }

    #[test]
    fn what_is_written_reads_the_same() {
        for (from, place) in [
            ("192.0.2.1:53", "192.0.2.1:53"),
            ("[::ffff:192.0.2.1]:53", "192.0.2.1:53"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            let mut datagram = Vec::new();
            write_header(from.parse().unwrap(), &mut datagram);
            let (said, rest) = split(&datagram).unwrap();
            assert_eq!((destination(said).as_deref(), rest), (Ok(place), &b""[..]));
        }
        let mut granted = Vec::new();
        write_granted("127.0.0.1:1080".parse().unwrap(), &mut granted);
        assert_eq!(granted, b"\x05\0\0\x01\x7f\0\0\x01\x04\x38");
    }

    #[test]
    fn destinations_are_few_and_closed_ones_are_asked_again() {
        let (mut destinations, to) = (Destinations::default(), "192.0.2.1:53".parse().unwrap());
        assert_eq!(destinations.find(b"a", 0, 10), None);
        assert!(destinations.put(b"a", Way::Asking, 0, 10) && destinations.put(b"a", Way::Open(to), 1, 10));
        assert!(destinations.put(b"b", Way::Closed, 1, 10));
        assert_eq!(destinations.find(b"b", 10, 10), Some(Way::Closed));
        assert_eq!(destinations.find(b"b", 11, 10), None);
        assert_eq!(destinations.find(b"a", 50, 10), Some(Way::Open(to)));
        assert!(destinations.has(to) && !destinations.has("192.0.2.1:54".parse().unwrap()));
        for more in 2..MOST {
            assert!(destinations.put(&[0, more as u8], Way::Closed, 50, 10), "{more}");
        }
        assert!(!destinations.put(b"c", Way::Closed, 20, 10), "nothing is idle");
        assert!(destinations.put(b"c", Way::Closed, 50, 10), "b is");
        assert_eq!(destinations.find(b"a", 50, 10), Some(Way::Open(to)));
        assert!(!destinations.put(b"d", Way::Closed, 55, 10));
    }

    proptest! {
        #[test]
        fn any_datagram_gets_a_verdict(datagram: Vec<u8>) {
            if let Some((said, rest)) = split(&datagram) {
                prop_assert_eq!(said.len() + rest.len() + 3, datagram.len());
                if let Ok(place) = destination(said) {
                    prop_assert!(!place.contains(['\r', '\n', '\0', ' ']));
                }
            }
        }
    }
}
