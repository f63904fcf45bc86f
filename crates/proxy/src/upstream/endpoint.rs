//! One endpoint as all workers know it, and as one worker uses it.

use super::channel::Channels;
use super::duty::{Duty, Entry};
use super::local::InFlight;
use super::opened::{Only, Opened};
use super::outlier::Standing;
use super::queue::Gate;
use crate::clock::{Clock, Tick};
use crate::observe::metrics::{EndpointCounters, Sharded};
use crate::stream::Stream;
use crate::tls::{Secure, UpstreamTls};
use arc_swap::ArcSwap;
use penstock_plan::Start;
use penstock_rules::balance::Latency;
use penstock_rules::health::{Avoidance, Change, Health, Probed, State};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An endpoint as all workers know it. Plans that name it again share it, so that health and counters outlive a reload.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Unique in the process; the key of what workers keep for it.
    pub(crate) id: u64,
    /// As configured.
    pub(crate) address: String,
    pub(crate) place: Place,
    pub(crate) counters: Sharded<EndpointCounters>,
    /// That of `health`, for workers: a [`State`] as a number.
    state: AtomicU8,
    health: Mutex<Health>,
    /// What requests say of it.
    pub(crate) standing: Standing,
    pub(crate) duty: Duty,
}

/// Where an endpoint is reached.
#[derive(Debug)]
pub(crate) enum Place {
    /// The addresses of a name or the one that was configured; empty while the name has none.
    Tcp {
        name: Option<(String, u16)>,
        addresses: ArcSwap<Vec<SocketAddr>>,
    },
    Unix(PathBuf),
}

impl Endpoint {
    /// Its address is `host:port` or `unix:/path`; `None` if it is neither. `start`: whether it waits for its first probe.
    pub(crate) fn new(
        id: u64,
        plan: &penstock_plan::Endpoint,
        (workers, start): (usize, Start),
        gate: &Arc<Gate>,
    ) -> Option<Endpoint> {
        let address = plan.address.as_str();
        let place = if let Some(path) = address.strip_prefix("unix:") {
            Place::Unix(path.into())
        } else if let Ok(address) = address.parse::<SocketAddr>() {
            Place::Tcp { name: None, addresses: ArcSwap::from_pointee(vec![address]) }
        } else {
            let (name, port) = address.rsplit_once(':')?;
            Place::Tcp { name: Some((name.to_owned(), port.parse().ok()?)), addresses: ArcSwap::default() }
        };
        Some(Endpoint {
            id,
            address: address.to_owned(),
            place,
            counters: Sharded::new(workers),
            state: AtomicU8::new(number(Health::new(start, Instant::now()).state())),
            health: Mutex::new(Health::new(start, Instant::now())),
            standing: Standing::new(),
            duty: Duty::new(plan, Arc::clone(gate)),
        })
    }

    /// An origin that clients of a forward proxy name: one worker knows it, and learns its addresses when it connects, if it is that
    /// which does.
    pub(crate) fn of_origin(
        id: u64,
        plan: &penstock_plan::Endpoint,
        is_direct: bool,
        gate: &Arc<Gate>,
    ) -> Option<Endpoint> {
        let (name, port) = plan.address.rsplit_once(':')?;
        let name = (name.to_owned(), port.parse().ok()?);
        let place = Place::Tcp { name: Some(name).filter(|_| is_direct), addresses: ArcSwap::default() };
        Some(Endpoint {
            id,
            address: plan.address.clone(),
            place,
            counters: Sharded::new(1),
            state: AtomicU8::new(UP),
            health: Mutex::new(Health::new(Start::Up, Instant::now())),
            standing: Standing::new(),
            duty: Duty::new(plan, Arc::clone(gate)),
        })
    }

    /// Whether its probes, or that it has none behind it yet, keep requests from it.
    pub(crate) fn is_down(&self) -> bool {
        self.state.load(Relaxed) != UP
    }

    /// Whether it gets no requests: it is down, or ejected.
    pub(crate) fn is_out(&self, now: Instant) -> bool {
        self.is_down() || self.standing.is_ejected(now)
    }

    /// For how long it has been up, or back from an ejection.
    pub(crate) fn up_for(&self, now: Instant) -> Duration {
        let health = self.health();
        let up = match health.state() {
            State::Up => now.saturating_duration_since(health.since()),
            State::Down | State::Starting => Duration::ZERO,
        };
        self.standing.back_for(now).map_or(up, |back| back.min(up))
    }

    /// Whether it waits for its first probe: then it takes no request even where all others are down.
    pub(crate) fn is_starting(&self) -> bool {
        self.state.load(Relaxed) == STARTING
    }

    pub(crate) fn health(&self) -> Health {
        *self.locked()
    }

    /// Take in a probe; the change of state, if it makes one.
    pub(crate) fn observe(&self, probed: Probed, fall: u8, rise: u8) -> Option<Change> {
        self.with_health(|health| health.observe(probed, fall, rise))
    }

    /// Probes begin, or go on under another plan: what was found before still holds.
    pub(crate) fn begin_probes(&self, start: Start) {
        self.with_health(|health| {
            if health.state() == State::Starting && start == Start::Up {
                *health = Health::new(start, Instant::now());
            }
        });
    }

    /// Nobody probes it any more: it is not known to be down.
    pub(crate) fn forget_probes(&self) {
        self.with_health(|health| {
            if health.last().is_some() || health.state() != State::Up {
                *health = Health::new(Start::Up, Instant::now());
            }
        });
    }

    fn with_health<T>(&self, change: impl FnOnce(&mut Health) -> T) -> T {
        let mut health = self.locked();
        let changed = change(&mut health);
        self.state.store(number(health.state()), Relaxed);
        changed
    }

    fn locked(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const UP: u8 = 0;
const DOWN: u8 = 1;
const STARTING: u8 = 2;

fn number(state: State) -> u8 {
    match state {
        State::Up => UP,
        State::Down => DOWN,
        State::Starting => STARTING,
    }
}

/// An unused connection to an endpoint.
struct Idle {
    opened: Opened,
    since: Tick,
    until: Tick,
}

/// Connections that a worker keeps to one endpoint between two sweeps, however few it keeps for longer: requests that come in
/// waves find the connections of the last wave.
const WAVE: usize = 1024;
/// A connection unused for so long is not part of a wave any more.
const LEFT_OVER: Duration = Duration::from_secs(1);

/// An endpoint as one worker uses it: its pool and what the worker has seen of it.
pub(crate) struct LocalEndpoint {
    pub(crate) shared: Arc<Endpoint>,
    /// How it is spoken to, where that is with TLS.
    pub(crate) secure: Option<Secure>,
    worker: usize,
    pool: RefCell<Vec<Idle>>,
    /// Where it is spoken to in HTTP/2.
    pub(crate) channels: Channels,
    pub(super) in_flight: Cell<u32>,
    /// Ejections so far, and how many requests that are under way began after the last.
    pub(super) since_ejection: Cell<(u32, u32)>,
    latency: Latency,
    /// Ejections after which `latency` was measured.
    ejections: Cell<u32>,
    pub(super) avoidance: Avoidance,
    next_address: Cell<usize>,
    /// Unused connections that are kept, and those that there are descriptors for.
    pub(crate) most_idle: Cell<usize>,
    pub(crate) most_pooled: Cell<usize>,
}

impl LocalEndpoint {
    pub(crate) fn new(shared: Arc<Endpoint>, tls: Option<&Arc<UpstreamTls>>, worker: usize) -> Rc<LocalEndpoint> {
        Rc::new(LocalEndpoint {
            // A snapshot whose endpoints have no name for TLS is refused.
            secure: tls.and_then(|tls| Secure::new(tls, &shared.address)),
            shared,
            worker,
            pool: RefCell::default(),
            channels: Channels::default(),
            in_flight: Cell::new(0),
            since_ejection: Cell::default(),
            latency: Latency::default(),
            ejections: Cell::default(),
            avoidance: Avoidance::default(),
            next_address: Cell::new(0),
            most_idle: Cell::new(0),
            most_pooled: Cell::new(0),
        })
    }

    /// Requests under way, of this worker.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Unused connections.
    pub(crate) fn idle(&self) -> usize {
        self.pool.borrow().len()
    }

    pub(crate) fn counters(&self) -> &EndpointCounters {
        self.shared.counters.of(self.worker)
    }

    /// The connection for this, or for anything, used last that is still quiet; whatever is not is closed (safety.md 69). `surely`: the
    /// system is asked, not only the event loop.
    #[inline]
    pub(crate) fn take_idle(&self, only: Option<&Only>, surely: bool) -> Option<Opened> {
        let mut pool = self.pool.borrow_mut();
        let mut found = None;
        while let Some(at) = pool.iter().rposition(|idle| idle.opened.only.as_deref() == only) {
            let idle = pool.remove(at);
            let stream = &idle.opened.stream;
            if !(stream.is_disturbed() || (surely && stream.has_ended())) {
                found = Some(idle.opened);
                break;
            }
        }
        self.counters().idle.set(pool.len() as u64);
        found
    }

    /// Keep a connection for the next request, for up to `wait`.
    pub(crate) fn give_back(&self, opened: Opened, clock: &Clock, wait: Duration) {
        let mut pool = self.pool.borrow_mut();
        let room = pool.len() < WAVE.min(self.most_pooled.get()) && self.most_idle.get() > 0;
        if room && self.is_current(&opened) {
            pool.push(Idle { opened, since: clock.now(), until: clock.after(wait) });
        }
        self.counters().idle.set(pool.len() as u64);
    }

    /// Close what was unused for too long or closed by the endpoint, and what is left over beyond the limit, the oldest first.
    pub(crate) fn sweep(&self, clock: &Clock) {
        let mut pool = self.pool.borrow_mut();
        if !pool.is_empty() {
            let now = clock.now();
            pool.retain(|idle| idle.until > now && !idle.opened.stream.is_disturbed() && self.is_current(&idle.opened));
            let left_over = pool.partition_point(|idle| idle.since.saturating_add(Clock::ticks(LEFT_OVER)) <= now);
            let surplus = left_over.min(pool.len().saturating_sub(self.most_idle.get()));
            pool.drain(..surplus);
        }
        self.channels.sweep(clock.now(), self.most_idle.get(), |link| {
            link.look(|stream| self.is_believed(stream) && self.has_address_of(stream))
        });
        self.counters().idle.set((pool.len() + self.channels.idle()) as u64);
    }

    /// Whether the name still has the address that this connection goes to (safety.md 179), and the one who was believed there would
    /// still be.
    fn is_current(&self, Opened { stream, only, .. }: &Opened) -> bool {
        // Of a way it was the origin that had to prove itself last.
        let is_way = matches!(only.as_deref(), Some(Only::Way(_)));
        (is_way || self.is_believed(stream)) && self.has_address_of(stream)
    }

    fn is_believed(&self, stream: &Stream) -> bool {
        match (&self.secure, stream) {
            (Some(secure), Stream::Tls(stream)) => secure.is_current(stream),
            _ => true,
        }
    }

    fn has_address_of(&self, stream: &Stream) -> bool {
        match &self.shared.place {
            Place::Tcp { name: Some(_), addresses } => {
                stream.peer().is_none_or(|peer| addresses.load().contains(&peer))
            }
            _ => true,
        }
    }

    /// Close all unused connections, to make room; how many there were.
    pub(crate) fn shed(&self) -> usize {
        self.counters().idle.set(0);
        self.pool.borrow_mut().drain(..).count() + self.channels.shed()
    }

    /// Close the connection that was unused for longest; whether there was one.
    pub(crate) fn shed_one(&self) -> bool {
        let mut pool = self.pool.borrow_mut();
        let found = !pool.is_empty();
        pool.drain(..usize::from(found));
        self.counters().idle.set(pool.len() as u64);
        found || self.channels.shed_one()
    }

    /// Close all unused connections, and keep no more.
    pub(crate) fn clear(&self) {
        // An exchange under way on an older snapshot may still give one back.
        self.most_idle.set(0);
        self.pool.borrow_mut().clear();
        self.channels.clear();
        self.counters().idle.set(0);
    }

    /// The addresses to try, beginning with another one each time.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let Place::Tcp { addresses, .. } = &self.shared.place else { return Vec::new() };
        let mut addresses = addresses.load().to_vec();
        if addresses.len() > 1 {
            let first = self.next_address.get() % addresses.len();
            self.next_address.set(first + 1);
            addresses.rotate_left(first);
        }
        addresses
    }

    /// What this worker has seen of its latency. An ejection ends what was seen before it: an endpoint that was slow would otherwise be
    /// kept out by that for a minute after it was let in again.
    pub(super) fn latency(&self, now: Instant) -> Option<f32> {
        let ejections = self.shared.standing.ejections();
        if self.ejections.replace(ejections) != ejections {
            self.latency.forget();
        }
        self.latency.value(now)
    }

    /// Requests under way that began after the last ejection.
    pub(super) fn in_flight_since_ejection(&self) -> u32 {
        let (ejections, count) = self.since_ejection.get();
        if ejections == self.shared.standing.ejections() { count } else { 0 }
    }

    /// A request goes to the endpoint, until what is returned is dropped; `None` if it has as many as it may.
    #[inline]
    pub(crate) fn begin(self: &Rc<Self>) -> Option<InFlight> {
        let entry = self.shared.duty.enter();
        if entry == Entry::Full {
            return None;
        }
        self.in_flight.set(self.in_flight.get() + 1);
        self.counters().in_flight.add(1);
        self.counters().requests.add(1);
        let ejections = self.shared.standing.ejections();
        self.since_ejection.set((ejections, self.in_flight_since_ejection() + 1));
        Some(InFlight { endpoint: Rc::clone(self), ejections, counted: entry == Entry::Counted, waits_since: None })
    }

    /// The endpoint answered, after `wait` if it had the whole request by then.
    #[inline]
    pub(crate) fn answered(&self, wait: Option<Duration>, now: Instant) {
        if let Some(wait) = wait {
            let counters = self.counters();
            counters.latency.set(self.latency.observe(wait, now) as u64);
            counters.answers.add(1);
            counters.latency_sum.add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX));
        }
        self.avoidance.succeeded();
    }

    /// The endpoint could not be reached.
    pub(crate) fn unreachable(&self, now: Instant) {
        self.avoidance.failed(now);
    }
}
