//! Exchanges of a listener that somebody wants to look at, kept in a ring: the newest, in memory that is bounded. Commands ask for them;
//! nothing is sent anywhere by itself. A listener without a capture has none of this on its way (`connection.rs`, `streams.rs`).

use penstock_plan::Capture as Plan;
use penstock_rules::capture::{Body, Captured};
use penstock_rules::fault::Fault;
use penstock_rules::list::Lists;
use penstock_rules::route::{Test, View};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What an entry costs beside its text, and an exchange under way beside its bodies and its head.
const ENTRY: usize = 128;
pub(crate) const UNDER_WAY: usize = 4096;
/// Bytes of entries that one question gets; at least one entry.
const ANSWER: usize = 512 << 10;

/// What is captured under one plan.
pub(crate) struct Capture {
    pub(crate) ring: Arc<Ring>,
    pub(crate) plan: Plan,
    test: Option<Test>,
}

impl Capture {
    /// Compile `plan`, whose place is `path`; `known`: the ring of the listener under the plan before.
    ///
    /// # Errors
    /// All faults of its expression.
    pub(crate) fn build(
        plan: &Plan,
        known: Option<&Arc<Ring>>,
        ids: &Arc<AtomicU64>,
        (path, lists): (&str, &Lists),
    ) -> Result<Capture, Vec<Fault>> {
        let test = plan.matches.as_ref();
        let test =
            test.map(|matches| Test::compile(&matches.predicate, format_args!("{path}.match"), lists)).transpose()?;
        let ring = known.map_or_else(|| Arc::new(Ring::new(plan.memory, Arc::clone(ids))), Arc::clone);
        Ok(Capture { ring, plan: plan.clone(), test })
    }

    /// Whether this request is captured.
    pub(crate) fn wants(&self, view: &View<'_>) -> bool {
        self.test.as_ref().is_none_or(|test| test.matches(view))
    }
}

/// The newest exchanges of a listener, over all plans that have it capture.
pub(crate) struct Ring {
    ids: Arc<AtomicU64>,
    kept: Mutex<Kept>,
}

struct Kept {
    entries: VecDeque<Entry>,
    /// Of the entries, and of exchanges under way.
    bytes: usize,
    under_way: usize,
    memory: usize,
    captured: u64,
    evicted: u64,
    dropped: u64,
}

#[derive(Clone)]
struct Entry {
    id: u64,
    text: Box<RawValue>,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY + self.text.get().len()
    }
}

impl Ring {
    fn new(memory: u64, ids: Arc<AtomicU64>) -> Ring {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let (entries, bytes, under_way) = (VecDeque::new(), 0, 0);
        Ring { ids, kept: Mutex::new(Kept { entries, bytes, under_way, memory, captured: 0, evicted: 0, dropped: 0 }) }
    }

    /// Keep at most so much from now on.
    pub(crate) fn configure(&self, memory: u64) {
        let mut kept = self.lock();
        kept.memory = usize::try_from(memory).unwrap_or(usize::MAX);
        kept.make_room(0);
    }

    /// Keep an exchange that has ended.
    pub(crate) fn put(&self, captured: &Captured<'_>) {
        let text = serde_json::to_string(&captured.entry()).and_then(RawValue::from_string);
        let mut kept = self.lock();
        let Ok(text) = text else {
            kept.dropped += 1;
            return;
        };
        // Under the lock, so that whoever asks for those behind an id misses none.
        let entry = Entry { id: self.ids.fetch_add(1, Ordering::Relaxed), text };
        if kept.make_room(entry.bytes()) {
            kept.captured += 1;
            kept.bytes += entry.bytes();
            kept.entries.push_back(entry);
        } else {
            kept.dropped += 1;
        }
    }

    /// What it holds, in figures.
    pub(crate) fn stats(&self) -> Value {
        let kept = self.lock();
        json!({
            "entries": kept.entries.len(),
            "bytes": kept.bytes + kept.under_way,
            "memory": kept.memory,
            "captured": kept.captured,
            "evicted": kept.evicted,
            "dropped": kept.dropped,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Let go of the oldest until so many bytes more have room; whether they have.
    fn make_room(&mut self, more: usize) -> bool {
        while self.bytes.saturating_add(self.under_way).saturating_add(more) > self.memory {
            let Some(oldest) = self.entries.pop_front() else { return false };
            self.bytes -= oldest.bytes();
            self.evicted += 1;
        }
        true
    }
}

/// The memory of an exchange under way, which counts like that of those that have ended.
pub(crate) struct Room {
    ring: Arc<Ring>,
    taken: usize,
}

impl Room {
    /// For one more exchange; `None`: there is none, because others under way have it all.
    pub(crate) fn begin(ring: &Arc<Ring>, bytes: usize) -> Option<Room> {
        let mut room = Room { ring: Arc::clone(ring), taken: 0 };
        if room.take(bytes) {
            return Some(room);
        }
        ring.lock().dropped += 1;
        None
    }

    fn take(&mut self, bytes: usize) -> bool {
        let mut kept = self.ring.lock();
        let fits = kept.make_room(bytes);
        if fits {
            kept.under_way += bytes;
            self.taken += bytes;
        }
        fits
    }

    /// Keep of a body what comes next, up to `most` bytes of it and as far as there is room.
    pub(crate) fn keep(&mut self, body: &mut Body, most: usize, bytes: &[u8]) {
        // Behind a gap nothing is kept.
        let is_whole = body.whole == body.kept.len() as u64;
        body.whole += bytes.len() as u64;
        let wanted = bytes.get(..most.saturating_sub(body.kept.len()).min(bytes.len())).unwrap_or_default();
        if is_whole && !wanted.is_empty() && self.take(wanted.len()) {
            // Exactly: what a vector keeps in reserve would not be counted.
            body.kept.reserve_exact(wanted.len());
            body.kept.extend_from_slice(wanted);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.ring.lock().under_way -= self.taken;
    }
}

/// What is asked about captured exchanges.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum CaptureQuery {
    /// Those behind this id, oldest first, as many as fit into one answer.
    After(u64),
    /// That of this id.
    Id(u64),
    /// Forget all of them.
    Clear,
}

/// The answer, as a JSON text: `entries`, each with its `id`, and whether there are `more`.
pub(crate) fn ask<'r>(rings: impl Iterator<Item = &'r Arc<Ring>>, query: CaptureQuery) -> String {
    let mut found: Vec<Entry> = Vec::new();
    // Up to which id all rings were read; `None`: to their ends.
    let mut upto: Option<u64> = None;
    for ring in rings {
        let mut kept = ring.lock();
        match query {
            CaptureQuery::Clear => {
                kept.entries.clear();
                kept.bytes = 0;
            }
            CaptureQuery::Id(id) => found.extend(kept.entries.iter().find(|entry| entry.id == id).cloned()),
            CaptureQuery::After(id) => {
                let begin = kept.entries.partition_point(|entry| entry.id <= id);
                let (mut bytes, mut last) = (0, id);
                for entry in kept.entries.range(begin..) {
                    bytes += entry.bytes();
                    if bytes > ANSWER && bytes > entry.bytes() {
                        upto = Some(upto.map_or(last, |upto| upto.min(last)));
                        break;
                    }
                    last = entry.id;
                    found.push(entry.clone());
                }
            }
        }
    }
    // Whoever asks on from the last that is told misses none of another ring.
    found.retain(|entry| upto.is_none_or(|upto| entry.id <= upto));
    found.sort_unstable_by_key(|entry| entry.id);
    let written: Vec<String> =
        found.iter().map(|entry| format!(r#"{{"id":{},"entry":{}}}"#, entry.id, entry.text.get())).collect();
    format!(r#"{{"entries":[{}],"more":{}}}"#, written.join(","), upto.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(memory: u64) -> Arc<Ring> {
        Arc::new(Ring::new(memory, Arc::new(AtomicU64::new(1))))
    }

    fn bytes(ring: &Ring) -> u64 {
        ring.stats()["bytes"].as_u64().unwrap()
    }

    #[test]
    fn what_is_under_way_counts_and_pushes_the_oldest_out() {
        let ring = ring(10_000);
        for id in 0..3 {
            let text = RawValue::from_string(format!("\"{}\"", "x".repeat(3000 - ENTRY - 2))).unwrap();
            let mut kept = ring.lock();
            assert!(kept.make_room(3000));
            kept.bytes += 3000;
            kept.entries.push_back(Entry { id, text });
        }
        assert_eq!(bytes(&ring), 9000);
        let mut room = Room::begin(&ring, 1000).unwrap();
        assert_eq!(bytes(&ring), 10_000);
        let mut body = Body::default();
        room.keep(&mut body, 5000, &[b'a'; 3000]);
        assert_eq!((body.kept.len(), bytes(&ring), ring.lock().entries.len()), (3000, 10_000, 2));
        room.keep(&mut body, 5000, &[b'b'; 3000]);
        assert_eq!((body.kept.len(), body.whole, ring.lock().entries.len()), (5000, 6000, 1));
        assert!(bytes(&ring) <= 10_000);
        assert!(Room::begin(&ring, 9000).is_none(), "what others under way have is theirs");
        assert_eq!(ring.lock().dropped, 1);
        drop(room);
        assert_eq!(bytes(&ring), 0);
    }

    #[test]
    fn what_two_rings_hold_is_read_in_parts_without_a_gap() {
        let ids = Arc::new(AtomicU64::new(1));
        let rings = [Arc::new(Ring::new(8 << 20, Arc::clone(&ids))), Arc::new(Ring::new(8 << 20, ids))];
        for id in 1..=20u64 {
            // One of them has much more than fits into an answer, and the other the newest.
            let (ring, length) = if id.is_multiple_of(5) { (&rings[1], 10) } else { (&rings[0], ANSWER / 3) };
            let text = RawValue::from_string(format!("\"{}\"", "x".repeat(length))).unwrap();
            ring.lock().entries.push_back(Entry { id, text });
        }
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let answer: Value = serde_json::from_str(&ask(rings.iter(), CaptureQuery::After(after))).unwrap();
            seen.extend(answer["entries"].as_array().unwrap().iter().map(|entry| entry["id"].as_u64().unwrap()));
            if !answer["more"].as_bool().unwrap() {
                break;
            }
            assert!(seen.last().is_some_and(|last| *last > after));
            after = *seen.last().unwrap();
        }
        assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    }

    #[test]
    fn a_body_without_room_is_cut_and_never_has_a_gap() {
        let ring = ring(100);
        let mut room = Room::begin(&ring, 0).unwrap();
        let mut body = Body::default();
        room.keep(&mut body, 1000, &[b'a'; 60]);
        room.keep(&mut body, 1000, &[b'b'; 60]);
        room.keep(&mut body, 1000, &[b'c'; 10]);
        assert_eq!((body.kept.len(), body.whole), (60, 130));
        ring.configure(10);
        assert!(Room::begin(&ring, 1).is_none());
    }
}
