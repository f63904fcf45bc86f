//! How fast connections, or guesses of passwords, come to a listener: of all workers, kept over reloads, and touched only where a rate
//! is limited.

use penstock_plan::Rate as Plan;
use penstock_rules::limit::rate::{Moments, Rate};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Workers that look for different clients seldom meet at the same lock.
const PARTS: usize = 16;
/// Clients that are remembered in each part: 200 000 in all, which take 10 MB. Who is forgotten begins anew.
const MOST: usize = 12_500;

/// The moments ([`Rate::next`]) of a listener and of its clients.
#[derive(Debug)]
pub(crate) struct Pace {
    began: Instant,
    moment: AtomicU64,
    clients: [Mutex<Moments>; PARTS],
    /// Clients choose their addresses: they do not choose who stands beside whom.
    secret: RandomState,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            began: Instant::now(),
            moment: AtomicU64::new(0),
            clients: std::array::from_fn(|_| Mutex::default()),
            secret: RandomState::new(),
        }
    }
}

impl Pace {
    /// Whether one more connection may come.
    pub(super) fn admit(&self, rate: &Plan) -> bool {
        self.admit_at(rate, self.began.elapsed())
    }

    fn admit_at(&self, rate: &Plan, now: Duration) -> bool {
        let rate = Rate::new(rate);
        self.moment.fetch_update(Relaxed, Relaxed, |moment| rate.next(moment, now)).is_ok()
    }

    /// Whether one more of this client may come.
    pub(crate) fn admit_of(&self, rate: &Plan, client: IpAddr) -> bool {
        let (key, mut moments) = self.of(client);
        moments.admit(&Rate::new(rate), key, self.began.elapsed(), MOST)
    }

    /// One of this client that came does not count.
    pub(crate) fn give_back_of(&self, rate: &Plan, client: IpAddr) {
        let (key, mut moments) = self.of(client);
        moments.give_back(&Rate::new(rate), key, self.began.elapsed());
    }

    fn of(&self, client: IpAddr) -> (u64, MutexGuard<'_, Moments>) {
        let key = self.secret.hash_one(client);
        // By the bits that its place in the part is not chosen by.
        let part = &self.clients[(key >> 60) as usize % PARTS];
        (key, part.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_together_take_no_more_than_the_rate() {
        let (pace, rate) = (Pace::default(), Plan { count: 1, per: Duration::from_secs(3600), burst: 250 });
        let admitted = |who: &(dyn Fn() -> bool + Sync)| -> usize {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..100).filter(|_| who()).count())).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            })
        };
        assert_eq!(admitted(&|| pace.admit(&rate)), 250);
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(admitted(&|| pace.admit_of(&rate, client)), 250);
        assert!(pace.admit_of(&rate, "192.0.2.2".parse().unwrap()));
        assert!(pace.admit_at(&rate, Duration::from_secs(3601)) && !pace.admit_at(&rate, Duration::from_secs(3601)));
    }
}
