//! The engine: workers, control thread, and the way of a change: build all that can fail, swap one pointer, let the old drain.

mod running;
mod sockets;
mod thread;

pub(crate) use sockets::Binding;

use crate::addon::Calls;
use crate::capture::{self, CaptureQuery};
use crate::forward;
use crate::snapshot::Snapshot;
use crate::stats;
use crate::upstream::affinity;
use crate::worker::{Command, Shared};
use arc_swap::{ArcSwap, ArcSwapOption};
use penstock_plan::{AffinityQuery, Order, Plan};
use penstock_rules::fault::Fault;
use penstock_rules::route::explain::{self, Explanation, Now, Request, Standing, State};
use running::Running;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the clients of WebSockets have to answer a close.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(10);

/// The data plane of one process, or of one `Proxy` in it.
pub struct Engine {
    release: fn(),
    running: Mutex<Option<Running>>,
    /// Drained or stopped: what was told to end must not open again. Set under `running`.
    ended: AtomicBool,
    /// Outside `running`, which is locked while a change is made: what is only looked at neither waits for it nor holds it up.
    shared: ArcSwapOption<Shared>,
    /// See `withhold`; what runs looks at it.
    withheld: Arc<ArcSwap<Vec<SocketAddr>>>,
}

/// What came of a plan.
#[derive(Debug)]
pub struct Applied {
    /// The plan's own version.
    pub version: u64,
    /// What is not as it should be, but does not stop it.
    pub warnings: Vec<String>,
    /// What of the plan is likely to be wrong, and where.
    pub doubts: Vec<Fault>,
    /// Real addresses by listener.
    pub addresses: BTreeMap<String, Vec<String>>,
}

impl Engine {
    /// An engine without threads; they start with the first plan. `release` gives memory that the calling thread freed back to the
    /// system: which allocator that is, the program decides.
    pub fn new(release: fn()) -> Engine {
        Engine {
            release,
            running: Mutex::default(),
            ended: AtomicBool::default(),
            shared: ArcSwapOption::default(),
            withheld: Arc::default(),
        }
    }

    /// Take no client of a forward proxy to these addresses, whatever it allows: what else of this process listens there.
    pub fn withhold(&self, addresses: Vec<SocketAddr>) {
        self.withheld.store(Arc::new(addresses));
    }

    /// Run `plan` from now on. On failure what ran before is untouched.
    ///
    /// # Errors
    /// All faults; and every plan after `drain` or `stop`.
    pub fn apply(&self, plan: Plan) -> Result<Applied, Vec<Fault>> {
        let mut running = self.lock();
        if self.ended.load(Ordering::Relaxed) {
            return Err(vec![Fault::new("engine", "it drains or has stopped: no plan runs in it any more")]);
        }
        match running.as_mut() {
            Some(running) => running.apply(plan),
            None => {
                let mut first =
                    Running::start(usize::from(plan.engine.workers.max(1)), self.release, Arc::clone(&self.withheld))
                        .map_err(|error| vec![Fault::new("engine.workers", format!("cannot start {error}"))])?;
                match first.apply(plan) {
                    Ok(applied) => {
                        self.shared.store(Some(Arc::clone(&first.shared)));
                        *running = Some(first);
                        Ok(applied)
                    }
                    Err(faults) => {
                        first.stop();
                        Err(faults)
                    }
                }
            }
        }
    }

    /// The running plan's snapshot.
    pub(crate) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.load().as_ref()?.snapshot.load_full()
    }

    /// Which way a request would take in the running plan; `None` before the first.
    ///
    /// # Errors
    /// A fault of the request.
    pub fn explain(&self, request: &Request) -> Option<Result<Explanation, Fault>> {
        let snapshot = self.snapshot()?;
        let standing = |upstream: usize, endpoint: usize, plan: &penstock_plan::Endpoint| {
            let endpoint = snapshot.upstreams.get(upstream).and_then(|upstream| upstream.endpoints.get(endpoint));
            let Some(endpoint) = endpoint else { return Standing::planned(plan, State::Unknown) };
            let state = match endpoint {
                down if down.is_down() => State::Down,
                out if out.is_out(Instant::now()) => State::Ejected,
                _ => State::Up,
            };
            Standing { admin: endpoint.duty.admin(), weight: endpoint.duty.weight(), state }
        };
        let shut = |route: usize| snapshot.routes.get(route).is_some_and(|route| route.maintenance.is_on());
        Some(explain::explain(
            &snapshot.plan,
            &snapshot.table,
            request,
            &Now { standing, shut, moment: forward::now() },
        ))
    }

    /// Counters and states, as a JSON text.
    pub fn stats(&self) -> String {
        self.shared.load().as_ref().map_or_else(|| "{}".into(), |shared| stats::collect(shared))
    }

    /// Ask about the affinity table of an upstream, or have it forget, as a JSON document.
    ///
    /// # Errors
    /// What is wrong with the question, as a sentence.
    pub fn affinity(&self, upstream: &str, query: &AffinityQuery) -> Result<String, String> {
        let snapshot = self.snapshot().ok_or("no plan is running")?;
        let found = snapshot.upstreams.iter().find(|settings| settings.plan.name == upstream);
        let names = || snapshot.upstreams.iter().map(|settings| settings.plan.name.as_str());
        let settings = found.ok_or_else(|| running::unknown("upstream", upstream, names()))?;
        affinity::ask(settings, query).map(|answer| answer.to_string())
    }

    /// What the listener of this name has captured, or all of them; as a JSON document.
    ///
    /// # Errors
    /// A listener that captures nothing.
    pub fn captures(&self, listener: Option<&str>, query: CaptureQuery) -> Result<String, String> {
        let snapshot = self.snapshot().ok_or("no plan is running")?;
        let captures =
            snapshot.listeners.iter().filter_map(|one| Some((one.plan.name.as_str(), one.capture.as_ref()?)));
        let named = captures.clone().filter(|(name, _)| listener.is_none_or(|wanted| wanted == *name));
        let rings: Vec<_> = named.map(|(_, capture)| &capture.ring).collect();
        match (rings.is_empty(), listener) {
            (true, Some(name)) => Err(running::unknown("listener that captures", name, captures.map(|(name, _)| name))),
            (true, None) => Err("no listener captures anything".into()),
            _ => Ok(capture::ask(rings.into_iter(), query)),
        }
    }

    /// The calls of the add-on that was loaded under this id, if the running plan has it.
    pub fn addon_calls(&self, id: u64) -> Option<Arc<Calls>> {
        let snapshot = self.snapshot()?;
        snapshot.addons.iter().find(|addon| addon.plan.id == id).map(|addon| Arc::clone(&addon.lane.0))
    }

    /// What happened since the last call, waiting up to `wait` for the first. Each is a JSON text.
    pub fn events(&self, wait: Duration) -> Vec<String> {
        match self.shared.load_full() {
            Some(shared) => shared.events.take(wait),
            None => {
                std::thread::sleep(wait.min(LOOK));
                Vec::new()
            }
        }
    }

    /// Accept nothing more and let what is under way finish for up to `wait`; whether all of it did.
    pub fn drain(&self, wait: Duration) -> bool {
        let shared = {
            let running = self.lock();
            self.ended.store(true, Ordering::Relaxed);
            let Some(running) = running.as_ref() else { return true };
            running.shared.draining.store(true, Ordering::Relaxed);
            // Sessions of datagrams end with their sockets: those stay for a while.
            running.unlisten_connections();
            running.tell(|| Command::Notice);
            Arc::clone(&running.shared)
        };
        let is_done = || stats::open_connections(&shared) == 0;
        if wait_until(wait, is_done) {
            return true;
        }
        // A WebSocket never finishes: its client is told to go away, and has a moment to do so.
        shared.leaving.store(true, Ordering::Relaxed);
        if let Some(running) = self.lock().as_ref() {
            running.tell(|| Command::Notice);
        }
        wait_until(FAREWELL, || shared.counters.sum(|counters| counters.websockets.get()) == 0);
        is_done()
    }

    /// Close everything and end the threads.
    pub fn stop(&self) {
        let mut running = self.lock();
        self.ended.store(true, Ordering::Relaxed);
        if let Some(mut running) = running.take() {
            running.stop();
        }
    }

    /// Change what people decide about one endpoint; all workers keep to it from their next request on.
    ///
    /// # Errors
    /// What the running plan does not have.
    pub fn order(&self, upstream: &str, address: &str, order: Order) -> Result<(), String> {
        match self.lock().as_mut() {
            Some(running) => running.order(upstream, address, order),
            None => Err("no plan is running".into()),
        }
    }

    /// Put one route, or all there are and those that will come, into maintenance or back into service; it holds for all workers from
    /// their next request on.
    ///
    /// # Errors
    /// A route that the running plan does not have.
    pub fn maintain(&self, route: Option<&str>, on: bool) -> Result<(), String> {
        match self.lock().as_mut() {
            Some(running) => running.maintain(route, on),
            None => Err("no plan is running".into()),
        }
    }

    /// Open the access log's file anew.
    pub fn reopen_logs(&self) {
        if let Some(running) = self.lock().as_ref() {
            running.shared.log.reopen();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether it `is_done` within `wait`, which may be for ever.
fn wait_until(wait: Duration, is_done: impl Fn() -> bool) -> bool {
    let until = Instant::now().checked_add(wait);
    while !is_done() {
        if until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
