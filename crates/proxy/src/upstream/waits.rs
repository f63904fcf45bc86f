//! How long requests wait for answers, those that still wait included, so that another thread knows without a look at each.

use super::local::InFlight;
use super::outlier::Standing;
use crate::observe::metrics::{Counter, EndpointCounters, Sharded};
use penstock_rules::health::Waits;
use std::time::Instant;

/// Waits of one worker at one endpoint, in microseconds of the endpoint's life.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// How many there are, in the low bits, and above them the sum of the times when they began, modulo 2^44: in one word, so that
    /// both are of one moment. The difference to as many times now is right in spite of the modulus.
    begun: Counter,
    /// The sum of those that are over, however they ended.
    over: Counter,
    /// Ejections of the endpoint before them: one draws a line behind what had begun.
    ejections: Counter,
}

const COUNT: u32 = 20;

impl Waiting {
    fn begin(&self, at: u64) {
        self.begun.add((at << COUNT).wrapping_add(1));
    }

    fn end(&self, began: u64, at: u64) {
        self.begun.subtract((began << COUNT).wrapping_add(1));
        self.over.add(at.saturating_sub(began));
    }

    /// How many there are, and for how long altogether.
    fn read(&self, now: u64) -> (u64, u64) {
        let begun = self.begun.get();
        let count = begun & ((1 << COUNT) - 1);
        (count, (count.wrapping_mul(now).wrapping_sub(begun >> COUNT) << COUNT) >> COUNT)
    }
}

impl InFlight {
    /// The request was sent: it waits for an answer.
    pub(crate) fn sent(&mut self, at: Instant) {
        if self.waits_since.is_some() || !self.is_current() {
            return;
        }
        let waiting = &self.endpoint.counters().waiting;
        if waiting.ejections.get() != u64::from(self.ejections) {
            waiting.ejections.set(self.ejections.into());
            waiting.begun.set(0);
        }
        let at = self.endpoint.shared.standing.micros(at);
        waiting.begin(at);
        self.waits_since = Some(at);
    }

    /// An answer came, or none will.
    pub(crate) fn heard(&mut self, at: Instant) {
        let waiting = &self.endpoint.counters().waiting;
        if let Some(since) = self.waits_since.take()
            && waiting.ejections.get() == u64::from(self.ejections)
        {
            waiting.end(since, self.endpoint.shared.standing.micros(at));
        }
    }
}

/// What all workers have waited for at one endpoint.
pub(super) fn sum(counters: &Sharded<EndpointCounters>, standing: &Standing) -> Waits {
    let ejections = u64::from(standing.ejections());
    let mut waits = Waits::default();
    for counters in counters.parts() {
        let waiting = &counters.waiting;
        waits.answers += counters.answers.get();
        waits.late += counters.late.get();
        waits.micros += waiting.over.get();
        if waiting.ejections.get() == ejections {
            // The clock after the counters: no wait begins after now.
            let begun = waiting.read(standing.micros(Instant::now()));
            waits.waiting += begun.0;
            waits.micros += begun.1;
        }
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_right_also_when_the_sum_of_times_has_wrapped() {
        let waiting = Waiting::default();
        let start = (1 << 44) - 10;
        (0..1000).for_each(|at| waiting.begin(start + at));
        assert_eq!(waiting.read(start + 2000), (1000, (1001..=2000).sum::<u64>()));
        (1..1000).for_each(|at| waiting.end(start + at, start + 1000));
        assert_eq!(waiting.read(start + 3000), (1, 3000));
        assert_eq!(waiting.over.get(), (1..=999).sum::<u64>());
        waiting.end(start, start + 3000);
        assert_eq!(waiting.read(start + 3000), (0, 0));
    }
}
