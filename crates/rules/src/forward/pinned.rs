//! Clients that do not take our certificate for a host, because they know the right one or none of ours: their tunnels to that host stay
//! closed for a while. Who has asked for something behind one takes it: browsers open connections ahead of need and give them up.

use ahash::{AHashMap, RandomState};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Clients and hosts that are remembered: for one more, the one that was noticed first is forgotten.
pub const MOST: usize = 65_536;
/// Clients that only went away without asking for anything are believed to mean it by the third time.
const ENOUGH: u8 = 3;

/// By what a client says that it does not take a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It said so.
    Refused,
    /// It went away without a word, in the handshake or right behind it. Browsers do so, too, now and then.
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
    is: Is,
}

/// What a client is, to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// It went away so many times, fewer than are enough.
    Leaving(u8),
    /// It does not take our certificate.
    Pinned,
    /// It takes it: it has asked for something behind it.
    Trusting,
}

impl Pinned {
    /// Whether tunnels of this client to this host stay closed. `None` is who came over a unix socket.
    pub fn has(&self, client: Option<IpAddr>, host: &str, now: Instant) -> bool {
        self.current(self.key(client, host), now).is_some_and(|noticed| noticed.is == Is::Pinned)
    }

    /// Remember what this client did, for so long; whether its tunnels to this host stay closed from now on, and did not before.
    pub fn notice(&mut self, client: Option<IpAddr>, host: &str, sign: Sign, (now, wait): (Instant, Duration)) -> bool {
        let key = self.key(client, host);
        let is = match (sign, self.current(key, now).map(|noticed| noticed.is)) {
            (Sign::Left, Some(Is::Trusting | Is::Pinned)) => return false,
            (Sign::Left, before) => {
                let before = if let Some(Is::Leaving(times)) = before { times } else { 0 };
                if before + 1 < ENOUGH { Is::Leaving(before + 1) } else { Is::Pinned }
            }
            (Sign::Refused, Some(Is::Pinned)) => return false,
            (Sign::Refused, _) => Is::Pinned,
        };
        self.remember(key, is, (now, wait));
        is == Is::Pinned && !wait.is_zero()
    }

    /// Remember that this client asked for something behind our certificate for this host.
    pub fn trust(&mut self, client: Option<IpAddr>, host: &str, (now, wait): (Instant, Duration)) {
        let key = self.key(client, host);
        let known = self.current(key, now).is_some_and(|noticed| match noticed.is {
            Is::Pinned => true,
            Is::Trusting => now + wait / 2 < noticed.until,
            Is::Leaving(_) => false,
        });
        if !known {
            self.remember(key, Is::Trusting, (now, wait));
        }
    }

    fn current(&self, key: u64, now: Instant) -> Option<&Noticed> {
        self.known.get(&key).filter(|noticed| now < noticed.until)
    }

    fn remember(&mut self, key: u64, is: Is, (now, wait): (Instant, Duration)) {
        if wait.is_zero() {
            return;
        }
        self.noticed += 1;
        let (number, until) = (self.noticed, now + wait);
        self.known.insert(key, Noticed { number, until, is });
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
    fn one_who_leaves_is_believed_by_the_third_time() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        for told in [false, false, true, false] {
            assert_eq!(pinned.notice(None, "a", Sign::Left, (now, HOUR)), told);
            assert!(told || pinned.known.len() == 1);
        }
        assert!(pinned.has(None, "a", now));
        // What is long ago counts no more.
        for _ in 0..2 {
            assert!(!pinned.notice(None, "b", Sign::Left, (now, HOUR)));
        }
        assert!(!pinned.notice(None, "b", Sign::Left, (now + HOUR, HOUR)));
        assert!(!pinned.has(None, "b", now + HOUR));
    }

    #[test]
    fn one_who_asked_for_something_may_leave_as_it_likes() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        for _ in 0..2 {
            pinned.notice(client(1), "a", Sign::Left, (now, HOUR));
        }
        pinned.trust(client(1), "a", (now, HOUR));
        for _ in 0..9 {
            assert!(!pinned.notice(client(1), "a", Sign::Left, (now, HOUR)));
        }
        assert!(!pinned.has(client(1), "a", now));
        // That is known again in good time, and not each time.
        let before = pinned.order.len();
        pinned.trust(client(1), "a", (now + HOUR / 4, HOUR));
        assert_eq!(pinned.order.len(), before);
        pinned.trust(client(1), "a", (now + HOUR * 3 / 4, HOUR));
        for _ in 0..9 {
            assert!(!pinned.notice(client(1), "a", Sign::Left, (now + HOUR, HOUR)));
        }
        // One that says so is believed all the same: it may be another program there.
        assert!(pinned.notice(client(1), "a", Sign::Refused, (now + HOUR, HOUR)));
        pinned.trust(client(1), "a", (now + HOUR, HOUR));
        assert!(pinned.has(client(1), "a", now + HOUR));
    }

    #[test]
    fn nobody_is_remembered_where_that_is_not_wanted() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        assert!(!pinned.notice(None, "a", Sign::Refused, (now, Duration::ZERO)));
        pinned.trust(None, "a", (now, Duration::ZERO));
        assert!(!pinned.has(None, "a", now) && pinned.known.is_empty());
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let (mut pinned, now) = (Pinned::default(), Instant::now());
        for number in 0..3 * MOST {
            pinned.notice(None, &number.to_string(), Sign::Refused, (now, HOUR));
        }
        assert!(pinned.order.len() <= MOST && pinned.known.len() <= MOST);
        assert!(pinned.has(None, &(3 * MOST - 1).to_string(), now));
        assert!(!pinned.has(None, "0", now));
        // Those that have ended go as well.
        pinned.notice(None, "late", Sign::Refused, (now + HOUR, HOUR));
        assert_eq!((pinned.order.len(), pinned.known.len()), (1, 1));
    }
}
