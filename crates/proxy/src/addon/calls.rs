//! The calls of one loaded add-on, between the workers that make them and the Python threads that take them.
//!
//! Only requests on routes that name the add-on come here: they take one lock, held for a push or a pop, never while Python runs.

use crate::observe::events::{Events, Level};
use penstock_plan::Hook;
use penstock_rules::addon::{Left, Line, Refusal, Verdict};
use penstock_rules::error::Kind;
use serde_json::json;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often the log is told that an add-on hangs.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// The calls of one add-on.
#[derive(Debug)]
pub struct Calls {
    name: String,
    state: Mutex<State>,
    more: Condvar,
}

#[derive(Debug)]
struct State {
    line: Line<Asked>,
    closed: bool,
    /// When the log was told last, of one late call and of all.
    told_late: Option<Instant>,
    told_stuck: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    hook: Hook,
    document: String,
    until: Instant,
    answer: oneshot::Sender<Result<Verdict, Kind>>,
}

/// A call that Python has taken. Dropped without an answer, it has failed.
#[derive(Debug)]
pub struct Call {
    calls: Arc<Calls>,
    id: u64,
    hook: Hook,
    document: String,
    until: Instant,
    answer: Option<oneshot::Sender<Result<Verdict, Kind>>>,
}

/// A call that somebody waits for. Dropped, nobody does.
pub(crate) struct Awaited {
    calls: Arc<Calls>,
    id: u64,
    hook: Hook,
    answer: oneshot::Receiver<Result<Verdict, Kind>>,
}

impl Calls {
    pub(super) fn new(plan: &penstock_plan::Addon) -> Calls {
        let line = Line::new(plan.concurrency, plan.queue);
        Calls {
            name: plan.name.clone(),
            state: Mutex::new(State { line, closed: false, told_late: None, told_stuck: None }),
            more: Condvar::new(),
        }
    }

    /// Wait for calls and take up to `most` of them; `None` when there will be no more, because no configuration that is in use
    /// names the add-on as it was loaded here.
    pub fn take(self: &Arc<Self>, most: usize) -> Option<Vec<Call>> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let mut taken = Vec::new();
            while taken.len() < most
                && let Some((id, asked)) = state.line.take(|asked| asked.hook, now)
            {
                let Asked { hook, document, until, answer } = asked;
                taken.push(Call { calls: Arc::clone(self), id, hook, document, until, answer: Some(answer) });
            }
            if !taken.is_empty() {
                return Some(taken);
            }
            if state.closed {
                return None;
            }
            state = self.more.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nobody makes calls any more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.line.clear();
        drop(state);
        self.more.notify_all();
    }

    pub(crate) fn put(
        self: &Arc<Self>,
        hook: Hook,
        document: String,
        until: Instant,
        events: &Events,
    ) -> Result<Awaited, Kind> {
        let (sender, answer) = oneshot::channel();
        let now = Instant::now();
        let mut state = self.lock();
        let put = match state.closed {
            true => Err(Refusal::Full),
            false => state.line.put(Asked { hook, document, until, answer: sender }, now),
        };
        match put {
            Ok(id) => {
                drop(state);
                self.more.notify_one();
                Ok(Awaited { calls: Arc::clone(self), id, hook, answer })
            }
            Err(refusal) => {
                if let Refusal::Stuck(oldest, hung) = refusal
                    && may_tell(&mut state.told_stuck, now)
                {
                    let running = state.line.running();
                    drop(state);
                    let message = format!(
                        "all {running} calls of add-on {} hang, the oldest, of {}, for {:?}: requests are not held up for it",
                        self.name,
                        oldest.word(),
                        Duration::from_millis(u64::try_from(hung.as_millis()).unwrap_or(u64::MAX))
                    );
                    self.tell(events, "addon_stuck", message, oldest, hung);
                }
                Err(Kind::AddonBusy)
            }
        }
    }

    /// Waiting, running, and running though nobody waits for it.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let state = self.lock();
        [state.line.waiting(), state.line.running(), state.line.late()]
    }

    fn end(&self, id: u64) -> bool {
        let awaited = self.lock().line.end(id, Instant::now()).is_none();
        self.more.notify_one();
        awaited
    }

    fn tell(&self, events: &Events, kind: &str, message: String, hook: Hook, hung: Duration) {
        let fields =
            [("addon", json!(self.name)), ("hook", json!(hook.word())), ("seconds", json!(hung.as_secs_f64()))];
        events.add(Level::Warning, kind, message, &fields);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a second has gone since the log was told; then it counts as told.
fn may_tell(told: &mut Option<Instant>, now: Instant) -> bool {
    let may = told.is_none_or(|told| now.saturating_duration_since(told) >= TOLD_EVERY);
    if may {
        *told = Some(now);
    }
    may
}

impl Awaited {
    /// Wait for the verdict.
    ///
    /// # Errors
    /// `AddonFailed` where there was none, `AddonTimeout`.
    pub(crate) async fn verdict(mut self, wait: Duration, events: &Events) -> Result<Verdict, Kind> {
        // The worker's ticks are too coarse for a wait this short.
        match tokio::time::timeout(wait, &mut self.answer).await {
            Ok(answer) => answer.unwrap_or(Err(Kind::AddonFailed)),
            Err(_) => {
                let (hook, now) = (self.hook, Instant::now());
                let tell = {
                    let mut state = self.calls.lock();
                    state.line.leave(self.id) == Left::Running && may_tell(&mut state.told_late, now)
                };
                if tell {
                    let message =
                        format!("add-on {}: {} has not returned within {wait:?}", self.calls.name, hook.word());
                    self.calls.tell(events, "addon_late", message, hook, wait);
                }
                Err(Kind::AddonTimeout)
            }
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.calls.lock().line.leave(self.id);
    }
}

impl Call {
    /// Name of the function that is called.
    pub fn hook(&self) -> &'static str {
        self.hook.word()
    }

    /// The request, as a JSON text.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// How long somebody will wait for the answer.
    pub fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Give the verdict; false: nobody waits for it any more.
    pub fn answer(self, verdict: Verdict) -> bool {
        self.finish(Ok(verdict))
    }

    /// Its time was up in Python, too, perhaps a moment before it is here.
    pub fn expire(self) {
        self.finish(Err(Kind::AddonTimeout));
    }

    fn finish(mut self, result: Result<Verdict, Kind>) -> bool {
        // Ended first: who is woken by the answer finds its place free.
        let awaited = self.calls.end(self.id);
        self.answer.take().is_some_and(|answer| answer.send(result).is_ok()) && awaited
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.end(self.id);
    }
}
