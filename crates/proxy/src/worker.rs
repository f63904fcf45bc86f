//! One worker: a thread, its connections, its pools, its counters. What happens here stays here.

use crate::buffers::Buffers;
use crate::clock::{Clock, TICK, Tick, Woke};
use crate::engine::Binding;
use crate::forward::{Leaves, Origins};
use crate::listen::{self, Listening, Socket};
use crate::observe::access_log::{LogSink, RecordBatch};
use crate::observe::events::Events;
use crate::observe::metrics::{Sharded, WorkerCounters};
use crate::pipes::SystemPipes;
use crate::session::Room;
use crate::snapshot::Snapshot;
use crate::tls::Handshakes;
use crate::upstream::endpoint::LocalEndpoint;
use crate::upstream::local::{Lasting, LocalUpstream};
use ahash::AHashMap;
use arc_swap::{ArcSwap, ArcSwapOption};
use penstock_plan::UpstreamProtocol;
use penstock_rules::limit;
use penstock_rules::pressure::Pressure;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};
use tokio::runtime::LocalRuntime;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// How long the configuration before the running one is remembered.
const REMEMBERED: Duration = Duration::from_secs(1);
/// How often pools are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// What all workers and the control side share.
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwapOption<Snapshot>,
    /// Version of `snapshot`: what a worker looks at before each exchange.
    pub(crate) version: AtomicU64,
    pub(crate) draining: AtomicBool,
    /// The time to drain is over: whoever can be told is told to go away.
    pub(crate) leaving: AtomicBool,
    pub(crate) memory: MemoryState,
    /// Whether requests may ask for faults.
    pub(crate) faults: bool,
    /// Client connections that each worker has descriptors for.
    pub(crate) connections_each: AtomicU64,
    pub(crate) began: Instant,
    /// Seconds that local time is ahead of UTC.
    pub(crate) ahead_of_utc: AtomicI64,
    /// Sockets that are open, by what they were bound for. Here, so that whoever looks does not wait for a change.
    pub(crate) binds: ArcSwap<BTreeMap<String, Binding>>,
    /// Sockets of this process that are not the engine's, and that no client is taken to.
    pub(crate) withheld: Arc<ArcSwap<Vec<SocketAddr>>>,
    pub(crate) counters: Sharded<WorkerCounters>,
    pub(crate) events: Arc<Events>,
    pub(crate) log: LogSink,
    /// Gives memory that this thread freed back to the system.
    pub(crate) release: fn(),
}

/// What the control thread sees of the process's memory.
pub(crate) struct MemoryState {
    /// As [`Pressure`].
    pub(crate) pressure: AtomicU8,
    /// Bytes, 0 where there is no limit; and those that may be taken before requests are refused.
    pub(crate) limit: AtomicU64,
    pub(crate) used: AtomicU64,
    pub(crate) room: AtomicU64,
}

impl Default for MemoryState {
    fn default() -> MemoryState {
        let none = || AtomicU64::new(0);
        MemoryState { pressure: AtomicU8::new(0), limit: none(), used: none(), room: AtomicU64::new(u64::MAX) }
    }
}

/// What a worker is told.
pub(crate) enum Command {
    /// Accept on this socket.
    Listen(Socket),
    /// Stop accepting on the socket of this key, then say so.
    Unlisten(String, SyncSender<()>),
    /// The snapshot changed, or the process drains: let connections notice.
    Notice,
    /// End.
    Stop,
}

/// The snapshot as this worker uses it.
pub(crate) struct Local {
    pub(crate) version: u64,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) upstreams: Vec<LocalUpstream>,
}

/// What an endpoint is and how it is spoken to: its id, that of its TLS, and the protocol.
type Manner = (u64, Option<u64>, UpstreamProtocol);

/// The state of one worker.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) buffers: Rc<Buffers>,
    pub(crate) pipes: SystemPipes,
    pub(crate) records: RefCell<RecordBatch>,
    /// Connections that keep their burst while they wait for a next request.
    pub(crate) lingering: Cell<usize>,
    /// Copies of requests that are under way.
    pub(crate) copies: Cell<u64>,
    /// Where datagrams are while they are passed on.
    pub(crate) datagrams: Room,
    /// Where clients of forward proxies go.
    pub(crate) origins: Origins,
    /// And what it stands for them with.
    pub(crate) leaves: Leaves,
    /// Clients' TLS handshakes that are under way.
    pub(crate) handshakes: Rc<Handshakes>,
    local: RefCell<Option<Rc<Local>>>,
    /// What `local` was before: a listener that is gone answers what it had been asked.
    previous: RefCell<Option<Rc<Local>>>,
    sweep_at: Cell<Tick>,
    /// Nobody gets a connection that was made in another manner (safety.md 72).
    endpoints: RefCell<AHashMap<Manner, Rc<LocalEndpoint>>>,
    /// By upstream.
    lasting: RefCell<AHashMap<u64, Lasting>>,
    dice: Cell<u64>,
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>, woke: Woke) -> Rc<Worker> {
        Rc::new(Worker {
            index,
            shared,
            clock: Clock::new(woke),
            buffers: Buffers::new(),
            pipes: SystemPipes::default(),
            records: RefCell::default(),
            lingering: Cell::new(0),
            copies: Cell::new(0),
            datagrams: Room::default(),
            origins: Origins::default(),
            leaves: Leaves::default(),
            handshakes: Rc::default(),
            local: RefCell::default(),
            previous: RefCell::default(),
            sweep_at: Cell::default(),
            endpoints: RefCell::default(),
            lasting: RefCell::default(),
            dice: Cell::new(seed()),
        })
    }

    pub(crate) fn counters(&self) -> &WorkerCounters {
        self.shared.counters.of(self.index)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.shared.leaving.load(Ordering::Relaxed)
    }

    /// Whether memory is short: connections end with their answer.
    pub(crate) fn is_pressed(&self) -> bool {
        self.shared.memory.pressure.load(Ordering::Relaxed) >= Pressure::Shedding as u8
    }

    /// Whether nothing new is taken in, because there is no memory for it.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.shared.memory.pressure.load(Ordering::Relaxed) >= Pressure::Over as u8 || self.buffers.is_overdrawn()
    }

    /// The number of the running configuration; 0 before the first.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// The running configuration; `None` before the first.
    pub(crate) fn local(&self) -> Option<Rc<Local>> {
        let version = self.version();
        if let Some(local) = self.local.borrow().as_ref()
            && local.version == version
        {
            return Some(Rc::clone(local));
        }
        let snapshot = self.shared.snapshot.load_full()?;
        let local = Rc::new(self.localise(snapshot, version));
        let previous = self.local.borrow_mut().replace(Rc::clone(&local));
        // A command may have changed the endpoints of the same configuration: the one before it is still the one before.
        if !previous.as_ref().is_some_and(|previous| Arc::ptr_eq(&previous.snapshot, &local.snapshot)) {
            *self.previous.borrow_mut() = previous;
        }
        Some(local)
    }

    /// The configuration to serve a listener by, and whether that is for the last time: the listener is gone from the running
    /// one.
    pub(crate) fn local_of(&self, listener: u64) -> Option<(Rc<Local>, bool)> {
        let local = self.local()?;
        if local.snapshot.listener(listener).is_some() {
            return Some((local, false));
        }
        let previous = self.previous.borrow().clone()?;
        previous.snapshot.listener(listener).is_some().then_some((previous, true))
    }

    /// A random number (SplitMix64): for balance, splits and request ids, not for secrets.
    pub(crate) fn random(&self) -> u64 {
        let state = self.dice.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.dice.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 16 random bytes, not for secrets.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        let (high, low) = (u128::from(self.random()), u128::from(self.random()));
        (high << 64 | low).to_be_bytes()
    }

    /// A new request id: 128 random bits in hexadecimal.
    pub(crate) fn request_id(&self) -> [u8; 32] {
        let mut id = [0; 32];
        for (word, number) in id.as_chunks_mut::<16>().0.iter_mut().zip([self.random(), self.random()]) {
            *word = hexadecimal(number);
        }
        id
    }

    /// Pools and what was seen of endpoints live on for those that the new snapshot still names.
    fn localise(&self, snapshot: Arc<Snapshot>, version: u64) -> Local {
        let (mut before, now) = (self.lasting.take(), Instant::now());
        let mut lasting = AHashMap::with_capacity(before.len());
        let mut known = self.endpoints.borrow_mut();
        let mut kept = AHashMap::with_capacity(known.len());
        let endpoints: usize = snapshot.upstreams.iter().map(|upstream| upstream.endpoints.len()).sum();
        // All origins together have as many as one endpoint.
        let origins = usize::from(snapshot.listeners.iter().any(|listener| listener.forward.is_some()));
        let pooled = limit::pooled_each(self.shared.connections_each.load(Ordering::Relaxed), endpoints + origins);
        self.origins.allow(if origins > 0 { pooled } else { 0 });
        let upstreams = snapshot.upstreams.iter().map(|upstream| {
            let tls = upstream.tls.as_ref();
            let endpoints = upstream.endpoints.iter().map(|endpoint| {
                let key = (endpoint.id, tls.map(|tls| tls.id), upstream.plan.protocol);
                let local = known
                    .get(&key)
                    .cloned()
                    .unwrap_or_else(|| LocalEndpoint::new(Arc::clone(endpoint), tls, self.index));
                local.most_pooled.set(pooled);
                local.most_idle.set(usize::from(upstream.plan.limits.idle_connections));
                kept.insert(key, Rc::clone(&local));
                local
            });
            let id = upstream.shared.id;
            let kept = before.remove(&id).unwrap_or_else(|| Lasting::new(now));
            lasting.insert(id, kept.clone());
            let bound = (&**upstream.tables(), upstream.affinity.as_ref());
            LocalUpstream::new(&upstream.plan, endpoints.collect(), bound, kept)
        });
        let upstreams = upstreams.collect();
        for (key, endpoint) in known.iter() {
            if !kept.contains_key(key) {
                endpoint.clear();
            }
        }
        *known = kept;
        *self.lasting.borrow_mut() = lasting;
        Local { version, snapshot, upstreams }
    }

    /// Let go of the configuration before this one, once the requests that came under it were seen.
    fn forget_previous_soon(self: &Rc<Self>) {
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let version = worker.local().map(|local| local.version);
            tokio::time::sleep(REMEMBERED).await;
            if worker.local().map(|local| local.version) == version {
                *worker.previous.borrow_mut() = None;
            }
        });
    }

    /// Close all unused connections to endpoints.
    pub(crate) fn shed_pools(&self) {
        let shed: usize = self.endpoints.borrow().values().map(|endpoint| endpoint.shed()).sum();
        self.counters().shed_pooled.add((shed + self.origins.shed()) as u64);
    }

    /// Give back what nobody needs now, if memory is short; and take this worker's part of what is left.
    fn make_room(&self) {
        let (room, pressed) = (self.shared.memory.room.load(Ordering::Relaxed), self.is_pressed());
        let part = if room == u64::MAX { room } else { room / self.shared.counters.len() as u64 };
        self.buffers.allow(part, pressed);
        let (each, open) = (self.shared.connections_each.load(Ordering::Relaxed), self.counters().connections.get());
        self.pipes.allow(if pressed { 0 } else { limit::pipes(each, open) });
        self.counters().lent.set(self.buffers.lent());
        if pressed {
            self.shed_pools();
            self.clock.shed(usize::MAX);
        }
    }

    fn sweep(&self) {
        self.counters().ticks.add(1);
        self.make_room();
        self.clock.sweep(Instant::now());
        self.shared.log.flush(&mut self.records.borrow_mut(), self.counters());
        if let Some(local) = self.local.borrow().as_ref() {
            for (upstream, settings) in local.upstreams.iter().zip(&local.snapshot.upstreams) {
                settings.circuit.iter().for_each(|circuit| upstream.make_room(circuit));
            }
        }
        if self.clock.now() >= self.sweep_at.get() {
            self.sweep_at.set(self.clock.after(SWEEP));
            self.pipes.rest();
            if self.buffers.rest() {
                (self.shared.release)();
            }
            self.endpoints.borrow().values().for_each(|endpoint| endpoint.sweep(&self.clock));
            self.origins.sweep(&self.clock);
            if let Some(local) = self.local.borrow().as_ref() {
                let upstreams = local.upstreams.iter().zip(&local.snapshot.upstreams);
                upstreams.for_each(|(upstream, settings)| upstream.reweigh(&settings.plan, &settings.tables()));
            }
        }
    }
}

/// Run a worker until it is told to stop.
pub(crate) fn run(
    index: usize,
    shared: Arc<Shared>,
    (runtime, woke): (&LocalRuntime, Woke),
    commands: mpsc::UnboundedReceiver<Command>,
) {
    let worker = Worker::new(index, shared, woke);
    worker.counters().thread.set(thread_id());
    runtime.block_on(async {
        tokio::task::spawn_local(tick(Rc::clone(&worker)));
        obey(&worker, commands).await;
    });
    worker.shared.log.flush(&mut worker.records.borrow_mut(), worker.counters());
}

async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        interval.tick().await;
        worker.sweep();
    }
}

async fn obey(worker: &Rc<Worker>, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut accepting: AHashMap<String, (AbortHandle, Listening)> = AHashMap::new();
    while let Some(command) = commands.recv().await {
        match command {
            Command::Listen(socket) => {
                let key = socket.key.clone();
                match listen::begin(worker, socket) {
                    Ok(begun) => {
                        accepting.insert(key, begun);
                    }
                    Err(error) => worker.shared.events.add(
                        crate::observe::events::Level::Error,
                        "listener",
                        format!("worker {} cannot accept on {key}: {error}", worker.index),
                        &[],
                    ),
                }
            }
            Command::Unlisten(key, done) => {
                if let Some((task, listening)) = accepting.remove(&key) {
                    task.abort();
                    listening.close();
                }
                let _ = done.try_send(());
            }
            Command::Notice => {
                worker.local();
                worker.clock.wake_all();
                worker.forget_previous_soon();
            }
            Command::Stop => return,
        }
    }
}

/// The kernel's number of this thread; 0 where there is no `/proc`.
fn thread_id() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").unwrap_or_default();
    link.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

/// The digits of a number, the lowest first within each half.
fn hexadecimal(number: u64) -> [u8; 16] {
    let half = |digits: u64| {
        // Each digit of 32 bits goes to a byte of its own; from 10 on, letters begin 39 behind where digits end.
        let spread = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = (spread.wrapping_add(0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        spread.wrapping_add(0x3030_3030_3030_3030).wrapping_add(letters.wrapping_mul(39))
    };
    let (low, high) = (half(number & 0xffff_ffff), half(number >> 32));
    (u128::from(high) << 64 | u128::from(low)).to_le_bytes()
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
