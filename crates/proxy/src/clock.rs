//! Coarse time of one worker. Waits of requests are kept in ticks and swept together: no timer and no clock call a request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

/// Resolution of every wait of a client or an endpoint: it ends up to two ticks late, never early.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A moment, in ticks since the worker began.
pub(crate) type Tick = u64;

/// No moment.
pub(crate) const NEVER: Tick = Tick::MAX;

/// The time of a worker, and who waits for which moment.
pub(crate) struct Clock {
    began: Instant,
    now: Cell<Tick>,
    waits: RefCell<Vec<Wait>>,
    free: RefCell<Vec<usize>>,
}

struct Wait {
    until: Tick,
    waker: Option<Waker>,
}

impl Clock {
    pub(crate) fn new() -> Rc<Clock> {
        Rc::new(Clock { began: Instant::now(), now: Cell::new(0), waits: RefCell::default(), free: RefCell::default() })
    }

    /// The current tick, at most one behind.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// The tick by which `wait` has passed for sure.
    pub(crate) fn after(&self, wait: Duration) -> Tick {
        self.now().saturating_add(Clock::ticks(wait)).saturating_add(1)
    }

    /// How long it is until `moment`; for ever, if it is none.
    pub(crate) fn until(&self, moment: Tick) -> Duration {
        if moment == NEVER {
            return Duration::MAX;
        }
        TICK.saturating_mul(u32::try_from(moment.saturating_sub(self.now())).unwrap_or(u32::MAX))
    }

    /// How many ticks `wait` takes, rounded up.
    pub(crate) fn ticks(wait: Duration) -> Tick {
        Tick::try_from(wait.as_millis().div_ceil(TICK.as_millis())).unwrap_or(NEVER)
    }

    /// Move on to `now` and wake whoever waited for it.
    pub(crate) fn sweep(&self, now: Instant) {
        let ticks = now.saturating_duration_since(self.began).as_millis() / TICK.as_millis();
        let tick = Tick::try_from(ticks).unwrap_or(NEVER);
        self.now.set(tick);
        for wait in self.waits.borrow_mut().iter_mut() {
            if wait.until <= tick {
                wait.until = NEVER;
                if let Some(waker) = &wait.waker {
                    waker.wake_by_ref();
                }
            }
        }
    }

    /// Wake everybody: something changed that a waiting connection must look at.
    pub(crate) fn wake_all(&self) {
        for waker in self.waits.borrow().iter().filter_map(|wait| wait.waker.as_ref()) {
            waker.wake_by_ref();
        }
    }

    /// A place to wait in, for one task.
    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
        let wait = Wait { until: NEVER, waker: None };
        let mut waits = self.waits.borrow_mut();
        let place = match self.free.borrow_mut().pop() {
            Some(place) => {
                if let Some(slot) = waits.get_mut(place) {
                    *slot = wait;
                }
                place
            }
            None => {
                waits.push(wait);
                waits.len() - 1
            }
        };
        Alarm { clock: Rc::clone(self), place }
    }
}

/// Wakes one task at the earliest moment asked for.
pub(crate) struct Alarm {
    clock: Rc<Clock>,
    place: usize,
}

impl Alarm {
    pub(crate) fn clock(&self) -> &Rc<Clock> {
        &self.clock
    }

    /// Remember whom to wake; once for the life of a task is enough.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        self.with(|wait| wait.waker = Some(cx.waker().clone()));
    }

    /// Wake at `until`, unless something earlier is asked for.
    pub(crate) fn lower(&self, until: Tick) {
        self.with(|wait| wait.until = wait.until.min(until));
    }

    /// Forget what was asked for.
    pub(crate) fn clear(&self) {
        self.with(|wait| wait.until = NEVER);
    }

    fn with(&self, change: impl FnOnce(&mut Wait)) {
        if let Some(wait) = self.clock.waits.borrow_mut().get_mut(self.place) {
            change(wait);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.with(|wait| *wait = Wait { until: NEVER, waker: None });
        self.clock.free.borrow_mut().push(self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_earliest_wait_wakes_once_and_never_early() {
        let clock = Clock::new();
        let alarm = clock.alarm();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        alarm.register(&Context::from_waker(&waker));
        let until = clock.after(Duration::from_secs(1));
        alarm.lower(until);
        alarm.lower(clock.after(Duration::from_secs(5)));
        let fired = |after: u64| {
            clock.sweep(clock.began + Duration::from_millis(after));
            count.0.load(Ordering::Relaxed)
        };
        assert_eq!(fired(999), 0);
        assert_eq!(fired(1100), 1);
        assert!(clock.now() >= until);
        assert_eq!(fired(9000), 1);
        drop(alarm);
        assert_eq!(clock.alarm().place, 0);
    }
}
