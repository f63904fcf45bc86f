//! What a parent is asked for a way to an origin: bytes in, bytes out. Never one byte more is heard than belongs to its answers: what
//! stands behind them is the origin's.

use super::socks::proved;
use crate::users::Login;
use penstock_plan::ParentProtocol;
use std::net::{IpAddr, SocketAddr};

/// A proxy behind which origins are reached.
pub struct Parent {
    protocol: ParentProtocol,
    login: Option<Login>,
    authorization: Option<String>,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes are heard, and no more.
    Hear(usize),
    /// This is said, and then heard on.
    Say(Vec<u8>),
    /// The way is open.
    Open,
}

/// Why there is none, for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

/// One way that is asked for.
pub struct Asking<'p> {
    parent: &'p Parent,
    host: &'p str,
    port: u16,
    step: Step,
    heard: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The head that answers a `CONNECT`.
    Head,
    /// Which way to prove who we are (RFC 1928 §3).
    Method,
    /// Whether that was proved (RFC 1929 §2).
    Login,
    /// Whether the way is open (RFC 1928 §6).
    Reply,
    /// The rest of that: an address, which is of no interest.
    Address,
}

/// The shortest head that answers a `CONNECT`.
const SHORTEST_HEAD: usize = b"HTTP/1.1 200\r\n\r\n".len();
const LONGEST_HEAD: usize = 16 << 10;

impl Parent {
    /// Who we are there is said by `login`.
    pub fn new(protocol: ParentProtocol, login: Option<Login>) -> Parent {
        let authorization = login.as_ref().map(Login::write);
        Parent { protocol, login, authorization }
    }

    /// Whether requests are sent to it as they are, with the whole URL; otherwise it is only asked for ways.
    pub fn takes_requests(&self) -> bool {
        self.protocol == ParentProtocol::Http
    }

    /// The value of `Proxy-Authorization` there.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Ask for a way to `host`, an address of IPv6 in brackets; what is said first. `via`: what we are called in `Via`.
    pub fn ask<'p>(&'p self, host: &'p str, port: u16, via: Option<&str>) -> (Asking<'p>, Vec<u8>) {
        let (step, said) = match (self.protocol, &self.login) {
            (ParentProtocol::Http, _) => (Step::Head, self.connect(host, port, via)),
            (ParentProtocol::Socks5, None) => (Step::Method, vec![5, 1, 0]),
            (ParentProtocol::Socks5, Some(_)) => (Step::Method, vec![5, 2, 0, 2]),
        };
        (Asking { parent: self, host, port, step, heard: Vec::new() }, said)
    }

    fn connect(&self, host: &str, port: u16, via: Option<&str>) -> Vec<u8> {
        let line =
            |name: &str, value: Option<&str>| value.map(|value| format!("{name}: {value}\r\n")).unwrap_or_default();
        let proof = line("proxy-authorization", self.authorization());
        let via = line("via", via.map(|name| format!("1.1 {name}")).as_deref());
        format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n{proof}{via}\r\n").into_bytes()
    }
}

impl Asking<'_> {
    /// What comes next, once `bytes` came, as many as were to be heard or fewer; at first none.
    ///
    /// # Errors
    /// Why there is no way.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<Next, Refused> {
        self.heard.extend_from_slice(bytes);
        match self.missing() {
            0 => {
                let heard = std::mem::take(&mut self.heard);
                self.judge(&heard)
            }
            missing => Ok(Next::Hear(missing)),
        }
    }

    /// Bytes that must come still: fewer than there may be, never more.
    fn missing(&self) -> usize {
        let (heard, length) = (&self.heard[..], self.heard.len());
        let whole: usize = match (self.step, heard) {
            (Step::Head, _) if length < SHORTEST_HEAD => SHORTEST_HEAD,
            (Step::Head, [.., b'\r', b'\n', b'\r', b'\n']) => length,
            (Step::Head, [.., b'\r', b'\n', b'\r']) => length + 1,
            (Step::Head, [.., b'\r', b'\n']) => length + 2,
            (Step::Head, [.., b'\r']) => length + 3,
            (Step::Head, _) if length >= LONGEST_HEAD => length,
            (Step::Head, _) => length + 4,
            (Step::Method | Step::Login, _) => 2,
            // Version, reply, nothing, kind of address, and one byte at least of that.
            (Step::Reply, _) => 5,
            (Step::Address, [_, _, _, 1, ..]) => 4 + 4 + 2,
            (Step::Address, [_, _, _, 4, ..]) => 4 + 16 + 2,
            (Step::Address, [_, _, _, 3, name, ..]) => 4 + 1 + usize::from(*name) + 2,
            (Step::Address, _) => length,
        };
        whole.saturating_sub(length)
    }

    fn judge(&mut self, heard: &[u8]) -> Result<Next, Refused> {
        match (self.step, heard) {
            (Step::Head, _) => judge_head(heard),
            (Step::Method, [5, 0]) => Ok(self.go_on(Step::Reply, self.request())),
            (Step::Method, [5, 2]) => match &self.parent.login {
                Some(login) => {
                    let said = say(login);
                    Ok(self.go_on(Step::Login, said))
                }
                None => Err(Refused("it wants a name and a password".into())),
            },
            (Step::Method, [5, 0xff]) => Err(Refused("it takes none of the ways to prove who we are".into())),
            (Step::Login, heard) if heard == proved(true) => Ok(self.go_on(Step::Reply, self.request())),
            (Step::Login, [1, _]) => Err(Refused("it does not take the name and the password".into())),
            (Step::Reply, [5, 0, _, 1 | 3 | 4, _]) => {
                (self.step, self.heard) = (Step::Address, heard.to_vec());
                Ok(Next::Hear(self.missing()))
            }
            (Step::Reply, [5, reply, ..]) if *reply > 0 => {
                Err(Refused(format!("it answered {reply}: {}", meaning(*reply))))
            }
            (Step::Address, _) => Ok(Next::Open),
            _ => Err(Refused("its answer is no SOCKS 5".into())),
        }
    }

    fn go_on(&mut self, step: Step, said: Vec<u8>) -> Next {
        self.step = step;
        Next::Say(said)
    }

    /// `CONNECT` (RFC 1928 §4). A name is left to the parent to ask for.
    fn request(&self) -> Vec<u8> {
        let literal = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(self.host);
        let mut said = vec![5, 1, 0];
        match literal.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => said.extend([&[1][..], &address.octets()].concat()),
            Ok(IpAddr::V6(address)) => said.extend([&[4][..], &address.octets()].concat()),
            // No host is longer than that.
            Err(_) => {
                let name = self.host.as_bytes().get(..255).unwrap_or(self.host.as_bytes());
                said.extend([&[3, name.len() as u8][..], name].concat());
            }
        }
        said.extend(self.port.to_be_bytes());
        said
    }
}

/// A name and a password (RFC 1929 §2); neither is longer than a byte can say.
fn say(login: &Login) -> Vec<u8> {
    let part = |text: &[u8]| [&[text.len() as u8][..], text].concat();
    [vec![1], part(login.user.as_bytes()), part(&login.password)].concat()
}

fn judge_head(head: &[u8]) -> Result<Next, Refused> {
    let status = match head {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..] => status.get(..3),
        _ => None,
    };
    let status = status.and_then(|status| str::from_utf8(status).ok()?.parse::<u16>().ok());
    match status {
        _ if !head.ends_with(b"\r\n\r\n") => Err(Refused("its answer has no end".into())),
        Some(200..300) => Ok(Next::Open),
        Some(status) => Err(Refused(format!("it answered {status}"))),
        None => Err(Refused("its answer is no HTTP".into())),
    }
}

/// What a reply says (RFC 1928 §6).
fn meaning(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "not allowed",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "unknown",
    }
}

/// Where a name leads that no other machine is asked for: to that machine itself (RFC 6761 §6.3). A parent would go to itself.
pub fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// The address that a host is, if it is one.
pub fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().ok().map(|address: IpAddr| SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn login() -> Option<Login> {
        Login::new(b"us", b"a:b")
    }

    /// What is said to a parent that answers with these, and what comes of it. Whatever stands behind its last answer is not heard.
    fn talk(parent: &Parent, host: &str, answers: &[&[u8]], behind: &[u8]) -> (Vec<Vec<u8>>, Result<Next, Refused>) {
        let (mut asking, first) = parent.ask(host, 443, Some("penstock-1"));
        let mut said = vec![first];
        let all = [&answers.concat()[..], behind].concat();
        let (mut at, mut next) = (0, asking.hear(b""));
        loop {
            match next {
                Ok(Next::Hear(count)) => {
                    let Some(bytes) = all.get(at..at + count) else { return (said, Ok(Next::Hear(count))) };
                    at += count;
                    next = asking.hear(bytes);
                }
                Ok(Next::Say(more)) => {
                    said.push(more);
                    next = asking.hear(b"");
                }
                Ok(Next::Open) => {
                    assert_eq!(&all[at..], behind);
                    return (said, Ok(Next::Open));
                }
                Err(refused) => return (said, Err(refused)),
            }
        }
    }

    #[test]
    fn a_parent_of_http_is_asked_for_a_tunnel() {
        let parent = Parent::new(ParentProtocol::Http, login());
        for answer in ["HTTP/1.1 200\r\n\r\n", "HTTP/1.0 200 Connection established\r\nVia: 1.1 x\r\nA:\r\n\r\n"] {
            let (said, outcome) = talk(&parent, "a.example", &[answer.as_bytes()], b"SSH-2.0-x\r\n");
            assert_eq!(outcome, Ok(Next::Open));
            let wanted = "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\
                          proxy-authorization: Basic dXM6YTpi\r\nvia: 1.1 penstock-1\r\n\r\n";
            assert_eq!(said, [wanted.as_bytes()]);
        }
        let plain = Parent::new(ParentProtocol::Http, None);
        let (_, said) = plain.ask("[::1]", 80, None);
        assert_eq!(said, b"CONNECT [::1]:80 HTTP/1.1\r\nhost: [::1]:80\r\n\r\n");
        for (answer, reason) in [
            ("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", "it answered 407"),
            ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\n", "it answered 502"),
            ("SSH-2.0-OpenSSH and more\r\n\r\n", "its answer is no HTTP"),
        ] {
            let (_, outcome) = talk(&plain, "a.example", &[answer.as_bytes()], b"");
            assert_eq!(outcome, Err(Refused(reason.into())), "{answer}");
        }
        let endless = [b"HTTP/1.1 200 ", &[b'a'; LONGEST_HEAD][..]].concat();
        assert_eq!(talk(&plain, "a", &[&endless], b"").1, Err(Refused("its answer has no end".into())));
    }

    #[test]
    fn a_parent_of_socks_is_asked_by_name_or_address() {
        let (named, anybody) =
            (Parent::new(ParentProtocol::Socks5, login()), Parent::new(ParentProtocol::Socks5, None));
        let granted: &[&[u8]] = &[b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00", b"\x05\x00\x00\x03\x02ab\x00\x50"];
        for answer in [granted[0], granted[1], &[&b"\x05\x00\x00\x04"[..], &[0; 18]].concat()] {
            let (said, outcome) = talk(&anybody, "a.example", &[b"\x05\x00", answer], b"hello");
            assert_eq!(outcome, Ok(Next::Open));
            assert_eq!(said, [&b"\x05\x01\x00"[..], b"\x05\x01\x00\x03\x09a.example\x01\xbb"]);
        }
        let (said, outcome) = talk(&named, "192.0.2.1", &[b"\x05\x02", b"\x01\x00", granted[0]], b"");
        assert_eq!(outcome, Ok(Next::Open));
        let wanted = [&b"\x05\x02\x00\x02"[..], b"\x01\x02us\x03a:b", b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"];
        assert_eq!(said, wanted);
        let (said, _) = talk(&anybody, "[::1]", &[b"\x05\x00"], b"");
        assert_eq!(said[1], [&b"\x05\x01\x00\x04"[..], &[0; 15], b"\x01\x01\xbb"].concat());
        for (parent, answers, reason) in [
            (&anybody, &[&b"\x05\x02"[..]][..], "it wants a name and a password"),
            (&named, &[b"\x05\xff"], "it takes none of the ways to prove who we are"),
            (&named, &[b"\x05\x02", b"\x01\x01"], "it does not take the name and the password"),
            (&named, &[b"\x05\x00", b"\x05\x02\x00\x01\x00"], "it answered 2: not allowed"),
            (&named, &[b"\x04\x00"], "its answer is no SOCKS 5"),
            (&named, &[b"\x05\x00", b"\x05\x00\x00\x07\x00"], "its answer is no SOCKS 5"),
            (&named, &[b"HTTP/1.1 400"], "its answer is no SOCKS 5"),
        ] {
            assert_eq!(talk(parent, "a.example", answers, b"").1, Err(Refused(reason.into())));
        }
    }

    #[test]
    fn literals_are_known_and_so_is_this_machine() {
        assert_eq!(literal("[::1]", 80), "[::1]:80".parse().ok());
        assert_eq!(literal("192.0.2.1", 80), "192.0.2.1:80".parse().ok());
        assert_eq!(literal("a.example", 80), None);
        assert!(is_localhost("localhost") && is_localhost("a.localhost") && !is_localhost("notlocalhost"));
    }

    proptest! {
        #[test]
        fn any_answer_gets_a_verdict(answer: Vec<u8>, socks: bool) {
            let parent = Parent::new(if socks { ParentProtocol::Socks5 } else { ParentProtocol::Http }, login());
            let _ = talk(&parent, "a.example", &[&answer], b"");
        }
    }
}
