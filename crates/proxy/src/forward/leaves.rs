//! What one worker stands for origins with: made beside it, as soon as a client names the host, and kept for the next who does.

use crate::clock::{Clock, Tick};
use crate::tls::Authority;
use crate::worker::Worker;
use ahash::AHashMap;
use rustls::ServerConfig;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Hosts that are kept at once: for one more, that which was asked for longest ago is forgotten.
const MOST: usize = 1024;
/// How long one is used, much shorter than it is valid.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Those of one worker, by authority and host.
#[derive(Default)]
pub(crate) struct Leaves(RefCell<AHashMap<(usize, Box<str>), Leaf>>);

struct Leaf {
    /// It is not freed before its leaves, so no other has its address.
    _authority: Arc<Authority>,
    state: State,
    asked: Tick,
    until: Tick,
}

enum State {
    Making(Rc<Notify>),
    Made(Arc<ServerConfig>),
}

/// See that there will soon be what `host` is stood for with.
pub(crate) fn prepare(worker: &Rc<Worker>, authority: &Arc<Authority>, host: &str) {
    let now = worker.clock.now();
    let key = (Arc::as_ptr(authority).addr(), Box::from(host));
    let mut leaves = worker.leaves.0.borrow_mut();
    if let Some(leaf) = leaves.get_mut(&key).filter(|leaf| now < leaf.until) {
        leaf.asked = now;
        return;
    }
    if leaves.len() >= MOST && !leaves.contains_key(&key) {
        let made = leaves.iter().filter(|(_, leaf)| matches!(leaf.state, State::Made(_)));
        let oldest = made.min_by_key(|(_, leaf)| leaf.asked).map(|(key, _)| key.clone());
        match oldest {
            Some(oldest) => leaves.remove(&oldest),
            // As many are being made as may be kept: whoever waits for this one asks again.
            None => return,
        };
    }
    let (done, until) = (Rc::new(Notify::new()), now.saturating_add(Clock::ticks(KEPT)));
    let state = State::Making(Rc::clone(&done));
    leaves.insert(key.clone(), Leaf { _authority: Arc::clone(authority), state, asked: now, until });
    let (worker, authority, host) = (Rc::clone(worker), Arc::clone(authority), host.to_owned());
    tokio::task::spawn_local(async move {
        let made = tokio::task::spawn_blocking(move || authority.stand_for(&host)).await;
        let mut leaves = worker.leaves.0.borrow_mut();
        match (made, leaves.get_mut(&key)) {
            (Ok(Ok(made)), Some(leaf)) => leaf.state = State::Made(Arc::new(made)),
            _ => drop(leaves.remove(&key)),
        }
        done.notify_waiters();
    });
}

/// What `host` is stood for with; `None`: none can be made.
pub(crate) async fn leaf(worker: &Rc<Worker>, authority: &Arc<Authority>, host: &str) -> Option<Arc<ServerConfig>> {
    // The second time it is there, unless it cannot be made.
    for _ in 0..2 {
        prepare(worker, authority, host);
        let key = (Arc::as_ptr(authority).addr(), Box::from(host));
        let making = match &worker.leaves.0.borrow().get(&key)?.state {
            State::Made(made) => return Some(Arc::clone(made)),
            State::Making(done) => Rc::clone(done),
        };
        making.notified().await;
    }
    None
}
