//! What probes say about an endpoint.

use super::Outcome;
use penstock_plan::{HealthCheck, Start};
use std::time::{Duration, Instant};

/// Whether an endpoint may take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may. What was never probed is not known to be down.
    Up,
    /// It may not, unless all are down.
    Down,
    /// It never passed a probe and must, before its first request ([`Start::Down`]).
    Starting,
}

/// The state of one endpoint, moved by the outcomes of its probes.
///
/// | state | outcome | then |
/// |---|---|---|
/// | up | success | the failures so far are forgotten |
/// | up | failure | down, if it is the `fall`-th in a row |
/// | down | failure | the successes so far are forgotten |
/// | down | success | up, if it is the `rise`-th in a row |
/// | starting | success | up |
/// | starting | failure | nothing: it has nothing to lose yet |
#[derive(Clone, Copy, Debug)]
pub struct Health {
    state: State,
    since: Instant,
    /// Outcomes in a row that speak against the state.
    against: u8,
    /// What brought the state about; `None` if nothing did yet.
    reason: Option<Outcome>,
    last: Option<Probed>,
    failures: u32,
}

/// The last probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probed {
    /// When it ended.
    pub at: Instant,
    /// How.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// A change of state, to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new state.
    pub state: State,
    /// The outcome that decided.
    pub reason: Outcome,
}

impl Health {
    /// Not probed yet.
    pub fn new(start: Start, now: Instant) -> Health {
        let state = match start {
            Start::Up => State::Up,
            Start::Down => State::Starting,
        };
        Health { state, since: now, against: 0, reason: None, last: None, failures: 0 }
    }

    /// Take in a probe; the change of state, if it makes one. `fall` and `rise` of 0 count as 1.
    pub fn observe(&mut self, probed: Probed, fall: u8, rise: u8) -> Option<Change> {
        let Probed { outcome, at, .. } = probed;
        self.last = Some(probed);
        self.failures = if outcome.is_success() { 0 } else { self.failures.saturating_add(1) };
        let (needed, other) = match self.state {
            State::Up => (fall, State::Down),
            State::Down => (rise, State::Up),
            State::Starting => (1, State::Up),
        };
        if outcome.is_success() != (other == State::Up) {
            self.against = 0;
            if self.reason.is_none() && self.state == State::Up {
                self.reason = Some(outcome);
            }
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        (self.state, self.since, self.against, self.reason) = (other, at, 0, Some(outcome));
        Some(Change { state: other, reason: outcome })
    }

    /// Whether requests may be sent.
    pub fn state(&self) -> State {
        self.state
    }

    /// When the state began.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The outcome that brought the state about; `None` as long as none did.
    pub fn reason(&self) -> Option<Outcome> {
        self.reason
    }

    /// The last probe; `None` before the first.
    pub fn last(&self) -> Option<Probed> {
        self.last
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// When to probe.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: Duration,
}

/// Part of the interval that a probe may come early or late.
const JITTER: f64 = 0.1;

impl Schedule {
    /// The schedule that a health check asks for.
    pub fn new(check: &HealthCheck) -> Schedule {
        Schedule { interval: check.interval }
    }

    /// How long to wait before the first probe: up to a tenth of the interval, so that endpoints are not probed all at once
    /// and a dead one is known soon. `random` is uniform over all its values.
    pub fn first(&self, random: u64) -> Duration {
        self.interval.mul_f64(fraction(random) * JITTER)
    }

    /// How long to wait after a probe that took so long: from the beginning of one to that of the next it is the interval, give
    /// or take 10 %; behind one that took longer, a tenth of it.
    pub fn next(&self, random: u64, took: Duration) -> Duration {
        let period = self.interval.mul_f64(1.0 + (2.0 * fraction(random) - 1.0) * JITTER);
        period.saturating_sub(took).max(self.interval.mul_f64(JITTER))
    }
}

/// In 0 to 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(outcome: Outcome, at: Instant) -> Probed {
        Probed { at, outcome, took: Duration::from_millis(1) }
    }

    #[test]
    fn fall_and_rise_count_in_a_row() {
        use Outcome::{Answered, Refused, Status, Timeout};
        let start = Instant::now();
        let mut health = Health::new(Start::Up, start);
        let down = Some(Change { state: State::Down, reason: Timeout });
        let up = Some(Change { state: State::Up, reason: Answered(204) });
        let steps = [
            (Refused, None),
            (Refused, None),
            (Answered(200), None),
            (Refused, None),
            (Status(500), None),
            (Timeout, down),
            (Timeout, None),
            (Answered(399), None),
            (Status(400), None),
            (Answered(200), None),
            (Answered(204), up),
            (Answered(200), None),
        ];
        let mut failures = Vec::new();
        for (second, (outcome, expected)) in steps.into_iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            assert_eq!(health.observe(probed(outcome, now), 3, 2), expected, "step {second}");
            failures.push(health.failures());
        }
        assert_eq!(failures, [1, 2, 0, 1, 2, 3, 4, 0, 1, 0, 0, 0]);
        assert_eq!((health.state(), health.since()), (State::Up, start + Duration::from_secs(10)));
        assert_eq!(health.reason().map(|reason| reason.to_string()).as_deref(), Some("probe answered 204"));
        assert_eq!(health.last().map(|last| last.outcome), Some(Answered(200)));
    }

    #[test]
    fn what_starts_down_comes_up_with_its_first_success_alone() {
        let now = Instant::now();
        let mut health = Health::new(Start::Down, now);
        for _ in 0..5 {
            assert_eq!(health.observe(probed(Outcome::Refused, now), 3, 2), None);
            assert_eq!(health.state(), State::Starting);
        }
        let up = Some(Change { state: State::Up, reason: Outcome::Connected });
        assert_eq!(health.observe(probed(Outcome::Connected, now), 3, 2), up);
        for expected in [None, None, Some(State::Down)] {
            let change = health.observe(probed(Outcome::Timeout, now), 3, 2);
            assert_eq!(change.map(|change| change.state), expected);
        }
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let schedule = Schedule { interval: Duration::from_secs(5) };
        let took = Duration::from_millis(100);
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(schedule.first(random) <= Duration::from_millis(500));
            let period = schedule.next(random, took) + took;
            assert!(period >= Duration::from_millis(4500) && period <= Duration::from_millis(5500), "{period:?}");
        }
        assert_ne!(schedule.next(1 << 60, took), schedule.next(1 << 62, took));
        assert_eq!(schedule.next(0, Duration::from_secs(60)), Duration::from_millis(500));
    }
}
