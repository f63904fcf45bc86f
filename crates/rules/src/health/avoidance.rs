//! The passive rule for endpoints that cannot be connected to.

use std::time::{Duration, Instant};

/// An endpoint that refused a connection is avoided for a while: 1 s, and twice as long each time it fails again, up to 30 s.
/// Avoided is weaker than down: where no other endpoint is usable, it is still tried ([`crate::balance::Loads::avoided`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Avoidance {
    current: Option<Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Instant,
    length: Duration,
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

impl Avoidance {
    /// A connection could not be made.
    pub fn failed(&mut self, now: Instant) {
        let length = match self.current {
            // Requests that were under way together fail together: that is one failure.
            Some(wait) if now < wait.until => return,
            Some(wait) => (wait.length * 2).min(LONGEST),
            None => SHORTEST,
        };
        self.current = Some(Wait { until: now + length, length });
    }

    /// A connection was made.
    #[inline]
    pub fn succeeded(&mut self) {
        self.current = None;
    }

    /// Whether another endpoint is to be preferred.
    #[inline]
    pub fn is_active(&self, now: Instant) -> bool {
        self.current.is_some_and(|wait| now < wait.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_until_a_success() {
        let (mut now, mut avoidance) = (Instant::now(), Avoidance::default());
        assert!(!avoidance.is_active(now));
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            avoidance.failed(now);
            // A second failure in the same wait changes nothing.
            avoidance.failed(now + Duration::from_millis(10));
            assert!(avoidance.is_active(now + Duration::from_secs(seconds) - Duration::from_millis(1)));
            now += Duration::from_secs(seconds);
            assert!(!avoidance.is_active(now));
        }
        avoidance.succeeded();
        avoidance.failed(now);
        assert!(!avoidance.is_active(now + Duration::from_secs(1)));
    }
}
