//! Things that happened, for the process log: a bounded queue whose overflow is counted.

use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events kept until they are fetched; more are dropped and counted.
const KEPT: usize = 1024;

/// How much an event matters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
}

/// When something was told last that happens again and again.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Option<Instant>>);

impl Told {
    /// Whether it may be told once more, `pause` behind the last time; the caller does so then.
    pub(crate) fn is_due(&self, pause: Duration) -> bool {
        let (mut last, now) = (self.0.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= pause);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

/// The queue of events.
#[derive(Default)]
pub(crate) struct Events {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<String>,
    dropped: u64,
    closed: bool,
}

impl Events {
    /// Add an event with further `fields`.
    pub(crate) fn add(&self, level: Level, kind: &str, message: String, fields: &[(&str, Value)]) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        let mut event = Map::new();
        event.insert("at".into(), json!(at));
        event.insert("kind".into(), json!(kind));
        event.insert("level".into(), json!(level));
        event.insert("message".into(), json!(message));
        for (name, value) in fields {
            event.insert((*name).into(), value.clone());
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.events.len() >= KEPT {
            queue.dropped += 1;
        } else {
            queue.events.push_back(Value::Object(event).to_string());
            self.more.notify_all();
        }
    }

    /// Take all events, waiting up to `wait` for the first.
    pub(crate) fn take(&self, wait: Duration) -> Vec<String> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.more.wait_timeout_while(queue, wait, |queue| queue.events.is_empty() && !queue.closed);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.events.drain(..).collect()
    }

    /// Let nobody wait any longer.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.more.notify_all();
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }
}
