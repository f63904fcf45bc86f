//! Whether one more connection is taken in. Counted once when it comes and once when it goes, never for a request.

mod pace;

pub(crate) use pace::Pace;

use crate::snapshot::{Listener, SharedListener};
use crate::worker::Worker;
use ahash::AHashMap;
use penstock_rules::error::Kind;
use penstock_rules::http::forwarded;
use penstock_rules::limit;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

/// What a connection can be refused for, in the order of `ListenerCounters::refused`.
pub(crate) const REASONS: [Kind; 7] = [
    Kind::TooManyConnections,
    Kind::TooManyPerClient,
    Kind::ConnectionRate,
    Kind::ConnectionRatePerClient,
    Kind::SessionRate,
    Kind::OutOfDescriptors,
    Kind::Overloaded,
];

/// Idle connections that are closed at once to make room: enough that not every new connection looks for one.
const LEAST_SHED: u64 = 4;

/// A connection's place among those that are open, or that of a session of datagrams, until it is dropped.
pub(crate) struct Place {
    pub(crate) listener: Arc<SharedListener>,
    worker: Rc<Worker>,
    client: Option<IpAddr>,
    /// Of datagrams.
    is_session: bool,
}

/// Take a connection of `peer` in.
///
/// # Errors
/// One of [`REASONS`]; it is counted.
pub(crate) fn admit(worker: &Rc<Worker>, listener: Arc<SharedListener>, peer: Option<IpAddr>) -> Result<Place, Kind> {
    let counters = listener.counters.of(worker.index);
    match look(worker, &listener, peer) {
        Ok(client) => {
            counters.accepted.add(1);
            counters.open.add(1);
            worker.counters().connections.add(1);
            Ok(Place { listener, worker: Rc::clone(worker), client, is_session: false })
        }
        Err(kind) => {
            refused(worker, &listener, kind);
            Err(kind)
        }
    }
}

/// Take a session of datagrams in. To make room for it in its table, and to count it as accepted then, is its worker's business.
///
/// # Errors
/// One of [`REASONS`]; it is counted.
pub(crate) fn admit_session(
    worker: &Rc<Worker>,
    listener: Arc<SharedListener>,
    settings: &Listener,
    client: IpAddr,
) -> Result<Place, Kind> {
    let client = look_at_session(worker, settings, client).inspect_err(|kind| refused(worker, &listener, *kind))?;
    listener.counters.of(worker.index).open.add(1);
    worker.counters().sessions.add(1);
    listener.open.fetch_add(1, Relaxed);
    Ok(Place { listener, worker: Rc::clone(worker), client, is_session: true })
}

fn look_at_session(worker: &Worker, settings: &Listener, client: IpAddr) -> Result<Option<IpAddr>, Kind> {
    if worker.is_overloaded() {
        return Err(Kind::Overloaded);
    }
    let Some(limits) = settings.plan.datagrams else { return Ok(None) };
    let (shared, client) = (&settings.shared, limit::client_of(client));
    // Its own first: who comes too often takes nothing of what all have together.
    if limits.session_rate_per_client.is_some_and(|rate| !shared.pace.admit_of(&rate, client))
        || limits.session_rate.is_some_and(|rate| !shared.pace.admit(&rate))
    {
        return Err(Kind::SessionRate);
    }
    match limits.sessions_per_client {
        Some(most) if !shared.clients.enter(client, most) => Err(Kind::TooManyPerClient),
        limited => Ok(limited.map(|_| client)),
    }
}

/// Whether there is no descriptor for a session of datagrams that was just taken in. Connections do not make room for those: who sends
/// them may be nobody.
pub(crate) fn lacks_descriptors(worker: &Worker) -> bool {
    let most = worker.shared.connections_each.load(Relaxed);
    worker.counters().sessions.get() > most || taken(worker) > most
}

/// Connections that are open, and as many as sessions of datagrams take the descriptors of.
fn taken(worker: &Worker) -> u64 {
    worker.counters().connections.get() + limit::connections_for(worker.counters().sessions.get())
}

impl Place {
    /// Count the connection for the client that its proxy speaks for, if that is limited.
    ///
    /// # Errors
    /// `TooManyPerClient` or `ConnectionRatePerClient`; it is counted.
    pub(crate) fn count_for(&mut self, settings: &Listener, client: IpAddr) -> Result<(), Kind> {
        self.client = enter(settings, client).inspect_err(|kind| refused(&self.worker, &self.listener, *kind))?;
        Ok(())
    }
}

/// Count a connection that was not taken in.
pub(crate) fn refused(worker: &Worker, listener: &SharedListener, kind: Kind) {
    let counters = &listener.counters.of(worker.index).refused;
    if let Some(counter) = REASONS.iter().position(|reason| *reason == kind).and_then(|at| counters.get(at)) {
        counter.add(1);
    }
    worker.counters().fail(kind);
}

/// Count the connection where counts are shared; the client that it is to be counted for again when it goes.
fn look(worker: &Worker, listener: &SharedListener, peer: Option<IpAddr>) -> Result<Option<IpAddr>, Kind> {
    if worker.is_overloaded() {
        return Err(Kind::Overloaded);
    }
    let local = worker.local();
    let settings = local.as_ref().and_then(|local| Some(local.snapshot.listener(listener.id)?.1));
    if let Some(rate) = settings.and_then(|settings| settings.plan.limits.connection_rate)
        && !listener.pace.admit(&rate)
    {
        return Err(Kind::ConnectionRate);
    }
    let most = settings.and_then(|settings| settings.plan.limits.connections).map_or(u64::MAX, u64::from);
    if listener.open.fetch_add(1, Relaxed) >= most {
        listener.open.fetch_sub(1, Relaxed);
        return Err(Kind::TooManyConnections);
    }
    let client = match (settings, peer) {
        // Who speaks for others is counted as who they are, once that is known.
        (Some(settings), Some(peer)) if !settings.senders.as_ref().is_some_and(|one| one.include(Some(peer))) => {
            enter(settings, peer)
        }
        _ => Ok(None),
    };
    // Last, so that nobody makes room for a connection that is refused anyway.
    let outcome = client.and_then(|client| {
        make_room(worker).inspect_err(|_| client.iter().for_each(|client| listener.clients.leave(*client)))?;
        Ok(client)
    });
    if outcome.is_err() {
        listener.open.fetch_sub(1, Relaxed);
    }
    outcome
}

/// Count the connection for its client, if that is limited.
fn enter(settings: &Listener, peer: IpAddr) -> Result<Option<IpAddr>, Kind> {
    let limits = &settings.plan.limits;
    if limits.connections_per_client.is_none() && limits.connection_rate_per_client.is_none() {
        return Ok(None);
    }
    // A proxy that is believed speaks for many clients.
    if forwarded::is_trusted(peer, &settings.trusted) {
        return Ok(None);
    }
    let client = limit::client_of(peer);
    if let Some(rate) = limits.connection_rate_per_client
        && !settings.shared.pace.admit_of(&rate, client)
    {
        return Err(Kind::ConnectionRatePerClient);
    }
    let Some(most) = limits.connections_per_client else { return Ok(None) };
    if settings.shared.clients.enter(client, most) { Ok(Some(client)) } else { Err(Kind::TooManyPerClient) }
}

/// See that there is a descriptor for one more connection and its endpoint: the connections that are idle longest give way.
fn make_room(worker: &Worker) -> Result<(), Kind> {
    let most = worker.shared.connections_each.load(Relaxed);
    let open = taken(worker);
    if open.saturating_sub(worker.clock.shedding() as u64) < most {
        return Ok(());
    }
    let batch = usize::try_from((most / 64).max(LEAST_SHED)).unwrap_or(usize::MAX);
    if worker.clock.shed(batch) > 0 { Ok(()) } else { Err(Kind::OutOfDescriptors) }
}

impl Drop for Place {
    fn drop(&mut self) {
        let counters = self.worker.counters();
        let open = if self.is_session { &counters.sessions } else { &counters.connections };
        open.subtract(1);
        self.listener.open.fetch_sub(1, Relaxed);
        self.listener.counters.of(self.worker.index).open.subtract(1);
        if let Some(client) = self.client {
            self.listener.clients.leave(client);
        }
    }
}

/// Open connections by client, of all workers. Touched only where `connections_per_client` is set.
#[derive(Debug)]
pub(crate) struct Clients([Mutex<AHashMap<IpAddr, u32>>; PARTS]);

/// Workers that count different clients seldom meet at the same lock.
const PARTS: usize = 16;

impl Default for Clients {
    fn default() -> Clients {
        Clients(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Clients {
    /// Count one more for `client`, unless it has `most` already.
    fn enter(&self, client: IpAddr, most: u32) -> bool {
        let mut counts = self.part(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        let admitted = *count < most;
        *count += u32::from(admitted);
        admitted
    }

    fn leave(&self, client: IpAddr) {
        let mut counts = self.part(client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&client) {
            *count = count.saturating_sub(1);
            // Only clients that are here take memory.
            if *count == 0 {
                counts.remove(&client);
            }
        }
    }

    fn part(&self, client: IpAddr) -> &Mutex<AHashMap<IpAddr, u32>> {
        let bytes = match client {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        // Fibonacci hashing: neighbours go to different parts. Who finds others of one part gains a busier lock, no more.
        &self.0[(bytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_exactly_by_many_threads() {
        let clients = Clients::default();
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..100).filter(|_| clients.enter(client, 250)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 250);
        assert!(clients.enter("192.0.2.2".parse().unwrap(), 1));
        (0..250).for_each(|_| clients.leave(client));
        assert!(clients.part(client).lock().unwrap().get(&client).is_none());
        assert!(clients.enter(client, 1) && !clients.enter(client, 1));
    }
}
