//! Coarse time of one worker. Waits of requests are kept in ticks and swept together: no timer and no clock call a request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Resolution of every wait of a client or an endpoint: it ends up to two ticks late, never early.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// A worker that is never done looks at the time again after so many were told the same.
const TOLD: u8 = 64;

/// A second, in ticks.
const A_SECOND: Tick = 1000 / TICK.as_millis() as u64;

/// A worker that did not look at the time for so long stood still: nobody was served, and nobody is late for it (safety.md 178).
const STILL: Duration = Duration::from_millis(250);

/// The last that an HTTP date can name: the year has four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// A moment, in ticks since the worker began.
pub(crate) type Tick = u64;

/// No moment.
pub(crate) const NEVER: Tick = Tick::MAX;

/// The time of a worker, and who waits for which moment.
pub(crate) struct Clock {
    /// When the worker began, moved by the time it stood still.
    began: Cell<Instant>,
    swept: Cell<Instant>,
    now: Cell<Tick>,
    /// When the time was looked at last, and how many may yet be told that.
    looked: Cell<Instant>,
    told: Cell<u8>,
    woke: Woke,
    /// The time of day, in seconds since 1970, and as an HTTP date (RFC 9110 §5.6.7).
    date: Cell<(u64, [u8; 29])>,
    waits: RefCell<Vec<Wait>>,
    /// Tasks that were told to make room and did not yet.
    shedding: Cell<usize>,
    free: RefCell<Vec<usize>>,
}

struct Wait {
    until: Tick,
    waker: Option<Waker>,
    rest: Rest,
}

/// Whether a task could be done without.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Busy,
    /// Nothing is under way on it since then.
    Idle(Tick),
    /// It was told to make room.
    Shed,
}

/// Whether a thread has slept since that was asked last: what it finds to do came meanwhile. Only that thread asks and tells.
#[derive(Clone, Default)]
pub(crate) struct Woke(Arc<AtomicBool>);

impl Woke {
    pub(crate) fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        let woke = self.0.load(Ordering::Relaxed);
        if woke {
            self.0.store(false, Ordering::Relaxed);
        }
        woke
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn date_of(time: SystemTime) -> (u64, [u8; 29]) {
    // What is beyond the calendar of HTTP dates is no time of ours, and the crate does not write it.
    let time = UNIX_EPOCH + Duration::from_secs(seconds(time).min(LAST_SECOND));
    let text = httpdate::fmt_http_date(time);
    (seconds(time), text.as_bytes().try_into().unwrap_or(*b"Thu, 01 Jan 1970 00:00:00 GMT"))
}

const UNUSED: Wait = Wait { until: NEVER, waker: None, rest: Rest::Busy };

impl Clock {
    /// That of a thread which tells when it `woke`.
    pub(crate) fn new(woke: Woke) -> Rc<Clock> {
        let began = Instant::now();
        Rc::new(Clock {
            began: Cell::new(began),
            swept: Cell::new(began),
            now: Cell::new(0),
            looked: Cell::new(began),
            told: Cell::new(0),
            woke,
            date: Cell::new(date_of(SystemTime::now())),
            waits: RefCell::default(),
            shedding: Cell::new(0),
            free: RefCell::default(),
        })
    }

    /// The current tick, at most one behind.
    pub(crate) fn now(&self) -> Tick {
        self.now.get()
    }

    /// When what is done now came: the time of this turn of the event loop. Nobody is told an earlier one than before.
    #[inline]
    pub(crate) fn instant(&self) -> Instant {
        let told = self.told.get();
        if self.woke.take() || told == 0 {
            return self.look();
        }
        self.told.set(told - 1);
        self.looked.get()
    }

    /// The time. It is that of the turn from now on, so that nothing is over before it began.
    pub(crate) fn look(&self) -> Instant {
        let now = Instant::now();
        self.looked.set(now);
        self.told.set(TOLD);
        now
    }

    /// The time of day as an HTTP date, at most a tick late.
    pub(crate) fn date(&self) -> [u8; 29] {
        self.date.get().1
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
        Clock::span(moment.saturating_sub(self.now()))
    }

    /// How many ticks `wait` takes, rounded up.
    pub(crate) fn ticks(wait: Duration) -> Tick {
        let rest = u64::from(wait.subsec_millis()).div_ceil(TICK.as_millis() as u64);
        wait.as_secs().checked_mul(A_SECOND).and_then(|ticks| ticks.checked_add(rest)).unwrap_or(NEVER)
    }

    /// How long so many ticks are.
    pub(crate) fn span(ticks: Tick) -> Duration {
        TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Move on to `now` and wake whoever waited for it.
    pub(crate) fn sweep(&self, now: Instant) {
        let gap = now.saturating_duration_since(self.swept.replace(now));
        if gap > STILL {
            self.began.set(self.began.get() + gap.saturating_sub(TICK));
        }
        let ticks = now.saturating_duration_since(self.began.get()).as_millis() / TICK.as_millis();
        let tick = Tick::try_from(ticks).unwrap_or(NEVER);
        self.now.set(tick);
        let today = SystemTime::now();
        if seconds(today) != self.date.get().0 {
            self.date.set(date_of(today));
        }
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

    /// Tell up to `count` idle tasks to end, those that are idle longest; how many were told.
    pub(crate) fn shed(&self, count: usize) -> usize {
        let mut waits = self.waits.borrow_mut();
        let idle = waits.iter().enumerate().filter_map(|(place, wait)| match wait.rest {
            Rest::Idle(since) if since <= self.now() => Some((since, place)),
            _ => None,
        });
        let mut idle: Vec<(Tick, usize)> = idle.collect();
        if idle.len() > count {
            idle.select_nth_unstable(count);
            idle.truncate(count);
        }
        for (_, place) in &idle {
            if let Some(wait) = waits.get_mut(*place) {
                wait.rest = Rest::Shed;
                wait.waker.iter().for_each(Waker::wake_by_ref);
            }
        }
        self.shedding.set(self.shedding.get() + idle.len());
        idle.len()
    }

    /// How many were told so and did not end yet.
    pub(crate) fn shedding(&self) -> usize {
        self.shedding.get()
    }

    /// A place to wait in, for one task.
    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
        let wait = UNUSED;
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

    /// Nothing is under way since `since`: it may be told to make room.
    pub(crate) fn rest(&self, since: Tick) {
        self.with(|wait| {
            if wait.rest == Rest::Busy {
                wait.rest = Rest::Idle(since);
            }
        });
    }

    /// Whether it was told to make room.
    pub(crate) fn is_shed(&self) -> bool {
        self.clock.waits.borrow().get(self.place).is_some_and(|wait| wait.rest == Rest::Shed)
    }

    /// Something is under way again, or the end has come.
    pub(crate) fn work(&self) {
        if self.is_shed() {
            self.clock.shedding.set(self.clock.shedding.get().saturating_sub(1));
        }
        self.with(|wait| wait.rest = Rest::Busy);
    }

    fn with(&self, change: impl FnOnce(&mut Wait)) {
        if let Some(wait) = self.clock.waits.borrow_mut().get_mut(self.place) {
            change(wait);
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.work();
        self.with(|wait| *wait = UNUSED);
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
        let clock = Clock::new(Woke::default());
        let alarm = clock.alarm();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        alarm.register(&Context::from_waker(&waker));
        let until = clock.after(Duration::from_secs(1));
        alarm.lower(until);
        alarm.lower(clock.after(Duration::from_secs(5)));
        let began = clock.began.get();
        let passed = Cell::new(0);
        let fired = |after: u64| {
            while passed.get() < after {
                passed.set((passed.get() + 50).min(after));
                clock.sweep(began + Duration::from_millis(passed.get()));
            }
            count.0.load(Ordering::Relaxed)
        };
        assert_eq!(fired(999), 0);
        assert_eq!(fired(1100), 1);
        assert!(clock.now() >= until);
        assert_eq!(fired(9000), 1);
        drop(alarm);
        assert_eq!(clock.alarm().place, 0);
    }

    #[test]
    fn all_that_came_at_once_is_told_one_time_and_none_is_told_an_earlier_one() {
        let woke = Woke::default();
        let clock = Clock::new(woke.clone());
        let first = clock.instant();
        assert!((1..TOLD).all(|_| clock.instant() == first));
        let exact = clock.look();
        assert!(exact > first && clock.instant() == exact, "what is looked at in between counts from then on");
        woke.tell();
        let next = clock.instant();
        assert!(next > exact && clock.instant() == next);
        // A worker that never sleeps looks again, too.
        assert!((0..=TOLD).any(|_| clock.instant() > next));
    }

    #[test]
    fn time_that_a_worker_stood_still_is_nobodys() {
        let clock = Clock::new(Woke::default());
        let began = clock.began.get();
        let by = clock.after(Duration::from_millis(500));
        clock.sweep(began + Duration::from_millis(100));
        assert_eq!(clock.now(), 2);
        clock.sweep(began + Duration::from_secs(3600));
        assert_eq!((clock.now(), clock.until(by)), (3, Duration::from_millis(400)));
        clock.sweep(began + Duration::from_secs(3600) + STILL);
        assert_eq!(clock.now(), 8);
    }

    #[test]
    fn whoever_is_idle_longest_makes_room() {
        let clock = Clock::new(Woke::default());
        let alarms: Vec<Alarm> = (0..5).map(|_| clock.alarm()).collect();
        for (alarm, since) in alarms.iter().zip([3, 1, 9, 2]) {
            alarm.rest(since);
        }
        clock.now.set(5);
        // The third is not idle yet, the fifth has work.
        assert_eq!((clock.shed(2), clock.shedding()), (2, 2));
        assert_eq!(alarms.iter().map(Alarm::is_shed).collect::<Vec<_>>(), [false, true, false, true, false]);
        assert_eq!((clock.shed(9), clock.shed(9)), (1, 0));
        alarms[1].work();
        assert_eq!((clock.shedding(), alarms[1].is_shed()), (2, false));
        drop(alarms);
        assert_eq!(clock.shedding(), 0);
    }
}
