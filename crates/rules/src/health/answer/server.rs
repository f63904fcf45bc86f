//! What databases say to whoever connects: enough of it to know that they take clients, and no more.
//!
//! Sources: Redis serialization protocol (redis.io/docs/reference/protocol-spec), PostgreSQL's "Message Formats" and "Error Codes",
//! MySQL's "Protocol::Handshake".

use super::MOST;
use crate::health::Outcome;

/// A server with a protocol of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Redis,
    Postgres,
    MySql,
}

/// The longest line of an answer to `PING`.
const LINE: usize = 1024;
/// The longest name of a server's version.
const VERSION: usize = 256;

impl Server {
    /// How the answer is judged, of which this much has come; `None`: it is not whole yet.
    pub(super) fn judge(self, input: &[u8]) -> Option<Outcome> {
        match self {
            Server::Redis => redis(input),
            Server::Postgres => postgres(input),
            Server::MySql => mysql(input),
        }
    }
}

/// The client's first word to a PostgreSQL server: it would be `user`, of protocol 3.0.
pub(super) fn postgres_startup(user: &str) -> Vec<u8> {
    let words =
        ["user", user, "application_name", "penstock-probe"].map(|word| [word.as_bytes(), &[0]].concat()).concat();
    // Length and version before the words, a zero behind them.
    let length = u32::try_from(4 + 4 + words.len() + 1).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], &words, &[0]].concat()
}

/// One line: `+PONG`, or an error. A server that wants a password first is there for those who have it.
fn redis(input: &[u8]) -> Option<Outcome> {
    let Some(end) = memchr::memchr(b'\n', input) else {
        return (input.len() >= LINE).then_some(Outcome::Reply);
    };
    let line = input.get(..end)?.trim_ascii_end();
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    Some(match word {
        b"+PONG" | b"-NOAUTH" => Outcome::Replied,
        b"-LOADING" | b"-BUSY" | b"-MASTERDOWN" | b"-CLUSTERDOWN" | b"-TRYAGAIN" => Outcome::NotReady,
        _ => Outcome::Reply,
    })
}

/// A question for credentials, or an error with its code. What a client without a password, a role or a database is refused for speaks
/// for the server, as for `pg_isready`; that it starts, stops, or has no place left does not.
fn postgres(input: &[u8]) -> Option<Outcome> {
    let (kind, rest) = input.split_first()?;
    let (length, fields) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    match kind {
        b'R' if (8..=MOST).contains(&length) => Some(Outcome::Replied),
        b'E' if (5..=MOST - 8).contains(&length) => {
            let fields = fields.get(..length - 4)?;
            let code = fields.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
            Some(match code {
                // Insufficient resources, operator intervention.
                Some([b'5', b'3' | b'7', ..]) => Outcome::NotReady,
                Some(code) if code.len() == 5 => Outcome::Replied,
                _ => Outcome::Reply,
            })
        }
        _ => Some(Outcome::Reply),
    }
}

/// A packet with the greeting of protocol 10, or an error: too many connections, or a host that may not connect.
fn mysql(input: &[u8]) -> Option<Outcome> {
    let (header, payload) = input.split_first_chunk::<4>()?;
    let [low, middle, high, number] = *header;
    let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
    if number != 0 || !(3..=MOST - 8).contains(&length) {
        return Some(Outcome::Reply);
    }
    match payload.split_first()? {
        (0xff, _) => Some(Outcome::NotReady),
        (10, version) => {
            let version = version.get(..version.len().min(length - 1).min(VERSION))?;
            match version.iter().position(|byte| !byte.is_ascii_graphic()) {
                Some(end) if end > 0 && version.get(end) == Some(&0) => Some(Outcome::Replied),
                None if version.len() < VERSION && version.len() < length - 1 => None,
                _ => Some(Outcome::Reply),
            }
        }
        _ => Some(Outcome::Reply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How it is judged, which is the same however it is cut: a prefix says the same, or nothing yet.
    fn judged(server: Server, input: &[u8]) -> Option<Outcome> {
        let outcome = server.judge(input);
        for cut in 0..input.len() {
            let early = server.judge(&input[..cut]);
            assert!(early.is_none() || early == outcome, "{cut} of {input:?}: {early:?}");
        }
        outcome
    }

    #[test]
    fn redis_pongs_or_says_why_not() {
        for (line, expected) in [
            (&b"+PONG\r\n"[..], Outcome::Replied),
            (b"-NOAUTH Authentication required.\r\n", Outcome::Replied),
            (b"-LOADING Redis is loading the dataset in memory\r\n", Outcome::NotReady),
            (b"-MASTERDOWN Link with MASTER is down\r\n", Outcome::NotReady),
            (b"-DENIED Redis is running in protected mode\r\n", Outcome::Reply),
            (b"-ERR unknown command\r\n", Outcome::Reply),
            (b"+PONGO\r\n", Outcome::Reply),
            (b"HTTP/1.1 400 Bad Request\r\n", Outcome::Reply),
            (b"\r\n", Outcome::Reply),
        ] {
            assert_eq!(judged(Server::Redis, line), Some(expected), "{}", line.escape_ascii());
        }
        assert_eq!(judged(Server::Redis, &[b'+'; LINE - 1]), None);
        assert_eq!(judged(Server::Redis, &[b'+'; LINE]), Some(Outcome::Reply));
    }

    fn refusal(code: &str) -> Vec<u8> {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
        [&b"E"[..], &(fields.len() as u32 + 4).to_be_bytes(), fields.as_bytes()].concat()
    }

    #[test]
    fn postgres_asks_who_it_is_or_says_why_not() {
        assert_eq!(judged(Server::Postgres, b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"), Some(Outcome::Replied));
        assert_eq!(judged(Server::Postgres, b"R\0\0\0\x08\0\0\0\0"), Some(Outcome::Replied));
        for (code, expected) in [
            ("28000", Outcome::Replied),
            ("28P01", Outcome::Replied),
            ("3D000", Outcome::Replied),
            ("57P03", Outcome::NotReady),
            ("57P01", Outcome::NotReady),
            ("53300", Outcome::NotReady),
            ("5", Outcome::Reply),
        ] {
            assert_eq!(judged(Server::Postgres, &refusal(code)), Some(expected), "{code}");
        }
        for garbage in
            [&b"HTTP/1.1 400"[..], b"R\xff\xff\xff\xff", b"E\0\0\0\x04", b"Ecould not fork", b"R\0\0\0\x07\0\0"]
        {
            assert_eq!(judged(Server::Postgres, garbage), Some(Outcome::Reply), "{}", garbage.escape_ascii());
        }
        assert_eq!(Server::Postgres.judge(b"R\0\0\0"), None);
    }

    #[test]
    fn what_postgres_is_told_has_its_length() {
        let said = postgres_startup("penstock");
        assert_eq!(u32::from_be_bytes(said[..4].try_into().unwrap()) as usize, said.len());
        assert!(said.starts_with(&[0, 0, 0, 55, 0, 3, 0, 0]) && said.ends_with(b"penstock-probe\0\0"), "{said:?}");
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        [&(payload.len() as u32).to_le_bytes()[..3], &[0], payload].concat()
    }

    #[test]
    fn mysql_greets_or_says_why_not() {
        let greeting = packet(b"\x0a8.0.36-Debian\0\x08\0\0\0abcdefgh\0\xff\xff\x08\x02\0");
        assert_eq!(judged(Server::MySql, &greeting), Some(Outcome::Replied));
        assert_eq!(judged(Server::MySql, &packet(b"\xff\x10\x04Too many connections")), Some(Outcome::NotReady));
        for garbage in [
            packet(b"\x0a\0\0\0"),
            packet(b"\x0a8.0\n\0\0"),
            packet(b"\x098.0\0"),
            packet(b"\x0a8.0"),
            packet(&[[10].as_slice(), &[b'8'; 300]].concat()),
            b"HTTP/1.1 400".to_vec(),
            b"\x05\0\0\x01\x0a8.0\0".to_vec(),
        ] {
            assert_eq!(judged(Server::MySql, &garbage), Some(Outcome::Reply), "{}", garbage.escape_ascii());
        }
        assert_eq!(Server::MySql.judge(&greeting[..8]), None);
    }
}
