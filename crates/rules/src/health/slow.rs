//! Endpoints that answer, but far more slowly than the others of their upstream.
//!
//! Waits are judged in windows of twice the wait that counts as slow: 200 ms where others are quick. An endpoint that is slow in three
//! of them, one after the other, is told: within a second, and not for a pause of half of one. Requests that still wait count, because
//! who waits for answers that take two seconds knows nothing for two.

#[cfg(test)]
mod simulation;

use penstock_plan::LatencyOutlier;
use std::time::{Duration, Instant};

/// Requests that a window of an endpoint needs to say anything; with fewer it goes on.
const LEAST_REQUESTS: u64 = 5;
/// Slow windows of an endpoint in a row that decide.
const WINDOWS: u8 = 3;
/// Where all are slow, windows are long; this long at most.
const LONGEST: Duration = Duration::from_secs(5);

/// What requests have waited at an endpoint so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Number of answers.
    pub answers: u64,
    /// Those among them that took longer than [`LatencyOutlier::least`].
    pub late: u64,
    /// Requests that wait now.
    pub waiting: u64,
    /// Sum of all waits, whether they are over or not, in microseconds.
    pub micros: u64,
}

/// What is known of the endpoints of one upstream from window to window.
#[derive(Debug, Default)]
pub struct SlowWatch {
    before: Vec<Seen>,
    /// End of the window.
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Unique in the process.
    id: u64,
    /// At the beginning of its window.
    waits: Waits,
    /// Of the last window that said something.
    mean: Option<f64>,
    /// Slow windows up to now.
    slow: u8,
}

/// One endpoint in one window.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// How long a request waited in it on average: the time that all have waited in it, over those that were answered (Little's law)
    /// or, while none is, over those that wait. So it is never longer than the window.
    mean: f64,
    /// Whether most answers took longer than `least`, or hardly any came.
    mostly: bool,
}

impl SlowWatch {
    /// Whether the window is over at `now`, and a look worth its while.
    pub fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// Take in what all endpoints have counted, once a window is over ([`Self::is_due`]); those to be ejected, as indexes, if
    /// [`super::may_eject`] allows it. An endpoint is slow if its mean is beyond `least` and beyond `factor` times the median of the
    /// others' means, and not by few requests alone: a long one among quick ones is no sign.
    pub fn look(&mut self, rules: &LatencyOutlier, endpoints: &[(u64, Waits)], now: Instant) -> Vec<usize> {
        let found: Vec<(Seen, Option<Window>)> = endpoints.iter().map(|(id, waits)| self.window(*id, *waits)).collect();
        let means: Vec<Option<f64>> = found.iter().map(|(seen, _)| seen.mean).collect();
        let mut told = Vec::new();
        self.before.clear();
        for (at, (mut seen, window)) in found.into_iter().enumerate() {
            if let Some(window) = window {
                let limit = median(means.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, mean)| *mean));
                let slow = limit.is_some_and(|median| window.is_beyond(rules.limit(median)));
                seen.slow = if slow { seen.slow + 1 } else { 0 };
                if seen.slow == WINDOWS {
                    seen.slow = 0;
                    told.push(at);
                }
            }
            self.before.push(seen);
        }
        let limit = rules.limit(median(means.into_iter()).unwrap_or_default());
        self.until = Some(now + Duration::from_micros((2.0 * limit) as u64).min(LONGEST));
        told
    }

    /// The window of an endpoint, if it says something, and what is known of it behind it.
    fn window(&self, id: u64, waits: Waits) -> (Seen, Option<Window>) {
        let known = self.before.iter().find(|seen| seen.id == id).copied();
        let seen = known.unwrap_or(Seen { id, waits: Waits::default(), mean: None, slow: 0 });
        let answers = waits.answers.saturating_sub(seen.waits.answers);
        if answers + waits.waiting < LEAST_REQUESTS {
            return (seen, None);
        }
        let late = waits.late.saturating_sub(seen.waits.late);
        let window = Window {
            mean: waits.micros.saturating_sub(seen.waits.micros) as f64 / answers.max(waits.waiting) as f64,
            mostly: 2 * late > answers || waits.waiting >= 3 * answers,
        };
        // All that came before the first look is no window, but others are measured by it already.
        (Seen { waits, mean: Some(window.mean), ..seen }, known.map(|_| window))
    }
}

impl Window {
    fn is_beyond(&self, limit: f64) -> bool {
        self.mean > limit && self.mostly
    }
}

trait Limit {
    /// The longest mean wait that is not slow, where others have this median, in microseconds.
    fn limit(&self, median: f64) -> f64;
}

impl Limit for LatencyOutlier {
    fn limit(&self, median: f64) -> f64 {
        (median * f64::from(self.factor_percent) / 100.0).max(self.least.as_secs_f64() * 1e6)
    }
}

/// Of those that are known; of an even number the greater of the two in the middle: in doubt for the endpoint.
fn median(means: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut means: Vec<f64> = means.flatten().collect();
    means.sort_unstable_by(f64::total_cmp);
    means.get(means.len() / 2).copied()
}
