//! Handshakes under way on one worker, in the order in which they began. A flood of them is held within bounds (safety.md 120) at the
//! cost of those that take longest: whoever shakes hands in earnest is done in a few round trips, and whoever trickles is not.

use ahash::AHashMap;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

/// Those of one worker.
#[derive(Default)]
pub(crate) struct Handshakes {
    next: Cell<u64>,
    /// By listener.
    lines: RefCell<AHashMap<u64, BTreeMap<u64, Rc<State>>>>,
}

struct State {
    given_up: Cell<bool>,
    waker: Waker,
}

/// One that is under way, until it is dropped.
pub(super) struct UnderWay {
    handshakes: Rc<Handshakes>,
    listener: u64,
    number: u64,
    state: Rc<State>,
}

impl Handshakes {
    /// One more of this listener. With more than `most`, the one that is under way longest is given up, and woken to see that.
    pub(super) fn begin(self: &Rc<Self>, listener: u64, most: usize, waker: Waker) -> UnderWay {
        let state = Rc::new(State { given_up: Cell::new(false), waker });
        let mut lines = self.lines.borrow_mut();
        let line = lines.entry(listener).or_default();
        if line.len() >= most.max(1)
            && let Some((_, oldest)) = line.pop_first()
        {
            oldest.given_up.set(true);
            oldest.waker.wake_by_ref();
        }
        let number = self.next.get();
        self.next.set(number + 1);
        line.insert(number, Rc::clone(&state));
        UnderWay { handshakes: Rc::clone(self), listener, number, state }
    }
}

impl UnderWay {
    pub(super) fn is_given_up(&self) -> bool {
        self.state.given_up.get()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut lines = self.handshakes.lines.borrow_mut();
        if let Some(line) = lines.get_mut(&self.listener) {
            line.remove(&self.number);
            if line.is_empty() {
                lines.remove(&self.listener);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_takes_longest_makes_room() {
        let handshakes = Rc::new(Handshakes::default());
        let begin = |listener| handshakes.begin(listener, 2, Waker::noop().clone());
        let (first, second, other) = (begin(1), begin(1), begin(2));
        let third = begin(1);
        assert!(first.is_given_up() && !second.is_given_up() && !third.is_given_up() && !other.is_given_up());
        drop(second);
        let fourth = begin(1);
        assert!(!third.is_given_up() && !fourth.is_given_up());
        let fifth = begin(1);
        assert!(third.is_given_up() && !fourth.is_given_up());
        drop((first, third, fourth, fifth, other));
        assert!(handshakes.lines.borrow().is_empty());
    }
}
