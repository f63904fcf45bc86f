//! The passive rule for endpoints that cannot be connected to.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// An endpoint that refused a connection is avoided for a while: 250 ms, and twice as long each time it fails again, up to 30 s. So one
/// worker alone sees the five failures in ten seconds that eject it ([`super::Outlier`]); once it is, ejection decides.
/// Avoided is weaker than down: where no other endpoint is usable, it is still tried ([`crate::balance::Loads::avoided`]).
///
/// A cell: one worker's view of one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Avoidance {
    current: Cell<Option<Wait>>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Instant,
    length: Duration,
}

const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

impl Avoidance {
    /// A connection could not be made.
    pub fn failed(&self, now: Instant) {
        let length = match self.current.get() {
            // Requests that were under way together fail together: that is one failure.
            Some(wait) if now < wait.until => return,
            Some(wait) => (wait.length * 2).min(LONGEST),
            None => SHORTEST,
        };
        self.current.set(Some(Wait { until: now + length, length }));
    }

    /// A connection was made.
    #[inline]
    pub fn succeeded(&self) {
        self.current.set(None);
    }

    /// Whether another endpoint is to be preferred.
    #[inline]
    pub fn avoids(&self, now: Instant) -> bool {
        self.current.get().is_some_and(|wait| now < wait.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_a_success() {
        let (mut now, avoidance) = (Instant::now(), Avoidance::default());
        assert!(!avoidance.avoids(now));
        for wait in [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].map(Duration::from_millis) {
            avoidance.failed(now);
            // A second failure in the same wait changes nothing.
            avoidance.failed(now + Duration::from_millis(10));
            assert!(avoidance.avoids(now + wait - Duration::from_millis(1)));
            now += wait;
            assert!(!avoidance.avoids(now));
        }
        avoidance.succeeded();
        avoidance.failed(now);
        assert!(!avoidance.avoids(now + SHORTEST));
    }
}
