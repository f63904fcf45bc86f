//! The engine: workers, control thread, and the way of a change: build all that can fail, swap one pointer, let the old drain.

use crate::addon::Calls;
use crate::listen::{self, Bound, Socket};
use crate::observe::access_log::{self, LogSink, Target};
use crate::observe::events::{Events, Level};
use crate::observe::metrics::Sharded;
use crate::snapshot::{Registry, SharedListener, Snapshot};
use crate::upstream::endpoint::{Endpoint, Place};
use crate::worker::{Command, MemoryState, Shared};
use crate::{control, descriptors, faults, stats, worker};
use arc_swap::{ArcSwap, ArcSwapOption};
use penstock_plan::{Order, Plan};
use penstock_rules::fault::Fault;
use penstock_rules::route::explain::{self, Explanation, Request, State};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long an apply waits for names. One that is not answered by then is a warning, and followed on.
const NAMES: Duration = Duration::from_secs(3);
/// How long the clients of WebSockets have to answer a close.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is looked whether a thread ended.
const ENDING: Duration = Duration::from_millis(1);
/// How often a drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(10);
/// How long a worker is waited for that was told to close its sockets, or to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// The data plane of one process, or of one `Proxy` in it.
#[derive(Default)]
pub struct Engine {
    running: Mutex<Option<Running>>,
    /// Outside `running`, so that waiting for events holds nothing up.
    shared: ArcSwapOption<Shared>,
}

struct Running {
    shared: Arc<Shared>,
    workers: Vec<Thread<Command>>,
    control: Thread<control::Command>,
    registry: Registry,
    binds: BTreeMap<String, Binding>,
    began: Instant,
    generation: u64,
}

struct Thread<C> {
    commands: mpsc::UnboundedSender<C>,
    thread: Option<JoinHandle<()>>,
}

/// Sockets that are open, and whose they are.
pub(crate) struct Binding {
    owner: Arc<ArcSwap<SharedListener>>,
    pub(crate) address: String,
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
    /// An engine without threads; they start with the first plan.
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Run `plan` from now on. On failure what ran before is untouched.
    ///
    /// # Errors
    /// All faults.
    pub fn apply(&self, plan: Plan) -> Result<Applied, Vec<Fault>> {
        let mut running = self.lock();
        match running.as_mut() {
            Some(running) => running.apply(plan),
            None => {
                let mut first = Running::start(usize::from(plan.engine.workers.max(1)))
                    .map_err(|error| vec![Fault::new("engine.workers", format!("cannot start threads: {error}"))])?;
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
        let state = |upstream: usize, endpoint: usize| {
            let endpoint = snapshot.upstreams.get(upstream).and_then(|upstream| upstream.endpoints.get(endpoint));
            match endpoint {
                Some(endpoint) if endpoint.is_down() => State::Down,
                Some(endpoint) if endpoint.is_out(Instant::now()) => State::Ejected,
                Some(_) => State::Up,
                None => State::Unknown,
            }
        };
        Some(explain::explain(&snapshot.plan, &snapshot.table, request, state))
    }

    /// Counters and states, as a JSON text.
    pub fn stats(&self) -> String {
        let running = self.lock();
        match running.as_ref() {
            Some(running) => stats::collect(&running.shared, &running.binds, running.began, running.workers.len()),
            None => "{}".into(),
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
            let mut running = self.lock();
            let Some(running) = running.as_mut() else { return true };
            running.shared.draining.store(true, Ordering::Relaxed);
            let keys: Vec<_> = running.binds.keys().cloned().collect();
            running.unlisten(&keys);
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
        if let Some(mut running) = self.lock().take() {
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

/// Whether it `is_done` within `wait`.
fn wait_until(wait: Duration, is_done: impl Fn() -> bool) -> bool {
    let until = Instant::now() + wait;
    while !is_done() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

impl Binding {
    /// Id of the listener that the sockets belong to now.
    pub(crate) fn owner_id(&self) -> u64 {
        self.owner.load().id
    }
}

impl Running {
    fn start(workers: usize) -> io::Result<Running> {
        let events = Arc::new(Events::default());
        let shared = Arc::new(Shared {
            snapshot: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            memory: MemoryState::default(),
            faults: faults::are_wanted(),
            connections_each: AtomicU64::new(u64::MAX),
            counters: Sharded::new(workers),
            log: LogSink::start(Arc::clone(&events))?,
            events,
        });
        if shared.faults {
            let warning = "PENSTOCK_FAULTS is set: clients can make this process panic and hang".into();
            shared.events.add(Level::Warning, "faults", warning, &[]);
        }
        let control = {
            let shared = Arc::clone(&shared);
            Thread::start("penstock-control".into(), move |commands| control::run(shared, commands))?
        };
        let workers = (0..workers).map(|index| {
            let shared = Arc::clone(&shared);
            Thread::start(format!("penstock-{index}"), move |commands| worker::run(index, shared, commands))
        });
        let workers: Vec<_> = workers.collect::<io::Result<_>>()?;
        let registry = Registry::new(workers.len());
        Ok(Running { shared, workers, control, registry, binds: BTreeMap::new(), began: Instant::now(), generation: 0 })
    }

    fn apply(&mut self, plan: Plan) -> Result<Applied, Vec<Fault>> {
        let mut warnings = Vec::new();
        if usize::from(plan.engine.workers) != self.workers.len() {
            warnings.push(format!(
                "engine.workers: {} workers are running; {} take effect with the next start",
                self.workers.len(),
                plan.engine.workers
            ));
        }
        let snapshot = self.registry.build(plan)?;
        let opened = self.open_new(&snapshot)?;
        let log = self.open_log(&snapshot).inspect_err(|_| {
            opened.values().for_each(|bound| remove_socket_file(&bound.address));
        })?;
        let doubts = snapshot.doubts();
        warnings.extend(self.resolve(&snapshot));

        if self.generation == 0 {
            let each = descriptors::connections_each(self.workers.len());
            self.shared.connections_each.store(each, Ordering::Relaxed);
        }

        // Nothing fails from here on.
        let snapshot = Arc::new(snapshot);
        self.registry.keep(&snapshot);
        self.generation += 1;
        let before = self.shared.snapshot.swap(Some(Arc::clone(&snapshot)));
        self.shared.version.store(self.generation, Ordering::Release);
        if let Some(target) = log {
            self.shared.log.redirect(target);
        }
        let addresses = self.rebind(&snapshot, opened);
        self.tell(|| Command::Notice);
        let version = snapshot.plan.version;
        self.control.tell(control::Command::Follow(snapshot));
        if let Some(before) = before {
            self.control.tell(control::Command::Retire(before));
        }
        Ok(Applied { version, warnings, doubts, addresses })
    }

    fn order(&mut self, upstream: &str, address: &str, order: Order) -> Result<(), String> {
        let snapshot = self.shared.snapshot.load_full().ok_or("no plan is running")?;
        let names = || snapshot.upstreams.iter().map(|settings| settings.plan.name.as_str());
        let settings = snapshot.upstreams.iter().find(|settings| settings.plan.name == upstream);
        let settings = settings.ok_or_else(|| unknown("upstream", upstream, names()))?;
        let addresses = || settings.endpoints.iter().map(|endpoint| endpoint.address.as_str());
        let endpoint = settings.endpoints.iter().find(|endpoint| endpoint.address == address);
        endpoint.ok_or_else(|| unknown("endpoint", address, addresses()))?.duty.order(order);
        if let Order::Weight(_) = order {
            settings.rebuild_tables();
        }
        // The same snapshot under another number: workers take in weights anew.
        self.generation += 1;
        self.shared.version.store(self.generation, Ordering::Release);
        self.tell(|| Command::Notice);
        Ok(())
    }

    /// Open the sockets that are not open yet.
    fn open_new(&self, snapshot: &Snapshot) -> Result<BTreeMap<String, Bound>, Vec<Fault>> {
        let (mut opened, mut faults) = (BTreeMap::new(), Vec::new());
        for (at, listener) in snapshot.listeners.iter().enumerate() {
            for (entry, bind) in listener.plan.bind.iter().enumerate() {
                let key = key(&listener.plan.name, bind);
                if self.binds.contains_key(&key) || opened.contains_key(&key) {
                    continue;
                }
                match listen::open(bind, self.workers.len()) {
                    Ok(bound) => {
                        opened.insert(key, bound);
                    }
                    Err(message) => faults.push(Fault::new(format!("listeners[{at}].bind[{entry}]"), message)),
                }
            }
        }
        if faults.is_empty() {
            return Ok(opened);
        }
        opened.values().for_each(|bound| remove_socket_file(&bound.address));
        Err(faults)
    }

    /// The access log's target, if it is another one than before.
    fn open_log(&self, snapshot: &Snapshot) -> Result<Option<Option<Target>>, Vec<Fault>> {
        let before = self.shared.snapshot.load();
        let before = before.as_ref().and_then(|before| before.plan.access_log.as_ref()).map(|log| &log.to);
        if before == snapshot.plan.access_log.as_ref().map(|log| &log.to) {
            return Ok(None);
        }
        match access_log::open(snapshot.plan.access_log.as_ref()) {
            Ok(target) => Ok(Some(target)),
            Err(message) => Err(vec![Fault::new("access_log.to", message)]),
        }
    }

    /// Ask for names that have no address yet; what has none, as warnings.
    fn resolve(&self, snapshot: &Snapshot) -> Vec<String> {
        let unknown: Vec<Arc<Endpoint>> = snapshot
            .upstreams
            .iter()
            .flat_map(|upstream| &upstream.endpoints)
            .filter(|endpoint| match &endpoint.place {
                Place::Tcp { name: Some(_), addresses } => addresses.load().is_empty(),
                _ => false,
            })
            .cloned()
            .collect();
        if unknown.is_empty() {
            return Vec::new();
        }
        let (answer, answered) = sync_channel(1);
        let count = unknown.len();
        self.control.tell(control::Command::Resolve(snapshot.plan.dns.clone(), unknown, answer));
        answered.recv_timeout(NAMES).unwrap_or_else(|_| vec![format!("{count} names are not resolved yet")])
    }

    /// Give sockets to their listeners, new ones to the workers, and close those that nobody has any more.
    fn rebind(&mut self, snapshot: &Snapshot, mut opened: BTreeMap<String, Bound>) -> BTreeMap<String, Vec<String>> {
        let mut addresses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut used = Vec::new();
        for listener in &snapshot.listeners {
            for bind in &listener.plan.bind {
                let key = key(&listener.plan.name, bind);
                if let Some(bound) = opened.remove(&key) {
                    let owner = Arc::new(ArcSwap::new(Arc::clone(&listener.shared)));
                    for (worker, raw) in self.workers.iter().zip(bound.sockets) {
                        let socket = Socket { key: key.clone(), owner: Arc::clone(&owner), raw, port: bound.port };
                        worker.tell(Command::Listen(socket));
                    }
                    self.binds.insert(key.clone(), Binding { owner, address: bound.address });
                } else if let Some(binding) = self.binds.get(&key) {
                    binding.owner.store(Arc::clone(&listener.shared));
                }
                if let Some(binding) = self.binds.get(&key) {
                    addresses.entry(listener.plan.name.clone()).or_default().push(binding.address.clone());
                }
                used.push(key);
            }
        }
        let unused: Vec<_> = self.binds.keys().filter(|key| !used.contains(key)).cloned().collect();
        self.unlisten(&unused);
        addresses
    }

    fn unlisten(&mut self, keys: &[String]) {
        let mut answers = Vec::new();
        for key in keys {
            for worker in &self.workers {
                let (done, answer) = sync_channel(1);
                worker.tell(Command::Unlisten(key.clone(), done));
                answers.push(answer);
            }
            if let Some(binding) = self.binds.remove(key) {
                remove_socket_file(&binding.address);
            }
        }
        let until = Instant::now() + PATIENCE;
        for answer in answers {
            // A worker that is gone has closed its sockets, too; one that is stuck must not hold up everything else.
            let _ = answer.recv_timeout(until.saturating_duration_since(Instant::now()));
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.tell(command()));
    }

    fn stop(&mut self) {
        let keys: Vec<_> = self.binds.keys().cloned().collect();
        self.unlisten(&keys);
        self.tell(|| Command::Stop);
        self.control.tell(control::Command::Stop);
        let until = Instant::now() + PATIENCE;
        self.workers.iter_mut().for_each(|worker| worker.join(until));
        self.control.join(until);
        if let Some(snapshot) = self.shared.snapshot.load().as_ref() {
            snapshot.addons.iter().for_each(|addon| addon.lane.0.close());
        }
        self.shared.log.stop();
        self.shared.events.close();
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    format!("no {what} {name:?}: there are {}", known.collect::<Vec<_>>().join(", "))
}

impl<C: Send + 'static> Thread<C> {
    fn start(name: String, run: impl FnOnce(mpsc::UnboundedReceiver<C>) + Send + 'static) -> io::Result<Thread<C>> {
        let (commands, received) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || run(received))?;
        Ok(Thread { commands, thread: Some(thread) })
    }

    fn tell(&self, command: C) {
        // The receiver is gone only when the thread is: then there is nobody to obey.
        let _ = self.commands.send(command);
    }

    /// Wait for its end; one that is stuck is left behind.
    fn join(&mut self, until: Instant) {
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(ENDING);
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// What a socket is known by. A port that the system chose belongs to its listener; any other address to whoever names it.
fn key(listener: &str, bind: &str) -> String {
    if bind.ends_with(":0") { format!("{bind} {listener}") } else { bind.to_owned() }
}

fn remove_socket_file(address: &str) {
    if let Some(path) = address.strip_prefix("unix:") {
        let _ = std::fs::remove_file(path);
    }
}
