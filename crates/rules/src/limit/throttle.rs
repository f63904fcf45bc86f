//! Bytes that may pass at so many a second.

use std::time::Duration;

/// What is not used is kept for so long: as much comes at once after a pause.
const KEPT: Duration = Duration::from_millis(200);
const SECOND: u128 = 1_000_000_000;

/// One direction of something that is throttled.
#[derive(Clone, Copy, Debug)]
pub struct Throttle {
    /// Bytes a second.
    rate: u64,
    left: u64,
    /// What was earned until then is counted.
    at: Duration,
}

impl Throttle {
    /// From `now` on; times count from the same beginning.
    pub fn new(rate: u64, now: Duration) -> Throttle {
        Throttle { rate: rate.max(1), left: 0, at: now.saturating_sub(KEPT) }
    }

    /// Bytes that may pass now.
    pub fn left(&mut self, now: Duration) -> u64 {
        self.at = self.at.max(now.saturating_sub(KEPT));
        let passed = now.saturating_sub(self.at).as_nanos();
        let earned = u64::try_from(passed * u128::from(self.rate) / SECOND).unwrap_or(u64::MAX);
        // Parts of a byte are earned further.
        let counted = (u128::from(earned) * SECOND).div_ceil(u128::from(self.rate));
        self.at += Duration::from_nanos(u64::try_from(counted).unwrap_or(u64::MAX));
        let most = u64::try_from(KEPT.as_nanos() * u128::from(self.rate) / SECOND).unwrap_or(u64::MAX).max(1);
        self.left = self.left.saturating_add(earned).min(most);
        self.left
    }

    /// So many have passed.
    pub fn take(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that pass in so many milliseconds, looked at so often.
    fn passed(rate: u64, milliseconds: u64, every: usize) -> u64 {
        let begin = Duration::from_secs(7);
        let mut throttle = Throttle::new(rate, begin);
        let moments = (0..=milliseconds).step_by(every).map(|at| begin + Duration::from_millis(at));
        let mut all = 0;
        for now in moments {
            let left = throttle.left(now);
            throttle.take(left);
            all += left;
        }
        all
    }

    #[test]
    fn no_more_passes_than_may_and_no_less() {
        for rate in [1024, 333_333, 1 << 20, 10 << 30] {
            for every in [1, 7, 50, 100] {
                let most = rate * 102 / 10;
                let all = passed(rate, 10_000, every);
                assert!((rate * 10..=most).contains(&all), "{rate} {every}: {all}");
            }
            // What is not used is not saved up.
            assert!(passed(rate, 10_000, 5000) <= rate * 3 / 5 + 3);
        }
        let mut throttle = Throttle::new(u64::MAX, Duration::ZERO);
        assert!(throttle.left(Duration::from_secs(1)) > 1 << 60);
        let mut slow = Throttle::new(0, Duration::ZERO);
        assert_eq!(slow.left(Duration::from_millis(100)), 0);
    }
}
