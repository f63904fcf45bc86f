//! The files of lists: read when a plan comes, and anew while it runs. Whoever fetches lists from elsewhere puts them into files, so
//! nothing here knows of that.
//!
//! A list that cannot be read anew keeps what it holds, which is told once. Tests share it by identity ([`Shared`]): a refresh swaps
//! what is in it, and a plan that names the same sources again finds it as it is.

use crate::observe::events::{Events, Level};
use crate::snapshot::Snapshot;
use crate::tls::{Stamp, stamp};
use crate::worker::Shared as Process;
use penstock_plan::{List as Plan, ListSource};
use penstock_rules::list::{BadLine, Draft, List, SHOWN, Shared};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The longest wait until a list that could not be read is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// A list under one plan.
pub(crate) struct Loaded {
    plan: Plan,
    pub(crate) shared: Arc<Shared>,
    state: Arc<Mutex<State>>,
}

/// How it stands, over all plans that name it.
struct State {
    /// Of the files when they were read.
    stamps: Vec<Stamp>,
    /// Of files that have changed, and may still be written.
    restless: Option<Vec<Stamp>>,
    tried: Instant,
    /// When it was read well.
    refreshed: SystemTime,
    /// What is doubtful about what it holds.
    doubts: Vec<String>,
    failures: u64,
    /// Why it could not be read anew; `None`: it could.
    trouble: Option<String>,
}

/// What was read.
struct Found {
    list: List,
    size: u64,
    doubts: Vec<String>,
}

impl Loaded {
    /// The list of `plan`: as it is, where it is `known` by the same sources, otherwise read.
    pub(crate) fn build(plan: &Plan, known: Option<&Arc<Loaded>>) -> Result<Loaded, String> {
        if let Some(known) = known.filter(|known| known.plan.kind == plan.kind && known.plan.sources == plan.sources) {
            let (shared, state) = (Arc::clone(&known.shared), Arc::clone(&known.state));
            return Ok(Loaded { plan: plan.clone(), shared, state });
        }
        let stamps = stamps(plan);
        let found = read(plan)?;
        Ok(Loaded::of(plan, found, stamps))
    }

    /// One that could not be read, so that a plan can be looked at further.
    pub(crate) fn empty(plan: &Plan) -> Loaded {
        Loaded::of(plan, Found { list: List::empty(plan.kind), size: 0, doubts: Vec::new() }, Vec::new())
    }

    fn of(plan: &Plan, found: Found, stamps: Vec<Stamp>) -> Loaded {
        let state = State {
            stamps,
            restless: None,
            tried: Instant::now(),
            refreshed: SystemTime::now(),
            doubts: found.doubts,
            failures: 0,
            trouble: None,
        };
        let sources = plan.sources.iter().map(|source| source.name().to_owned());
        let shared = Arc::new(Shared::new(&plan.name, plan.kind, sources, found.list));
        Loaded { plan: plan.clone(), shared, state: Arc::new(Mutex::new(state)) }
    }

    /// What is doubtful about what it holds.
    pub(crate) fn doubts(&self) -> Vec<String> {
        self.lock().doubts.clone()
    }

    /// How it stands, for people.
    pub(crate) fn stats(&self) -> Value {
        let (state, list) = (self.lock(), self.shared.now());
        json!({
            "name": self.plan.name,
            "kind": self.plan.kind,
            "sources": self.plan.sources.iter().map(ListSource::name).collect::<Vec<_>>(),
            "entries": list.len(),
            "bytes": list.bytes(),
            "ignored": list.tally.ignored,
            "bad": list.tally.bad,
            "refreshed": state.refreshed.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            "failures": state.failures,
            "trouble": state.trouble,
        })
    }

    /// Read it anew if its files have changed and are at rest, or if it is time.
    fn look(&self, events: &Events) {
        let now = stamps(&self.plan);
        {
            let mut state = self.lock();
            let wait = if state.trouble.is_some() { self.plan.refresh.min(AGAIN) } else { self.plan.refresh };
            let changed = now != state.stamps;
            let at_rest = state.restless.as_ref() == Some(&now);
            state.restless = (changed && !at_rest).then(|| now.clone());
            if !(changed && at_rest) && state.tried.elapsed() < wait {
                return;
            }
            state.tried = Instant::now();
            state.stamps.clone_from(&now);
        }
        // Neither what serves nor what tells of it waits for the disk.
        let found = read(&self.plan).and_then(|found| {
            // Who writes a file begins with an empty one.
            let vanished = found.size == 0 && !self.shared.now().is_empty();
            if vanished {
                Err(format!("{} is empty; a comment would say that it is meant to be", self.names()))
            } else {
                Ok(found)
            }
        });
        let mut state = self.lock();
        match found {
            Ok(found) => {
                self.tell(&mut state, &found, events);
                (state.refreshed, state.trouble, state.doubts) = (SystemTime::now(), None, found.doubts);
                self.shared.put(found.list);
            }
            Err(reason) => {
                state.failures += 1;
                if state.trouble.as_ref() != Some(&reason) {
                    let message = format!("list {}: {reason}; what it held before goes on", self.plan.name);
                    events.add(Level::Warning, "lists", message, &[("list", json!(self.plan.name))]);
                }
                state.trouble = Some(reason);
            }
        }
    }

    /// Say what is new about what was read.
    fn tell(&self, state: &mut State, found: &Found, events: &Events) {
        let name = &self.plan.name;
        if state.trouble.is_some() || found.list.len() != self.shared.now().len() {
            let message = format!("list {name} read anew: {} entries", found.list.len());
            events.add(Level::Info, "lists", message, &[("list", json!(name))]);
        }
        for doubt in found.doubts.iter().filter(|doubt| !state.doubts.contains(doubt)) {
            events.add(Level::Warning, "lists", format!("list {name}: {doubt}"), &[("list", json!(name))]);
        }
    }

    fn names(&self) -> String {
        self.plan.sources.iter().map(ListSource::name).collect::<Vec<_>>().join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a list of a plan holds, as a JSON text.
///
/// # Errors
/// Why it cannot be used.
pub fn read_list(plan: &Plan) -> Result<String, String> {
    Loaded::build(plan, None).map(|list| list.stats().to_string())
}

/// Look after the lists of the running snapshot.
pub(crate) async fn follow(process: Arc<Process>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let lists =
            process.snapshot.load_full().map_or_else(Vec::new, |snapshot: Arc<Snapshot>| snapshot.lists.clone());
        if lists.is_empty() {
            continue;
        }
        let events = Arc::clone(&process.events);
        // A disk that hangs holds up nothing else on this thread.
        let looked = tokio::task::spawn_blocking(move || lists.iter().for_each(|list| list.look(&events)));
        let _ = looked.await;
    }
}

fn stamps(plan: &Plan) -> Vec<Stamp> {
    plan.sources.iter().map(|source| stamp(&source.path)).collect()
}

/// Read the sources of a list.
///
/// # Errors
/// Why it cannot be used.
fn read(plan: &Plan) -> Result<Found, String> {
    let (mut draft, mut size, mut doubts) = (Draft::new(plan.kind), 0, Vec::new());
    for (at, source) in (0..=u8::MAX).zip(&plan.sources) {
        match read_file(&source.path, plan.max_size.saturating_sub(size)) {
            Ok(Some(text)) => {
                size += text.len() as u64;
                draft.add(at, &text);
            }
            Ok(None) => return Err(format!("{} is more than max_size, {} bytes", source.name(), plan.max_size)),
            Err(error) if error.kind() == ErrorKind::NotFound && source.url.is_some() => {
                doubts.push(format!("{} was not fetched yet: until it is, nothing of it counts", source.name()));
            }
            Err(error) => return Err(format!("{} cannot be read: {error}", source.path)),
        }
    }
    let list = draft.finish()?;
    let tally = &list.tally;
    if list.is_empty() && tally.bad + tally.ignored > 0 {
        let what = format!("nothing in it is of kind {}", json!(plan.kind));
        return Err(if tally.bad > 0 { format!("{what}: {}", bad_lines(plan, &list)) } else { what });
    }
    if tally.bad > 0 {
        doubts.push(bad_lines(plan, &list));
    } else if list.is_empty() && doubts.is_empty() {
        doubts.push("it has no entries".into());
    }
    Ok(Found { list, size, doubts })
}

/// The bytes of a file; `None` if there are more than `most`.
pub(crate) fn read_file(path: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
    // What is no file (a pipe) may never end, or never begin.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut text)?;
    Ok((text.len() as u64 <= most).then_some(text))
}

/// How many lines are wrong, and the first of them.
fn bad_lines(plan: &Plan, list: &List) -> String {
    let bad = list.tally.bad;
    let place = |line: &BadLine| {
        let source = plan.sources.get(usize::from(line.source)).map_or("", ListSource::name);
        format!("{source}:{}: {}", line.line, line.reason)
    };
    let shown: Vec<_> = list.tally.first_bad.iter().map(place).collect();
    let more = if bad > SHOWN as u64 { format!("; and {} more", bad - SHOWN as u64) } else { String::new() };
    format!("{bad} bad line{}: {}{more}", if bad == 1 { "" } else { "s" }, shown.join("; "))
}
