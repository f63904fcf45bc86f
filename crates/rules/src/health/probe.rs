//! What probes say about an endpoint.

use penstock_plan::HealthCheck;
use std::fmt;
use std::time::{Duration, Instant};

/// Whether an endpoint may take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may. Every endpoint starts so: what was never probed is not known to be down.
    Up,
    /// It may not.
    Down,
}

/// How one probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a response of this status.
    Status(u16),
    /// The endpoint's name has no address.
    Unresolved,
    /// The connection was refused.
    Refused,
    /// No connection for another reason.
    Unreachable,
    /// Not within the timeout.
    Timeout,
    /// The endpoint closed, or sent what is no response.
    BadResponse,
}

impl Outcome {
    /// Whether it speaks for the endpoint: a status from 200 to 399.
    pub fn is_success(self) -> bool {
        matches!(self, Outcome::Status(200..=399))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Status(status) => write!(to, "probe answered {status}"),
            Outcome::Unresolved => to.write_str("name has no address"),
            Outcome::Refused => to.write_str("connection refused"),
            Outcome::Unreachable => to.write_str("no connection"),
            Outcome::Timeout => to.write_str("no answer in time"),
            Outcome::BadResponse => to.write_str("no valid response"),
        }
    }
}

/// The state of one endpoint, moved by the outcomes of its probes.
///
/// | state | outcome | then |
/// |---|---|---|
/// | up | success | the failures so far are forgotten |
/// | up | failure | down, if it is the `fall`-th in a row |
/// | down | failure | the successes so far are forgotten |
/// | down | success | up, if it is the `rise`-th in a row |
#[derive(Clone, Copy, Debug)]
pub struct Health {
    state: State,
    since: Instant,
    /// Outcomes in a row that speak against the state.
    against: u8,
    /// What brought the state about; `None` if nothing did yet.
    reason: Option<Outcome>,
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
    /// Up since `now`, not probed yet.
    pub fn new(now: Instant) -> Health {
        Health { state: State::Up, since: now, against: 0, reason: None }
    }

    /// Take in the outcome of a probe; the change of state, if it makes one. `fall` and `rise` of 0 count as 1.
    pub fn observe(&mut self, outcome: Outcome, fall: u8, rise: u8, now: Instant) -> Option<Change> {
        let (needed, other) = match self.state {
            State::Up => (fall, State::Down),
            State::Down => (rise, State::Up),
        };
        if outcome.is_success() == (self.state == State::Up) {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        *self = Health { state: other, since: now, against: 0, reason: Some(outcome) };
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
}

/// When to probe.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    interval: Duration,
}

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

    /// How long to wait from the end of one probe to the next: the interval and up to 10 % more.
    pub fn next(&self, random: u64) -> Duration {
        self.interval.saturating_add(self.first(random))
    }
}

const JITTER: f64 = 0.1;

/// In 0 to 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fall_and_rise_count_in_a_row() {
        use Outcome::{Refused, Status, Timeout};
        let start = Instant::now();
        let mut health = Health::new(start);
        let down = Some(Change { state: State::Down, reason: Timeout });
        let up = Some(Change { state: State::Up, reason: Status(204) });
        let steps = [
            (Refused, None),
            (Refused, None),
            (Status(200), None),
            (Refused, None),
            (Status(500), None),
            (Timeout, down),
            (Timeout, None),
            (Status(399), None),
            (Status(400), None),
            (Status(200), None),
            (Status(204), up),
            (Status(200), None),
        ];
        for (second, (outcome, expected)) in steps.into_iter().enumerate() {
            let now = start + Duration::from_secs(second as u64);
            assert_eq!(health.observe(outcome, 3, 2, now), expected, "step {second}");
        }
        assert_eq!((health.state(), health.since()), (State::Up, start + Duration::from_secs(10)));
        assert_eq!(health.reason().map(|reason| reason.to_string()).as_deref(), Some("probe answered 204"));
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let schedule = Schedule { interval: Duration::from_secs(5) };
        for random in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(schedule.first(random) <= Duration::from_millis(500));
            let next = schedule.next(random);
            assert!(next >= Duration::from_secs(5) && next <= Duration::from_millis(5500), "{next:?}");
        }
        assert_ne!(schedule.next(1 << 60), schedule.next(1 << 62));
    }
}
