//! Whether and when a request is sent once more.

use crate::error::Retry;
use penstock_plan::Retry as Rules;
use std::time::Duration;

/// Connections may be tried so much oftener than a request is sent: one that could not be made cost the endpoint nothing.
const MORE_CONNECTIONS: u32 = 1;

/// The attempts of one request.
#[derive(Debug)]
pub struct Retries<'a> {
    rules: &'a Rules,
    idempotent: bool,
    made: u32,
    /// Of those, the ones that were sent and then repeated.
    repeated: u32,
}

impl Retries<'_> {
    /// No attempt yet. `idempotent`: the method may be repeated (RFC 9110 §9.2.2).
    pub fn new(rules: &Rules, idempotent: bool) -> Retries<'_> {
        Retries { rules, idempotent, made: 0, repeated: 0 }
    }

    /// An attempt failed; whether there is one more.
    pub fn again(&mut self, retry: Retry) -> bool {
        self.made += 1;
        let attempts = u32::from(self.rules.attempts);
        if attempts == 0 || self.made > attempts + MORE_CONNECTIONS {
            return false;
        }
        match retry {
            Retry::Never => false,
            Retry::Always => true,
            // A request that breaks whoever answers it must not break them all.
            Retry::Idempotent if self.may_repeat() => {
                self.repeated += 1;
                true
            }
            Retry::Idempotent => false,
        }
    }

    /// Whether an answer of this status is a reason to ask another endpoint.
    pub fn is_reason(&self, status: u16) -> bool {
        self.may_repeat()
            && self.made < u32::from(self.rules.attempts) + MORE_CONNECTIONS
            && self.rules.on.contains(&status)
    }

    /// How long to wait before the request is sent again: at least the shortest pause and at most twice as much with each time, up to the
    /// longest. `random` is uniform over all its values.
    pub fn pause(&self, random: u64) -> Duration {
        let Rules { least_pause, most_pause, .. } = *self.rules;
        let longest = least_pause.saturating_mul(1 << self.repeated.min(16)).min(most_pause).max(least_pause);
        least_pause + (longest - least_pause).mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Whether a request that was sent may be sent again.
    pub fn may_repeat(&self) -> bool {
        self.idempotent && self.repeated < u32::from(self.rules.attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(attempts: u8) -> Rules {
        Rules {
            attempts,
            per_try_timeout: None,
            on: vec![503],
            least_pause: Duration::from_millis(25),
            most_pause: Duration::from_millis(250),
            buffer: 65536,
        }
    }

    fn attempts(rules: &Rules, idempotent: bool, failures: &[Retry]) -> Vec<bool> {
        let mut retries = Retries::new(rules, idempotent);
        failures.iter().map(|failure| retries.again(*failure)).collect()
    }

    #[test]
    fn what_was_sent_is_sent_once_more_and_what_was_not_twice() {
        use Retry::{Always, Idempotent, Never};
        let one = rules(1);
        assert_eq!(attempts(&one, true, &[Idempotent, Idempotent]), [true, false]);
        assert_eq!(attempts(&one, false, &[Idempotent]), [false]);
        assert_eq!(attempts(&one, true, &[Never]), [false]);
        for idempotent in [true, false] {
            assert_eq!(attempts(&one, idempotent, &[Always, Always, Always]), [true, true, false]);
        }
        assert_eq!(attempts(&one, true, &[Always, Idempotent, Always]), [true, true, false]);
        assert_eq!(attempts(&rules(3), true, &[Idempotent; 4]), [true, true, true, false]);
        for failure in [Always, Idempotent] {
            assert_eq!(attempts(&rules(0), true, &[failure]), [false]);
        }
    }

    #[test]
    fn a_status_is_a_reason_only_while_the_request_may_be_repeated() {
        let one = rules(1);
        let mut retries = Retries::new(&one, true);
        assert!(retries.is_reason(503) && !retries.is_reason(500));
        assert!(retries.again(Retry::Idempotent));
        assert!(!retries.is_reason(503));
        assert!(!Retries::new(&one, false).is_reason(503));
        assert!(!Retries::new(&rules(0), true).is_reason(503));
    }

    #[test]
    fn pauses_grow_to_the_longest() {
        let many = rules(10);
        let mut retries = Retries::new(&many, true);
        for longest in [50, 100, 200, 250, 250] {
            assert!(retries.again(Retry::Idempotent));
            assert_eq!(retries.pause(0), Duration::from_millis(25));
            let most = retries.pause(u64::MAX).as_secs_f64();
            assert!((most - f64::from(longest) / 1000.0).abs() < 1e-6, "{most}");
        }
    }
}
