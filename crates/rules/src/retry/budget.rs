//! How many requests may be tried again. Where everything fails, every request tried three times is a storm of our own making: it
//! keeps down what would come up (safety.md 165).

use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Requests are remembered for so many slots of a second.
const SLOTS: usize = 10;
const SLOT: Duration = Duration::from_secs(1);
/// One request tried again for so many that came.
const SHARE: u32 = 5;
/// A second may always see so many: where little comes, a share of it is nothing.
const LEAST: u32 = 3;

/// What one worker may try again at one upstream: a fifth of the requests of the last ten seconds, and three a second in any case.
#[derive(Debug)]
pub struct RetryBudget {
    began: Instant,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the current slot since the budget began.
    slot: u64,
    slots: [Slot; SLOTS],
    /// Sums of `slots`.
    requests: u32,
    retries: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// A budget of which nothing is spent.
    pub fn new(now: Instant) -> RetryBudget {
        RetryBudget { began: now, state: RefCell::default() }
    }

    /// A request came.
    #[inline]
    pub fn request(&self, now: Instant) {
        let mut state = self.at(now);
        state.requests = state.requests.saturating_add(1);
        state.current().requests = state.current().requests.saturating_add(1);
    }

    /// Whether one more request may be tried again; then it counts as tried.
    pub fn try_again(&self, now: Instant) -> bool {
        let mut state = self.at(now);
        let allowed = state.retries < state.requests / SHARE || state.current().retries < LEAST;
        if allowed {
            state.retries = state.retries.saturating_add(1);
            state.current().retries = state.current().retries.saturating_add(1);
        }
        allowed
    }

    fn at(&self, now: Instant) -> std::cell::RefMut<'_, State> {
        let slot = now.saturating_duration_since(self.began).as_secs() / SLOT.as_secs();
        let mut state = self.state.borrow_mut();
        if slot > state.slot {
            state.move_on(slot);
        }
        state
    }
}

impl State {
    fn current(&mut self) -> &mut Slot {
        let slot = usize::try_from(self.slot % SLOTS as u64).unwrap_or_default();
        &mut self.slots[slot]
    }

    /// Forget the slots that lie more than the window behind `slot`.
    fn move_on(&mut self, slot: u64) {
        for _ in 0..(slot - self.slot).min(SLOTS as u64) {
            self.slot += 1;
            let old = std::mem::take(self.current());
            self.requests = self.requests.saturating_sub(old.requests);
            self.retries = self.retries.saturating_sub(old.retries);
        }
        self.slot = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spend(budget: &RetryBudget, now: Instant, times: usize) -> usize {
        (0..times).filter(|_| budget.try_again(now)).count()
    }

    #[test]
    fn a_fifth_of_what_came_may_be_tried_again() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        (0..1000).for_each(|_| budget.request(now));
        assert_eq!(spend(&budget, now, 1000), 200);
        // A failure of much later has a budget of its own.
        assert_eq!(spend(&budget, now + Duration::from_secs(10), 1000), LEAST as usize);
    }

    #[test]
    fn little_traffic_has_three_a_second() {
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        for second in 0..30 {
            let now = now + Duration::from_secs(second);
            budget.request(now);
            assert_eq!(spend(&budget, now, 10), LEAST as usize);
        }
    }

    #[test]
    fn a_slow_burst_is_paid_by_the_seconds_before() {
        // A second's requests wait for an endpoint that drops them, and all fail together (safety.md 161).
        let now = Instant::now();
        let budget = RetryBudget::new(now);
        for second in 0..9 {
            (0..100).for_each(|_| budget.request(now + Duration::from_secs(second)));
        }
        assert_eq!(spend(&budget, now + Duration::from_secs(9), 100), 100);
    }

    proptest! {
        #[test]
        fn what_is_tried_again_stays_within_its_share(steps in proptest::collection::vec((0u64..3000, 0usize..30), 1..200)) {
            let mut now = Instant::now();
            let budget = RetryBudget::new(now);
            let mut history: Vec<(Instant, usize, usize)> = Vec::new();
            let begin = now;
            for (wait, requests) in steps {
                now += Duration::from_millis(wait);
                (0..requests).for_each(|_| budget.request(now));
                let retried = spend(&budget, now, requests * 2);
                history.push((now, requests, retried));
                let from = (now - begin).as_secs().saturating_sub(SLOTS as u64 - 1);
                let window = || history.iter().filter(|(at, ..)| (*at - begin).as_secs() >= from);
                let came: usize = window().map(|(_, requests, _)| requests).sum();
                let again: usize = window().map(|(.., retried)| retried).sum();
                prop_assert!(again <= came / SHARE as usize + LEAST as usize * SLOTS);
            }
        }
    }
}
