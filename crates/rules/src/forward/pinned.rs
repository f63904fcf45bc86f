//! Clients that do not take our certificate for a host, because they know the right one or none of ours: their tunnels to that host stay
//! closed for a while.

use ahash::{AHashMap, RandomState};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Clients and hosts that are remembered: for one more, the one that was noticed first is forgotten.
pub const MOST: usize = 16_384;
/// Clients that only went away without asking for anything are believed to mean it by the second time.
const ENOUGH: u8 = 2;

/// By what a client says that it does not take a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It said so, or broke off the handshake.
    Refused,
    /// It shook hands and went away at once. Browsers do so, too, now and then.
    Left,
}

/// The clients of one listener, and the hosts.
#[derive(Debug, Default)]
pub struct Pinned {
    /// Seeded: clients choose what is hashed.
    hasher: RandomState,
    known: AHashMap<u64, Noticed>,
    /// In the order in which they end, as long as they all last as long.
    order: VecDeque<(u64, u64)>,
    noticed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Noticed {
    /// One is noticed again under another.
    number: u64,
    until: Instant,
    signs: u8,
}

impl Pinned {
    /// Whether tunnels of this client to this host stay closed. `None` is who came over a unix socket.
    pub fn has(&self, client: Option<IpAddr>, host: &str, now: Instant) -> bool {
        let noticed = self.known.get(&self.key(client, host));
        noticed.is_some_and(|noticed| noticed.signs >= ENOUGH && now < noticed.until)
    }

    /// Remember what this client did, for so long; whether its tunnels to this host stay closed from now on, and did not before.
    pub fn notice(&mut self, client: Option<IpAddr>, host: &str, sign: Sign, (now, wait): (Instant, Duration)) -> bool {
        if wait.is_zero() {
            return false;
        }
        let key = self.key(client, host);
        let before = self.known.get(&key).filter(|noticed| now < noticed.until).map_or(0, |noticed| noticed.signs);
        let signs = if sign == Sign::Refused { ENOUGH } else { (before + 1).min(ENOUGH) };
        self.noticed += 1;
        let (number, until) = (self.noticed, now + wait);
        self.known.insert(key, Noticed { number, until, signs });
        self.order.push_back((key, number));
        while let Some((key, number)) = self.order.front().copied() {
            // One that was noticed again stands further behind, too.
            let current = self.known.get(&key).filter(|noticed| noticed.number == number);
            let lasts = current.is_some_and(|noticed| now < noticed.until);
            if lasts && self.order.len() <= MOST {
                break;
            }
            if current.is_some() {
                self.known.remove(&key);
            }
            self.order.pop_front();
        }
        signs >= ENOUGH && before < ENOUGH
    }

    fn key(&self, client: Option<IpAddr>, host: &str) -> u64 {
        self.hasher.hash_one((client.map(|client| client.to_canonical()), host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn client(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn one_who_refuses_is_believed_at_once_and_for_a_while() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        assert!(!pinned.has(client(1), "a", now));
        assert!(pinned.notice(client(1), "a", Sign::Refused, (now, HOUR)));
        assert!(pinned.has(client(1), "a", now));
        assert!(!pinned.has(client(2), "a", now) && !pinned.has(client(1), "b", now) && !pinned.has(None, "a", now));
        assert!(!pinned.notice(client(1), "a", Sign::Refused, (now, HOUR)), "it is told once");
        assert!(pinned.has(Some("::ffff:192.0.2.1".parse().unwrap()), "a", now));
        assert!(!pinned.has(client(1), "a", now + HOUR));
        assert!(pinned.notice(client(1), "a", Sign::Refused, (now + HOUR, HOUR)));
    }

    #[test]
    fn one_who_leaves_is_believed_by_the_second_time() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        assert!(!pinned.notice(None, "a", Sign::Left, (now, HOUR)));
        assert!(!pinned.has(None, "a", now));
        assert!(pinned.notice(None, "a", Sign::Left, (now, HOUR)));
        assert!(pinned.has(None, "a", now));
        // What is long ago counts no more.
        assert!(!pinned.notice(None, "b", Sign::Left, (now, HOUR)));
        assert!(!pinned.notice(None, "b", Sign::Left, (now + HOUR, HOUR)));
    }

    #[test]
    fn nobody_is_remembered_where_that_is_not_wanted() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        assert!(!pinned.notice(None, "a", Sign::Refused, (now, Duration::ZERO)));
        assert!(!pinned.has(None, "a", now) && pinned.known.is_empty());
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        for number in 0..3 * MOST {
            pinned.notice(None, &number.to_string(), Sign::Refused, (now, HOUR));
            pinned.notice(None, "again", Sign::Refused, (now, HOUR));
        }
        assert!(pinned.order.len() <= MOST && pinned.known.len() <= MOST);
        assert!(pinned.has(None, "again", now) && pinned.has(None, &(3 * MOST - 1).to_string(), now));
        assert!(!pinned.has(None, "0", now));
        // Those that have ended go as well.
        pinned.notice(None, "late", Sign::Refused, (now + HOUR, HOUR));
        assert_eq!((pinned.order.len(), pinned.known.len()), (1, 1));
    }
}
