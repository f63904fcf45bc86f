//! The file that users stand in: read with a plan that names it, and anew when it changes. One that cannot be read, or has a line that
//! is none, leaves things as they are.

use super::{Line, Users};
use crate::addon::Addon;
use crate::lists::read_file;
use crate::observe::events::{Events, Level};
use crate::tls::{Stamp, stamp};
use crate::worker::Shared as Process;
use arc_swap::ArcSwap;
use aws_lc_rs::rand;
use penstock_plan::{Hook, Users as Plan};
use penstock_rules::fault::Fault;
use penstock_rules::users::{BadLine, Users as Known, challenge};
use serde_json::json;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of a file.
const LONGEST: u64 = 16 << 20;
/// Lines that are told of.
const SHOWN: usize = 5;

/// How a file stands.
#[derive(Default)]
pub(super) struct State {
    /// Of the file when it was read.
    stamp: Stamp,
    /// Of one that has changed, and may still be written.
    restless: Option<Stamp>,
    /// Why it could not be read anew.
    trouble: Option<String>,
}

impl Users {
    /// The users of a listener, whose part of the plan is at `path`: those that there are, where it is the same.
    pub(crate) fn build(
        plan: &Plan,
        known: Option<&Arc<Users>>,
        addon: Option<&Arc<Addon>>,
        (line, path): (&Line, &str),
    ) -> Result<Arc<Users>, Fault> {
        if let Some(known) = known.filter(|known| known.plan == *plan && known.asks(addon)) {
            return Ok(Arc::clone(known));
        }
        let mut state = State::default();
        let found = match (&plan.htpasswd, addon) {
            (Some(file), None) => {
                state.stamp = stamp(file);
                read(file).map_err(|reason| Fault::new(format!("{path}.htpasswd"), reason))?
            }
            (None, Some(addon)) if addon.plan.hooks.contains(&Hook::Authenticate) => Known::default(),
            (None, Some(_)) => return Err(Fault::new(format!("{path}.addon"), "it has no hook authenticate")),
            _ => return Err(Fault::new(path, "one of htpasswd and addon says who the users are")),
        };
        let mut secret = [0; 32];
        rand::fill(&mut secret).map_err(|_| Fault::new(path, "the system gives no random bytes"))?;
        Ok(Arc::new(Users {
            plan: plan.clone(),
            challenge: challenge(&plan.realm),
            known: ArcSwap::from_pointee(found),
            file: Mutex::new(state),
            addon: addon.cloned(),
            began: Instant::now(),
            secret,
            proven: Default::default(),
            asked: Mutex::default(),
            line: Arc::clone(line),
            guesses: Default::default(),
            checks: AtomicU64::new(0),
        }))
    }

    /// Whether this is asked, as it is loaded: `None`, a file.
    pub(crate) fn asks(&self, addon: Option<&Arc<Addon>>) -> bool {
        self.addon.as_ref().map(|addon| Arc::as_ptr(&addon.lane)) == addon.map(|addon| Arc::as_ptr(&addon.lane))
    }

    /// What is doubtful about the file.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let Some(path) = &self.plan.htpasswd else { return Vec::new() };
        let known = self.known.load();
        let none = known.is_empty().then(|| format!("{path} has no users, so nobody is served"));
        let weak = Some(known.weak()).filter(|weak| *weak > 0).map(|weak| {
            let (many, one) = if weak == 1 { ("1 password", "it") } else { (&*format!("{weak} passwords"), "them") };
            format!("{path}: {many} as {{SHA}}, which is guessed at once by who has the file; write {one} anew with htpasswd -B")
        });
        none.into_iter().chain(weak).collect()
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Read the file anew if it has changed and is at rest.
    fn look_at_file(&self, events: &Events) {
        let Some(path) = &self.plan.htpasswd else { return };
        let now = stamp(path);
        {
            let mut state = self.lock();
            if now == state.stamp || state.restless.replace(now) != Some(now) {
                return;
            }
            (state.stamp, state.restless) = (now, None);
        }
        let found = read(path);
        let mut state = self.lock();
        let name = &[("file", json!(path))];
        match found {
            Ok(found) => {
                let count = found.len();
                self.known.store(Arc::new(found));
                state.trouble = None;
                events.add(Level::Info, "users", format!("{path} read anew: {count} users"), name);
                self.doubts().into_iter().for_each(|doubt| events.add(Level::Warning, "users", doubt, name));
            }
            Err(reason) => {
                let message = format!("{reason}; the users that there were stay");
                events.add(Level::Warning, "users", message, name);
                state.trouble = Some(reason);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Look after the files of the running snapshot.
pub(crate) async fn follow(process: Arc<Process>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let snapshot = process.snapshot.load_full();
        let listeners = snapshot.iter().flat_map(|snapshot| &snapshot.listeners);
        let users: Vec<_> = listeners.filter_map(|one| one.forward.as_ref()?.users.clone()).collect();
        if users.is_empty() {
            continue;
        }
        let events = Arc::clone(&process.events);
        // A disk that hangs holds up nothing else on this thread.
        let looked = tokio::task::spawn_blocking(move || users.iter().for_each(|users| users.look_at_file(&events)));
        let _ = looked.await;
    }
}

fn read(path: &str) -> Result<Known, String> {
    let text = read_file(path, LONGEST).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let text = text.ok_or_else(|| format!("{path} is longer than {LONGEST} bytes"))?;
    if text.is_empty() {
        return Err(format!("{path} is empty; a comment would say that it is meant to be"));
    }
    Known::read(&text).map_err(|bad| bad_lines(path, &bad))
}

fn bad_lines(path: &str, bad: &[BadLine]) -> String {
    let line = |one: &BadLine| format!("{path}:{}: {}", one.line, one.reason);
    let shown: Vec<_> = bad.iter().take(SHOWN).map(line).collect();
    let more = bad.len().checked_sub(SHOWN).filter(|more| *more > 0);
    shown.join("; ") + &more.map(|more| format!("; and {more} more")).unwrap_or_default()
}
