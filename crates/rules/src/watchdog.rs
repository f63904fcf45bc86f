//! When a worker counts as stuck: its ticks do not go on, though whoever watches it does.

use std::time::Duration;

/// A watcher that was away for longer than this was stopped itself, and the worker most likely with it.
const AWAY: Duration = Duration::from_secs(1);

/// What is known of one worker. Time is whatever the caller counts from; it never goes back.
#[derive(Clone, Copy, Debug)]
pub struct Watchdog {
    ticks: u64,
    /// Since when they are so many.
    since: Duration,
    looked: Duration,
    stuck: bool,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The worker does not go on.
    Stuck,
    /// It goes on again, after so long.
    Back(Duration),
}

impl Watchdog {
    /// Begin to watch at `now`.
    pub fn new(now: Duration, ticks: u64) -> Watchdog {
        Watchdog { ticks, since: now, looked: now, stuck: false }
    }

    /// The worker has ticked so often: what changed, if it may stand still for `patience`.
    pub fn look(&mut self, now: Duration, ticks: u64, patience: Duration) -> Option<Change> {
        let away = now.saturating_sub(self.looked);
        self.looked = now;
        if ticks != self.ticks {
            let stood = now.saturating_sub(self.since);
            (self.ticks, self.since) = (ticks, now);
            return std::mem::take(&mut self.stuck).then_some(Change::Back(stood));
        }
        if away > AWAY {
            self.since += away;
        }
        if self.stuck || self.stood(now) < patience {
            return None;
        }
        self.stuck = true;
        Some(Change::Stuck)
    }

    /// For how long it does not go on.
    pub fn stood(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_that_stands_still_is_told_once_and_told_when_it_is_back() {
        let mut dog = Watchdog::new(at(0), 7);
        let told: Vec<_> = (1..200u64)
            .filter_map(|look| {
                let ticks = if (20..=180).contains(&look) { 20 } else { look };
                dog.look(at(look * 50), ticks, PATIENCE).map(|change| (look, change))
            })
            .collect();
        assert_eq!(told, [(120, Change::Stuck), (181, Change::Back(at(161 * 50)))]);
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_is_not_stuck() {
        let mut dog = Watchdog::new(at(0), 1);
        assert_eq!(dog.look(at(60_000), 1, PATIENCE), None);
        assert_eq!(dog.look(at(60_050), 2, PATIENCE), None);
        assert_eq!(dog.look(at(64_000), 2, PATIENCE), None);
    }
}
