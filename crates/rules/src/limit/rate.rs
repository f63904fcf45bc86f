//! How many of something may begin in a time: the generic cell rate algorithm (ITU-T I.371), which keeps one moment for each that is
//! limited: when what it has had so far would have come, had it come evenly.

use crate::affinity::table::{Bonds, Tenths};
use penstock_plan::Rate as Plan;
use std::time::Duration;

/// A rate with a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// From one to the next, in nanoseconds.
    pause: u64,
    /// How far ahead of an even pace one may be, in nanoseconds.
    ahead: u64,
}

impl Rate {
    /// Of a plan.
    pub fn new(plan: &Plan) -> Rate {
        let pause = nanoseconds(plan.per) / u64::from(plan.count.max(1));
        Rate { pause, ahead: pause.saturating_mul(u64::from(plan.burst.saturating_sub(1))) }
    }

    /// Whether one more may begin `now`, of something whose moment this is: then its next one. Both count from the same beginning; 0 is
    /// the moment of what was not seen yet.
    pub fn next(&self, moment: u64, now: Duration) -> Option<u64> {
        let now = nanoseconds(now);
        let from = moment.max(now);
        (from - now <= self.ahead).then(|| from.saturating_add(self.pause))
    }

    /// How long a moment counts, in tenths of a second: one that is older is as good as none.
    fn memory(&self) -> Tenths {
        Tenths::try_from(self.ahead.saturating_add(self.pause) / 100_000_000)
            .map_or(Tenths::MAX, |tenths| tenths.saturating_add(1))
    }
}

/// The moments of many, up to a number: of more, the one that was not seen for longest is forgotten.
#[derive(Debug, Default)]
pub struct Moments(Bonds);

impl Moments {
    /// Whether one more of this key may begin `now`. Keys are to be hashed with a secret; `most` is at least 1.
    pub fn admit(&mut self, rate: &Rate, key: u64, now: Duration, most: usize) -> bool {
        let (tenths, memory) = (Tenths::try_from(now.as_millis() / 100).unwrap_or(Tenths::MAX), rate.memory());
        self.0.expire(tenths, memory, 2);
        let before = self.0.see(key, tenths, memory);
        let Some(next) = rate.next(before.unwrap_or(0), now) else { return false };
        if before.is_none() && self.0.len() >= most {
            self.0.evict();
        }
        self.0.bind(key, before, next, tenths);
        true
    }

    /// One of this key that was admitted does not count.
    pub fn give_back(&mut self, rate: &Rate, key: u64, now: Duration) {
        let tenths = Tenths::try_from(now.as_millis() / 100).unwrap_or(Tenths::MAX);
        if let Some(moment) = self.0.see(key, tenths, rate.memory()) {
            self.0.bind(key, Some(moment), moment.saturating_sub(rate.pause), tenths);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(count: u32, seconds: u64, burst: u32) -> Rate {
        Rate::new(&Plan { count, per: Duration::from_secs(seconds), burst })
    }

    /// How many of those that come at these moments, in milliseconds, are admitted.
    fn admitted(rate: Rate, moments: impl Iterator<Item = u64>) -> usize {
        let mut moment = 0;
        moments
            .filter(|at| match rate.next(moment, Duration::from_millis(*at)) {
                Some(next) => {
                    moment = next;
                    true
                }
                None => false,
            })
            .count()
    }

    #[test]
    fn a_burst_passes_and_then_an_even_flow() {
        assert_eq!(admitted(rate(10, 1, 10), std::iter::repeat_n(0, 50)), 10);
        assert_eq!(admitted(rate(10, 1, 1), std::iter::repeat_n(0, 50)), 1);
        assert_eq!(admitted(rate(10, 1, 10), (0..10_000).step_by(100)), 100);
        // A flood of a thousand a second for ten seconds.
        assert_eq!(admitted(rate(10, 1, 5), 0..10_000), 5 + 99);
        // What was not used is not saved up beyond the burst.
        let pause = std::iter::once(0).chain(std::iter::repeat_n(3_600_000, 50));
        assert_eq!(admitted(rate(30, 60, 3), pause), 1 + 3);
        assert_eq!(admitted(rate(u32::MAX, 1, u32::MAX), std::iter::repeat_n(0, 500)), 500);
        assert_eq!(admitted(rate(1, 86_400, 1), [0, 86_399_999, 86_400_000].into_iter()), 2);
    }

    #[test]
    fn each_client_has_its_own_and_floods_of_others_take_no_more_memory() {
        let (rate, mut moments) = (rate(1, 10, 2), Moments::default());
        let mut admit = |key: u64, second: u64| moments.admit(&rate, key, Duration::from_secs(second), 1000);
        assert_eq!([1, 1, 1, 2, 2, 2].map(|key| admit(key, 0)), [true, true, false, true, true, false]);
        assert_eq!([9, 10, 11, 30, 30, 30].map(|second| admit(1, second)), [false, true, false, true, true, false]);
        (100..1_000_000).for_each(|key| assert!(admit(key, 31)));
        assert!(moments.len() == 1000);
        // Who is full again is forgotten.
        assert!(moments.admit(&rate, 1, Duration::from_secs(60), 1000) && moments.len() < 1000);
        let admitted = (0..2000).filter(|_| moments.admit(&rate, 1, Duration::from_secs(61), 1000)).count();
        assert_eq!((admitted, moments.len(), moments.is_empty()), (1, 1, false));
    }

    #[test]
    fn what_is_given_back_does_not_count() {
        let (rate, mut moments) = (rate(1, 3600, 2), Moments::default());
        let now = Duration::from_secs(5);
        moments.give_back(&rate, 1, now);
        for _ in 0..100 {
            assert!(moments.admit(&rate, 1, now, 10));
            moments.give_back(&rate, 1, now);
        }
        assert_eq!([(); 3].map(|()| moments.admit(&rate, 1, now, 10)), [true, true, false]);
        moments.give_back(&rate, 1, now);
        assert_eq!([(); 2].map(|()| moments.admit(&rate, 1, now, 10)), [true, false]);
    }
}
