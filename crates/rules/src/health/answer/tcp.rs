//! A word over a bare connection.

use super::MOST;
use super::server::{Server, postgres_startup};
use crate::health::Outcome;
use penstock_plan::TcpProbe;

/// What is said over a connection, and what must come back.
#[derive(Debug)]
pub struct TcpQuestion {
    send: Box<[u8]>,
    expect: Expected,
}

/// What must come back.
#[derive(Debug)]
enum Expected {
    /// Nothing is waited for.
    Nothing,
    /// These bytes, somewhere.
    Words(Box<[u8]>),
    /// What such a server says.
    Word(Server),
}

/// What came back so far.
#[derive(Debug)]
pub struct TcpAnswer<'a> {
    expect: &'a Expected,
    input: Vec<u8>,
}

impl TcpQuestion {
    pub(super) fn new(plan: &TcpProbe) -> TcpQuestion {
        let expect = match &*plan.expect {
            [] => Expected::Nothing,
            words => Expected::Words(words.into()),
        };
        TcpQuestion { send: plan.send.as_slice().into(), expect }
    }

    pub(super) fn redis() -> TcpQuestion {
        TcpQuestion { send: b"*1\r\n$4\r\nPING\r\n".as_slice().into(), expect: Expected::Word(Server::Redis) }
    }

    pub(super) fn postgres(user: &str) -> TcpQuestion {
        TcpQuestion { send: postgres_startup(user).into(), expect: Expected::Word(Server::Postgres) }
    }

    pub(super) fn mysql() -> TcpQuestion {
        TcpQuestion { send: Box::default(), expect: Expected::Word(Server::MySql) }
    }

    /// The bytes to send; may be none.
    pub fn request(&self) -> &[u8] {
        &self.send
    }

    /// Where to put what comes back; `None` if nothing is waited for.
    pub fn answer(&self) -> Option<TcpAnswer<'_>> {
        match &self.expect {
            Expected::Nothing => None,
            expect => Some(TcpAnswer { expect, input: Vec::new() }),
        }
    }
}

impl TcpAnswer<'_> {
    /// Take in more bytes; the outcome, once there is one.
    pub fn take(&mut self, bytes: &[u8]) -> Option<Outcome> {
        let before = self.input.len();
        self.input.extend_from_slice(bytes.get(..MOST - before.min(MOST)).unwrap_or(bytes));
        let outcome = match self.expect {
            Expected::Nothing => None,
            Expected::Words(words) => {
                // What was searched before can only be the beginning of a match.
                let new = self.input.get(before.saturating_sub(words.len())..).unwrap_or_default();
                memchr::memmem::find(new, words).map(|_| Outcome::Replied)
            }
            Expected::Word(server) => server.judge(&self.input),
        };
        outcome.or_else(|| (self.input.len() >= MOST).then_some(Outcome::TooLong))
    }

    /// The endpoint closed.
    pub fn end(&self) -> Outcome {
        if self.input.is_empty() { Outcome::BadResponse } else { Outcome::Reply }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(expect: &[u8]) -> TcpQuestion {
        TcpQuestion::new(&TcpProbe { send: b"PING\r\n".to_vec(), expect: expect.to_vec() })
    }

    #[test]
    fn the_expected_words_are_found_however_they_are_cut() {
        let question = question(b"+PONG");
        let reply = b"noise +PO +PONG\r\n";
        for cut in 0..reply.len() {
            let mut answer = question.answer().unwrap();
            let first = answer.take(&reply[..cut]);
            let outcome = first.or_else(|| answer.take(&reply[cut..]));
            assert_eq!(outcome, Some(Outcome::Replied), "cut at {cut}");
        }
    }

    #[test]
    fn other_words_silence_and_floods_are_named() {
        let question = question(b"+PONG");
        let mut answer = question.answer().unwrap();
        assert_eq!(answer.end(), Outcome::BadResponse);
        assert_eq!(answer.take(b"-ERR\r\n"), None);
        assert_eq!(answer.end(), Outcome::Reply);
        let mut flood = question.answer().unwrap();
        let outcome = (0..1000).find_map(|_| flood.take(&[b'x'; 4096]));
        assert_eq!((outcome, flood.input.len()), (Some(Outcome::TooLong), MOST));
        assert!(super::tests::question(b"").answer().is_none());
    }
}
