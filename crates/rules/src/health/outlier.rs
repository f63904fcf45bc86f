//! The passive rule: an endpoint that fails again and again is ejected for a while, by what its requests say.
//!
//! | state | event | then |
//! |---|---|---|
//! | in | failure | ejected, if it is the `failures`-th in a row `within` the time |
//! | in | success | the failures are forgotten |
//! | ejected | failure, success | nothing: they began before |
//! | ejected | its time is over | on trial |
//! | on trial | failure | ejected again, for twice as long, up to `most` |
//! | on trial | success | in; the next ejection is still twice as long, unless a quiet time passes first |
//!
//! The quiet time is as long as the last ejection was, at least `within`.

use crate::error::Kind;
use penstock_plan::Outlier as Rules;
use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// What all workers together have seen fail at one endpoint.
#[derive(Clone, Debug, Default)]
pub struct Outlier {
    /// Failures since the last success, the oldest first, as many as decide.
    failures: VecDeque<Instant>,
    last: Option<Ejection>,
    /// Nothing came back from it since the last ejection.
    on_trial: bool,
    /// When the last trial ended well.
    back: Option<Instant>,
    ejections: u64,
}

/// For how long an endpoint gets no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Its end.
    pub until: Instant,
    /// Its length.
    pub length: Duration,
}

/// What speaks against an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A request failed by the endpoint's fault.
    Failure(Kind),
    /// It answered with a status of 500 and above.
    Status(u16),
    /// It answers far more slowly than the others.
    Slow,
}

impl fmt::Display for Cause {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Failure(kind) => write!(to, "requests failed, the last by {}", kind.word()),
            Cause::Status(status) => write!(to, "requests failed, the last with status {status}"),
            Cause::Slow => to.write_str("far slower than the others"),
        }
    }
}

impl Outlier {
    /// A request failed; whether the endpoint is to be ejected, if [`may_eject`] allows it.
    pub fn failed(&mut self, rules: &Rules, now: Instant) -> bool {
        if self.is_ejected(now) {
            return false;
        }
        self.failures.push_back(now);
        while let Some(first) = self.failures.front()
            && (now.saturating_duration_since(*first) > rules.within
                || self.failures.len() > usize::from(rules.failures))
        {
            self.failures.pop_front();
        }
        self.on_trial || self.failures.len() >= usize::from(rules.failures)
    }

    /// A request went well.
    pub fn succeeded(&mut self, now: Instant) {
        if !self.is_ejected(now) {
            self.failures.clear();
            if std::mem::take(&mut self.on_trial) {
                self.back = Some(now);
            }
        }
    }

    /// Whether a success would change anything. As long as none would, workers need not tell of theirs.
    pub fn is_suspect(&self) -> bool {
        self.on_trial || !self.failures.is_empty()
    }

    /// Whether nothing went well since the last ejection, which may still last.
    pub fn is_on_trial(&self) -> bool {
        self.on_trial
    }

    /// For how long it has been back from its last ejection: not at all while it is out or on trial; `None` if it never was.
    pub fn back_for(&self, now: Instant) -> Option<Duration> {
        self.last.map(|_| self.back.map_or(Duration::ZERO, |back| now.saturating_duration_since(back)))
    }

    /// Eject it.
    pub fn eject(&mut self, rules: &Rules, now: Instant) -> Ejection {
        let length = match self.last {
            Some(last) if now < last.until + last.length.max(rules.within) => (last.length * 2).min(rules.most),
            _ => rules.eject,
        };
        let ejection = Ejection { until: now + length, length };
        *self = Outlier {
            failures: VecDeque::new(),
            last: Some(ejection),
            on_trial: true,
            back: None,
            ejections: self.ejections.saturating_add(1),
        };
        ejection
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections
    }

    /// Failures in a row that count.
    pub fn failures(&self) -> usize {
        self.failures.len()
    }

    fn is_ejected(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last.until)
    }
}

/// Whether one more of `total` endpoints may be ejected, where `ejected` are and `usable` take requests: never more than the
/// share, and never the last one.
pub fn may_eject(rules: &Rules, total: usize, ejected: usize, usable: usize) -> bool {
    usable > 1 && (ejected + 1) * 100 <= total * usize::from(rules.share_percent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules {
        failures: 5,
        within: Duration::from_secs(10),
        eject: Duration::from_secs(30),
        most: Duration::from_secs(300),
        share_percent: 50,
        latency: None,
    };

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn only_failures_in_a_row_and_near_each_other_count() {
        let start = Instant::now();
        let mut outlier = Outlier::default();
        let fail = |outlier: &mut Outlier, at: f64| outlier.failed(&RULES, start + seconds(at));
        assert!((0..4).all(|at| !fail(&mut outlier, f64::from(at))));
        outlier.succeeded(start + seconds(4.0));
        assert!(!outlier.is_suspect());
        assert!((5..9).all(|at| !fail(&mut outlier, f64::from(at))));
        // Those at 5 and 6 lie too far back.
        assert!(!fail(&mut outlier, 16.5));
        assert!(!fail(&mut outlier, 16.6));
        assert!(fail(&mut outlier, 16.7));
    }

    #[test]
    fn ejections_double_to_the_most_and_begin_anew_after_a_quiet_time() {
        let mut now = Instant::now();
        let mut outlier = Outlier::default();
        for length in [30, 60, 120, 240, 300, 300] {
            let ejection = outlier.eject(&RULES, now);
            assert_eq!(ejection.length, Duration::from_secs(length));
            // What was under way changes nothing.
            assert!(!outlier.failed(&RULES, now + seconds(1.0)));
            outlier.succeeded(now + seconds(1.0));
            now = ejection.until;
            // The first failure after it is back.
            assert!(outlier.failed(&RULES, now));
        }
        // A success ends the trial: five failures are needed again, but the next is still longer ...
        outlier.succeeded(now);
        assert!((0..4).all(|_| !outlier.failed(&RULES, now)) && outlier.failed(&RULES, now));
        assert_eq!(outlier.clone().eject(&RULES, now + seconds(299.0)).length, Duration::from_secs(300));
        // ... until it was quiet for as long as it was out.
        assert_eq!(outlier.eject(&RULES, now + seconds(300.0)).length, Duration::from_secs(30));
        assert_eq!(outlier.ejections(), 7);
    }

    #[test]
    fn it_is_back_from_the_first_success_on_trial_on() {
        let now = Instant::now();
        let mut outlier = Outlier::default();
        outlier.succeeded(now);
        assert_eq!(outlier.back_for(now), None);
        outlier.eject(&RULES, now);
        let back = now + seconds(31.0);
        assert_eq!(outlier.back_for(back), Some(Duration::ZERO));
        outlier.succeeded(back);
        outlier.succeeded(back + seconds(2.0));
        assert_eq!(outlier.back_for(back + seconds(3.0)), Some(seconds(3.0)));
        outlier.eject(&RULES, back + seconds(3.0));
        assert_eq!(outlier.back_for(back + seconds(60.0)), Some(Duration::ZERO));
    }

    #[test]
    fn neither_the_last_nor_more_than_the_share() {
        assert!(may_eject(&RULES, 3, 0, 3));
        assert!(!may_eject(&RULES, 3, 1, 2));
        assert!(may_eject(&RULES, 2, 0, 2));
        // The other one is down by its probes.
        assert!(!may_eject(&RULES, 2, 0, 1));
        assert!(!may_eject(&RULES, 1, 0, 1));
        let all = Rules { share_percent: 100, ..RULES };
        assert!(may_eject(&all, 3, 1, 2) && !may_eject(&all, 3, 2, 1));
    }

    proptest! {
        #[test]
        fn an_endpoint_that_answers_now_and_then_stays(steps in proptest::collection::vec((0u64..3000, 1usize..5), 1..100)) {
            let (mut now, mut outlier) = (Instant::now(), Outlier::default());
            for (wait, failures) in steps {
                now += Duration::from_millis(wait);
                outlier.succeeded(now);
                prop_assert!((0..failures).all(|_| !outlier.failed(&RULES, now)));
            }
        }
    }
}
