//! An engine that runs: its threads, and the way of a change through them.

use super::Applied;
use super::sockets::remove_socket_file;
use super::thread::Thread;
use crate::observe::access_log::{self, LogSink, Target};
use crate::observe::events::{Events, Level};
use crate::observe::metrics::Sharded;
use crate::snapshot::{Registry, Snapshot};
use crate::upstream::endpoint::{Endpoint, Place};
use crate::worker::{Command, MemoryState, Shared};
use crate::{control, descriptors, faults, worker};
use arc_swap::{ArcSwap, ArcSwapOption};
use penstock_plan::{Order, Plan};
use penstock_rules::fault::Fault;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

/// How long an apply waits for names. One that is not answered by then is a warning, and followed on.
const NAMES: Duration = Duration::from_secs(3);
/// How long a worker is waited for that was told to close its sockets, or to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Names that a refusal offers.
const LISTED: usize = 12;

pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) workers: Vec<Thread<Command>>,
    pub(super) control: Thread<control::Command>,
    pub(super) registry: Registry,
    pub(super) generation: u64,
    /// Descriptors that are open whatever listens.
    descriptors: u64,
}

impl Running {
    pub(super) fn start(workers: usize, release: fn(), withheld: Arc<ArcSwap<Vec<SocketAddr>>>) -> io::Result<Running> {
        let events = Arc::new(Events::default());
        let shared = Arc::new(Shared {
            snapshot: ArcSwapOption::empty(),
            version: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            memory: MemoryState::default(),
            faults: faults::are_wanted(),
            connections_each: AtomicU64::new(u64::MAX),
            began: Instant::now(),
            // The control thread looks at once.
            ahead_of_utc: AtomicI64::default(),
            binds: ArcSwap::default(),
            withheld,
            counters: Sharded::new(workers),
            log: LogSink::start(Arc::clone(&events))?,
            events,
            release,
        });
        if shared.faults {
            let warning = "PENSTOCK_FAULTS is set: clients can make this process panic and hang".into();
            shared.events.add(Level::Warning, "faults", warning, &[]);
        }
        let control = {
            let shared = Arc::clone(&shared);
            Thread::start("penstock-control".into(), move |(runtime, _), commands| {
                control::run(shared, runtime, commands)
            })?
        };
        let workers = (0..workers).map(|index| {
            let shared = Arc::clone(&shared);
            let run = move |runtime: (&_, _), commands| worker::run(index, shared, runtime, commands);
            Thread::start(format!("penstock-{index}"), run)
        });
        let workers: Vec<_> = workers.collect::<io::Result<_>>()?;
        let registry = Registry::new(workers.len());
        Ok(Running { shared, workers, control, registry, generation: 0, descriptors: descriptors::open() })
    }

    pub(super) fn apply(&mut self, plan: Plan) -> Result<Applied, Vec<Fault>> {
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

        let sockets = (self.shared.binds.load().len() + opened.len()) * self.workers.len();
        let each = descriptors::connections_each(self.descriptors + sockets as u64, self.workers.len());
        self.shared.connections_each.store(each, Ordering::Relaxed);

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

    pub(super) fn order(&mut self, upstream: &str, address: &str, order: Order) -> Result<(), String> {
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

    /// Workers see the flags of routes as they are: no snapshot changes.
    pub(super) fn maintain(&mut self, route: Option<&str>, on: bool) -> Result<(), String> {
        let snapshot = self.shared.snapshot.load_full().ok_or("no plan is running")?;
        let routes = &snapshot.routes;
        let Some(name) = route else {
            self.registry.all_shut = on;
            routes.iter().for_each(|route| route.maintenance.order(on));
            return Ok(());
        };
        let found = routes.iter().find(|route| route.plan.name == name);
        let names = routes.iter().map(|route| route.plan.name.as_str());
        found.ok_or_else(|| unknown("route", name, names))?.maintenance.order(on);
        Ok(())
    }

    /// The access log's target, if it is another one than before.
    pub(super) fn open_log(&self, snapshot: &Snapshot) -> Result<Option<Option<Target>>, Vec<Fault>> {
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
    pub(super) fn resolve(&self, snapshot: &Snapshot) -> Vec<String> {
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

    pub(super) fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.tell(command()));
    }

    pub(super) fn stop(&mut self) {
        self.unlisten_all();
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
        self.shared.snapshot.store(None);
    }
}

/// That there is no such thing, and which there are.
pub(super) fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<_> = known.collect();
    let (shown, more) = known.split_at(known.len().min(LISTED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    format!("no {what} {name:?}: there are {}{more}", shown.join(", "))
}
