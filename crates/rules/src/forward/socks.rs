//! What clients of SOCKS say (RFC 1928 and the older versions 4 and 4A), read as far as it has come. Whatever is longer than it may be,
//! or cannot become a destination, is told from what is still on its way, so that nobody waits for what never comes.

mod datagram;

pub use datagram::{Destinations, MOST, Way, destination, split, write_granted, write_header};

use crate::http::{HeadLimits, RequestHead, host};
use crate::users::Login;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A version of SOCKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socks {
    /// 4 and 4A.
    V4,
    /// 5.
    V5,
}

/// Bytes of all that is said before a connection is open.
pub const LONGEST: usize = 600;
/// Bytes of a name, and of a user of version 4.
const LONGEST_TEXT: usize = 255;
/// `CONNECT`, in every version, and `UDP ASSOCIATE`, in version 5.
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A tunnel to `host:port`.
    Connect(String),
    /// That its datagrams are passed on. From where it says that they come is not looked at: most do not know.
    Associate,
}

/// Why a client gets no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is not SOCKS, or asks for what no name can be.
    Malformed,
    /// Another command.
    Command,
    /// An address of another kind.
    Kind,
}

/// What was read, and how many bytes it took; `None`: there is more to come.
pub type Read<T> = Result<Option<(T, usize)>, Wrong>;

impl Socks {
    /// The version that a client begins to speak, if it is one.
    pub fn of(first: u8) -> Option<Socks> {
        match first {
            4 => Some(Socks::V4),
            5 => Some(Socks::V5),
            _ => None,
        }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_request(self, input: &[u8]) -> Read<Command> {
        match self {
            Socks::V4 => read_request_v4(input),
            Socks::V5 => read_request_v5(input),
        }
    }

    /// What a client is told whose connection is open.
    pub fn granted(self) -> &'static [u8] {
        match self {
            Socks::V4 => &[0, 0x5a, 0, 0, 0, 0, 0, 0],
            // The address that it is open from is nobody's business.
            Socks::V5 => &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }

    /// What a client is told that gets none, for what HTTP has this status for.
    pub fn refused(self, status: u16) -> &'static [u8] {
        match (self, status) {
            (Socks::V4, _) => &[0, 0x5b, 0, 0, 0, 0, 0, 0],
            (Socks::V5, 502) => &[5, 4, 0, 1, 0, 0, 0, 0, 0, 0],
            (Socks::V5, 504) => &[5, 6, 0, 1, 0, 0, 0, 0, 0, 0],
            (Socks::V5, 500 | 503) => &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0],
            (Socks::V5, _) => &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0],
        }
    }

    /// The same for a request that is none.
    pub fn wrong(self, wrong: Wrong) -> &'static [u8] {
        match (self, wrong) {
            (Socks::V5, Wrong::Command) => &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0],
            (Socks::V5, Wrong::Kind) => &[5, 8, 0, 1, 0, 0, 0, 0, 0, 0],
            (_, Wrong::Malformed) | (Socks::V4, _) => self.refused(500),
        }
    }
}

/// How a client of version 5 proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// It need not.
    None,
    /// By a name and a password (RFC 1929).
    Password,
    /// By nothing that we could see.
    Unknown,
}

impl Method {
    /// The answer to a greeting (RFC 1928 §3).
    pub fn chosen(self) -> &'static [u8] {
        match self {
            Method::None => &[5, 0],
            Method::Password => &[5, 2],
            Method::Unknown => &[5, 0xff],
        }
    }
}

/// How a client of version 5 is to prove who it is, among the ways that it offers (RFC 1928 §3). `named`: it has to have a name.
///
/// # Errors
/// `Malformed` for a greeting without a method.
pub fn read_greeting(input: &[u8], named: bool) -> Read<Method> {
    let [_, count, rest @ ..] = input else { return Ok(None) };
    let count = usize::from(*count);
    if count == 0 {
        return Err(Wrong::Malformed);
    }
    let wanted = if named { (2, Method::Password) } else { (0, Method::None) };
    let choose = |methods: &[u8]| if methods.contains(&wanted.0) { wanted.1 } else { Method::Unknown };
    Ok(rest.get(..count).map(|methods| (choose(methods), 2 + count)))
}

/// A name and a password (RFC 1929 §2); `None` for what can be none.
///
/// # Errors
/// `Malformed` for another version.
pub fn read_login(input: &[u8]) -> Read<Option<Login>> {
    let [version, length, rest @ ..] = input else { return Ok(None) };
    if *version != 1 {
        return Err(Wrong::Malformed);
    }
    let Some((user, [length, rest @ ..])) = rest.split_at_checked(usize::from(*length)) else { return Ok(None) };
    let Some(password) = rest.get(..usize::from(*length)) else { return Ok(None) };
    Ok(Some((Login::new(user, password), 3 + user.len() + password.len())))
}

/// The answer to a name and a password.
pub fn proved(well: bool) -> &'static [u8] {
    if well { &[1, 0] } else { &[1, 1] }
}

fn read_request_v5(input: &[u8]) -> Read<Command> {
    match input {
        [5, ..] | [] => {}
        _ => return Err(Wrong::Malformed),
    }
    let [_, command, _, address @ ..] = input else { return Ok(None) };
    if !matches!(*command, CONNECT | ASSOCIATE) {
        return Err(Wrong::Command);
    }
    let Some(((host, port), length)) = read_address(address)? else { return Ok(None) };
    let asked = if *command == CONNECT { Command::Connect(place(&host, port)?) } else { Command::Associate };
    Ok(Some((asked, 3 + length)))
}

/// A host and a port (RFC 1928 §5).
fn read_address(input: &[u8]) -> Read<(String, u16)> {
    let [kind, rest @ ..] = input else { return Ok(None) };
    let (host, length) = match (kind, rest) {
        (1, [a, b, c, d, ..]) => (Ipv4Addr::new(*a, *b, *c, *d).to_string(), 4),
        (4, rest) => match rest.first_chunk::<16>() {
            Some(bytes) => (format!("[{}]", Ipv6Addr::from(*bytes)), 16),
            None => return Ok(None),
        },
        (3, [length, rest @ ..]) => match rest.get(..usize::from(*length)) {
            Some(bytes) => (name(bytes)?, 1 + usize::from(*length)),
            None => return Ok(None),
        },
        (1 | 3, _) => return Ok(None),
        _ => return Err(Wrong::Kind),
    };
    let Some([high, low, ..]) = rest.get(length..) else { return Ok(None) };
    Ok(Some(((host, u16::from_be_bytes([*high, *low])), 1 + length + 2)))
}

fn read_request_v4(input: &[u8]) -> Read<Command> {
    let [_, command, high, low, a, b, c, d, rest @ ..] = input else { return Ok(None) };
    if *command != CONNECT {
        return Err(Wrong::Command);
    }
    // The user is what the client says of itself, and believed by nobody.
    let Some((_, user)) = text(rest)? else { return Ok(None) };
    let behind = rest.get(user..).unwrap_or_default();
    let (host, length) = match [*a, *b, *c, *d] {
        [0, 0, 0, last] if last > 0 => match text(behind)? {
            Some((bytes, length)) => (name(bytes)?, length),
            None => return Ok(None),
        },
        address => (Ipv4Addr::from(address).to_string(), 0),
    };
    Ok(Some((Command::Connect(place(&host, u16::from_be_bytes([*high, *low]))?), 8 + user + length)))
}

/// A text that ends with a zero, and its bytes with that.
fn text(input: &[u8]) -> Read<&[u8]> {
    match input.iter().take(LONGEST_TEXT + 1).position(|&byte| byte == 0) {
        Some(end) => Ok(Some((input.get(..end).unwrap_or_default(), end + 1))),
        None if input.len() > LONGEST_TEXT => Err(Wrong::Malformed),
        None => Ok(None),
    }
}

/// A name that a host can have; an address of IPv6 may stand here bare.
fn name(bytes: &[u8]) -> Result<String, Wrong> {
    let text = str::from_utf8(bytes).map_err(|_| Wrong::Malformed)?;
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{address}]"));
    }
    let wrong = bytes.iter().any(|byte| matches!(byte, b':' | b'[' | b']'));
    match host::canonical(bytes, &mut [0; host::LONGEST]) {
        Ok(_) if !wrong => Ok(text.to_owned()),
        _ => Err(Wrong::Malformed),
    }
}

fn place(host: &str, port: u16) -> Result<String, Wrong> {
    if port == 0 { Err(Wrong::Malformed) } else { Ok(format!("{host}:{port}")) }
}

/// The request for a tunnel to `place`, as HTTP would have it, of whoever has proved to be this.
///
/// # Errors
/// `Malformed`, where it would not.
pub fn tunnel_to(place: &str, login: Option<&Login>, head: &mut RequestHead) -> Result<(), Wrong> {
    let login = login.map(|login| format!("proxy-authorization: {}\r\n", login.write())).unwrap_or_default();
    let text = format!("CONNECT {place} HTTP/1.1\r\nhost: {place}\r\n{login}\r\n");
    let limits = HeadLimits { bytes: 2048, fields: 10, uri: 1024, elsewhere: true };
    head.parse(text.as_bytes(), &limits).map_err(|_| Wrong::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v5(kind: u8, host: &[u8], port: u16) -> Vec<u8> {
        [&[5, 1, 0, kind][..], host, &port.to_be_bytes()].concat()
    }

    #[test]
    fn destinations_are_read_in_every_form() {
        for (version, said, place) in [
            (Socks::V5, v5(1, &[192, 0, 2, 1], 443), "192.0.2.1:443"),
            (Socks::V5, v5(3, b"\x09a.example", 80), "a.example:80"),
            (Socks::V5, v5(3, b"\x03::1", 80), "[::1]:80"),
            (Socks::V5, v5(4, &Ipv6Addr::LOCALHOST.octets(), 443), "[::1]:443"),
            (Socks::V4, b"\x04\x01\x01\xbb\xc0\x00\x02\x01me\0".to_vec(), "192.0.2.1:443"),
            (Socks::V4, b"\x04\x01\x01\xbb\0\0\0\x01\0a.example\0".to_vec(), "a.example:443"),
        ] {
            // However it comes, it is read once all of it is there.
            for end in 0..said.len() {
                assert_eq!(version.read_request(&said[..end]), Ok(None), "{place} {end}");
            }
            let more = [&said[..], b"more"].concat();
            assert_eq!(version.read_request(&more), Ok(Some((Command::Connect(place.to_owned()), said.len()))));
            let mut head = RequestHead::default();
            tunnel_to(place, None, &mut head).unwrap();
            assert_eq!(head.port(), place.rsplit(':').next().and_then(|port| port.parse().ok()));
        }
    }

    #[test]
    fn an_association_is_asked_for_from_nowhere_in_particular() {
        for said in [&b"\x05\x03\0\x01\0\0\0\0\0\0"[..], b"\x05\x03\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x10\x00"] {
            assert!((0..said.len()).all(|end| Socks::V5.read_request(&said[..end]) == Ok(None)));
            assert_eq!(Socks::V5.read_request(said), Ok(Some((Command::Associate, said.len()))));
        }
        assert_eq!(Socks::V4.read_request(b"\x04\x03\0\x35\x01\x01\x01\x01\0"), Err(Wrong::Command));
    }

    #[test]
    fn who_has_to_have_a_name_is_asked_for_it() {
        let (both, one) = (b"\x05\x02\x00\x02x", b"\x05\x01\x02");
        assert_eq!(read_greeting(both, false), Ok(Some((Method::None, 4))));
        assert_eq!(read_greeting(both, true), Ok(Some((Method::Password, 4))));
        assert_eq!(read_greeting(one, false), Ok(Some((Method::Unknown, 3))));
        assert_eq!(read_greeting(b"\x05\x01\x00", true), Ok(Some((Method::Unknown, 3))));
        assert_eq!(read_greeting(b"\x05\x02\x00", false), Ok(None));
        let said = b"\x01\x03ada\x06secret";
        assert!((0..said.len()).all(|end| matches!(read_login(&said[..end]), Ok(None))));
        let Ok(Some((Some(login), 12))) = read_login(b"\x01\x03ada\x06secretmore") else { panic!("it is one") };
        assert_eq!((&*login.user, &*login.password), ("ada", &b"secret"[..]));
        let mut head = RequestHead::default();
        tunnel_to("a.example:443", Some(&login), &mut head).unwrap();
        assert!(Login::take(&mut head.fields).flatten().is_some_and(|taken| taken.user == login.user));
        assert!(matches!(read_login(b"\x01\x00\x01x"), Ok(Some((None, 4)))));
        assert!(matches!(read_login(b"\x05\x03ada"), Err(Wrong::Malformed)));
    }

    #[test]
    fn what_is_wrong_is_known_at_once() {
        assert_eq!(read_greeting(b"\x05\x00", false), Err(Wrong::Malformed));
        for (version, said, wrong) in [
            (Socks::V5, b"\x05\x02\x00\x01".to_vec(), Wrong::Command),
            (Socks::V5, b"\x05\x01\x00\x05".to_vec(), Wrong::Kind),
            (Socks::V5, b"\x04\x01\x00\x01".to_vec(), Wrong::Malformed),
            (Socks::V5, v5(3, b"\x00", 80), Wrong::Malformed),
            (Socks::V5, v5(3, b"\x05a\0b.c", 80), Wrong::Malformed),
            (Socks::V5, v5(3, b"\x06a.c:25", 80), Wrong::Malformed),
            (Socks::V5, v5(3, b"\x07a\r\nb: c", 80), Wrong::Malformed),
            (Socks::V5, v5(1, &[1, 1, 1, 1], 0), Wrong::Malformed),
            (Socks::V4, b"\x04\x02\x01\xbb\x01\x01\x01\x01\0".to_vec(), Wrong::Command),
            (Socks::V4, [&b"\x04\x01\x01\xbb\x01\x01\x01\x01"[..], &[b'a'; 256]].concat(), Wrong::Malformed),
        ] {
            assert_eq!(version.read_request(&said), Err(wrong), "{said:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_a_verdict(said: Vec<u8>) {
            let _ = (read_greeting(&said, true), read_login(&said).is_ok());
            for version in [Socks::V4, Socks::V5] {
                if let Ok(Some((asked, length))) = version.read_request(&said) {
                    prop_assert!(length <= said.len());
                    let Command::Connect(place) = asked else { continue };
                    prop_assert!(!place.contains(['\r', '\n', '\0', ' ']));
                }
                if said.len() >= LONGEST {
                    prop_assert!(version.read_request(&said) != Ok(None));
                }
            }
        }
    }
}
