//! Least rates: a peer that sends or takes a body drop by drop holds a connection for as long as it likes (safety.md 113).

use std::time::Duration;

/// Bytes a second that must be reached.
#[derive(Clone, Copy, Debug)]
pub struct LeastRate {
    /// 0: no minimum.
    pub bytes: u32,
    /// Nothing is judged that did not take longer than this.
    pub grace: Duration,
}

impl LeastRate {
    /// No minimum.
    pub const NONE: LeastRate = LeastRate { bytes: 0, grace: Duration::MAX };

    /// Whether `bytes` in so long a `wait` are too few.
    pub fn is_missed(self, bytes: u64, wait: Duration) -> bool {
        let due = u128::from(self.bytes) * wait.as_millis();
        self.bytes > 0 && wait > self.grace && u128::from(bytes) * 1000 < due
    }
}

/// How fast a receiver takes what is written to it. Only time in which there was something to write and no room for it counts,
/// so that nobody is blamed for a sender that is slow, or silent. What counts is what the receiver took, not what went into
/// buffers on the way, of which there may be megabytes.
///
/// Time is whatever the caller counts from; it never goes back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Bytes the receiver had taken when this stretch of waiting began.
    mark: Option<u64>,
    /// Time waited in it, without the wait that lasts.
    waited: Duration,
    /// Since when there is no room.
    since: Option<Duration>,
}

/// The receiver was slower than the least rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSlow;

impl Pace {
    /// There is no room at `now`: when to look again. `taken` tells how many bytes the receiver took in all; it is asked at
    /// most once in a grace.
    ///
    /// # Errors
    /// The receiver took too little in the time it was waited for.
    pub fn wait(&mut self, rate: LeastRate, now: Duration, taken: impl FnOnce() -> u64) -> Result<Duration, TooSlow> {
        if rate.bytes == 0 {
            return Ok(Duration::MAX);
        }
        let since = *self.since.get_or_insert(now);
        let waited = self.waited + now.saturating_sub(since);
        match self.mark {
            // Most waits are over at once, and cost no question.
            None if waited.is_zero() => return Ok(now),
            Some(_) if waited <= rate.grace => return Ok(now.saturating_add(rate.grace - waited)),
            _ => {}
        }
        let taken = taken();
        if self.mark.is_some_and(|mark| rate.is_missed(taken.saturating_sub(mark), waited)) {
            return Err(TooSlow);
        }
        // Each stretch is judged by itself: a fast beginning does not excuse what follows.
        *self = Pace { mark: Some(taken), waited: Duration::ZERO, since: Some(now) };
        Ok(now.saturating_add(rate.grace))
    }

    /// There is room again.
    pub fn go_on(&mut self, now: Duration) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_sub(since);
        }
    }

    /// Whether room is waited for.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: LeastRate = LeastRate { bytes: 500, grace: Duration::from_secs(10) };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_rate_is_judged_after_its_grace() {
        assert!(!RATE.is_missed(0, seconds(10)));
        assert!(RATE.is_missed(0, seconds(11)));
        assert!(RATE.is_missed(5499, seconds(11)) && !RATE.is_missed(5500, seconds(11)));
        assert!(!LeastRate { bytes: 0, ..RATE }.is_missed(0, seconds(1 << 40)));
        assert!(!LeastRate::NONE.is_missed(0, Duration::MAX));
    }

    #[test]
    fn who_takes_nothing_is_too_slow_after_the_grace() {
        let mut pace = Pace::default();
        let none = || 70_000;
        assert_eq!(pace.wait(RATE, seconds(100), || panic!("asked too soon")), Ok(seconds(100)));
        assert_eq!(pace.wait(RATE, seconds(101), none), Ok(seconds(111)));
        assert_eq!(pace.wait(RATE, seconds(105), || panic!("asked too often")), Ok(seconds(111)));
        assert_eq!(pace.wait(RATE, seconds(111), none), Ok(seconds(111)));
        assert_eq!(pace.wait(RATE, seconds(112), none), Err(TooSlow));
        assert_eq!(Pace::default().wait(LeastRate::NONE, seconds(1), none), Ok(Duration::MAX));
    }

    #[test]
    fn time_without_anything_to_write_does_not_count() {
        let mut pace = Pace::default();
        for round in 0..100 {
            let now = seconds(round * 1000);
            // 9 s without room, then 991 s in which the sender has nothing.
            assert!(pace.wait(RATE, now, || round * 9 * 500).is_ok());
            assert!(pace.wait(RATE, now + seconds(8), || round * 9 * 500).is_ok());
            assert!(pace.is_waiting());
            pace.go_on(now + seconds(9));
            assert!(!pace.is_waiting());
        }
    }

    #[test]
    fn stretches_are_added_up_and_a_fast_beginning_excuses_nothing() {
        let mut pace = Pace::default();
        let (mut now, mut taken) = (seconds(0), 1 << 30);
        let outcome = (0..100).find_map(|_| {
            let outcome = pace.wait(RATE, now, || taken).and_then(|_| pace.wait(RATE, now + seconds(1), || taken));
            now += seconds(4);
            taken += 400;
            pace.go_on(now);
            outcome.err().map(|_| now)
        });
        // Marked after the first second; 3, 7, then 11 s of waiting and 1200 bytes, seen a second into the fourth wait.
        assert_eq!(outcome, Some(seconds(16)));
        let mut pace = Pace::default();
        assert!((0..1000u64).all(|second| pace.wait(RATE, seconds(second), || second * 600).is_ok()));
    }
}
