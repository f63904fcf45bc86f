//! Connections that were not taken in, told in the process log: the first at once, what follows in sums.

use crate::admit::REASONS;
use crate::observe::events::Level;
use crate::observe::metrics::Counter;
use crate::worker::Shared;
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often sums are looked at, and how often one of a kind is told.
const LOOK: Duration = Duration::from_secs(1);
const TELL: Duration = Duration::from_secs(10);

/// What was told, by listener and reason.
#[derive(Default)]
pub(super) struct Refusals {
    looked: Option<Instant>,
    told: HashMap<(u64, usize), (u64, Instant)>,
}

impl Refusals {
    pub(super) fn look(&mut self, shared: &Shared, now: Instant) {
        if self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let Some(snapshot) = shared.snapshot.load_full() else { return };
        for listener in &snapshot.listeners {
            for (at, reason) in REASONS.iter().enumerate() {
                let sum = listener.shared.counters.sum(|counters| counters.refused.get(at).map_or(0, Counter::get));
                let before = self.told.get(&(listener.shared.id, at)).copied();
                let count = sum.saturating_sub(before.map_or(0, |(sum, _)| sum));
                let soon = before.is_some_and(|(_, at)| now.saturating_duration_since(at) < TELL);
                if count == 0 || soon {
                    continue;
                }
                self.told.insert((listener.shared.id, at), (sum, now));
                let name = &listener.shared.name;
                shared.events.add(
                    Level::Warning,
                    "refused",
                    format!("listener {name} refused {count} connections: {}", reason.word()),
                    &[("listener", json!(name)), ("reason", json!(reason.word())), ("count", json!(count))],
                );
            }
        }
        self.told.retain(|(id, _), _| snapshot.listener(*id).is_some());
    }
}
