//! Requests that wait for a place at an endpoint, where all endpoints have as many as they may.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// What the workers tell each other about the places of one upstream. Touched only where an endpoint has a limit.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// Requests that wait, of all workers.
    waiting: AtomicUsize,
    freed: Notify,
}

impl Gate {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// A place was given back: the first in the line of some worker looks for it.
    pub(crate) fn freed(&self) {
        if self.waiting() > 0 {
            self.freed.notify_one();
        }
    }
}

/// The line of one worker. First come, first served; between workers, whose first is told of a free place.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    line: RefCell<VecDeque<(u64, Option<Waker>)>>,
    next: Cell<u64>,
}

/// A place in the line, until it is dropped.
pub(crate) struct Ticket {
    queue: Rc<Queue>,
    gate: Arc<Gate>,
    number: u64,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.line.borrow().is_empty()
    }

    /// Stand in line; `None` if `size` requests of all workers wait already.
    pub(crate) fn enter(self: &Rc<Self>, gate: &Arc<Gate>, size: u32) -> Option<Ticket> {
        // Counted before places are looked for, so that whoever frees one in between sees that somebody waits.
        if gate.waiting.fetch_add(1, SeqCst) >= size as usize {
            gate.waiting.fetch_sub(1, SeqCst);
            return None;
        }
        let number = self.next.replace(self.next.get() + 1);
        self.line.borrow_mut().push_back((number, None));
        Some(Ticket { queue: Rc::clone(self), gate: Arc::clone(gate), number })
    }
}

impl Ticket {
    pub(crate) fn is_first(&self) -> bool {
        self.queue.line.borrow().front().is_some_and(|(number, _)| *number == self.number)
    }

    /// To be told of the next free place.
    pub(crate) fn freed(&self) -> Notified<'_> {
        self.gate.freed.notified()
    }

    /// Wake this task when it becomes the first.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut line = self.queue.line.borrow_mut();
        if let Some((_, waker)) = position(&line, self.number).and_then(|at| line.get_mut(at)) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Where this number stands: numbers are given in order.
fn position(line: &VecDeque<(u64, Option<Waker>)>, number: u64) -> Option<usize> {
    line.binary_search_by_key(&number, |(number, _)| *number).ok()
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let first = self.is_first();
        let mut line = self.queue.line.borrow_mut();
        if let Some(at) = position(&line, self.number) {
            line.remove(at);
        }
        self.gate.waiting.fetch_sub(1, SeqCst);
        if first {
            if let Some((_, Some(waker))) = line.front() {
                waker.wake_by_ref();
            }
            // What this one was told and did not use, another must be told.
            self.gate.freed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Poll;

    #[test]
    fn the_line_is_in_order_and_has_an_end() {
        let (gate, queue) = (Arc::new(Gate::default()), Rc::new(Queue::default()));
        let (first, second) = (queue.enter(&gate, 2), queue.enter(&gate, 2));
        let (Some(first), Some(second)) = (first, second) else { panic!("there is room for two") };
        assert!(queue.enter(&gate, 2).is_none());
        assert_eq!((first.is_first(), second.is_first(), gate.waiting()), (true, false, 2));
        drop(first);
        assert_eq!((second.is_first(), gate.waiting()), (true, 1));
        drop(second);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_place_that_is_not_used_is_told_on() {
        let (gate, queue) = (Arc::new(Gate::default()), Rc::new(Queue::default()));
        let other = Rc::new(Queue::default());
        let (Some(one), Some(two)) = (queue.enter(&gate, 9), other.enter(&gate, 9)) else { panic!("there is room") };
        let mut cx = Context::from_waker(Waker::noop());
        let mut told = pin!(two.freed());
        assert!(told.as_mut().poll(&mut cx).is_pending());
        drop(one);
        assert_eq!(told.as_mut().poll(&mut cx), Poll::Ready(()));
    }
}
