//! Sessions of layer 4: a connection of a client and one to an endpoint, and bytes between them that nobody reads. The same steps
//! as those of an exchange, as far as there is no request: 1 admit (where it was accepted), 2 route, 4 pick, 5 connect, 7 relay,
//! 9 record.
//!
//! What it takes to open a session is given back when it is open: what stays is small and holds no snapshot, so that a session may
//! last for days and over many reloads.

mod datagrams;
mod hear;
mod line;
mod open;
mod pipe;
mod preread;
mod record;
mod secure;

pub(crate) use datagrams::{Relay, Room};

use crate::admit::Place;
use crate::clock::{Alarm, NEVER, Tick};
use crate::connection;
use crate::contain::contain;
use crate::listen::Accepted;
use crate::snapshot::{SharedListener, SharedRoute, SharedUpstream};
use crate::stream::Stream;
use crate::upstream::circuit::Taken;
use crate::upstream::local::InFlight;
use crate::worker::Worker;
use open::Opened;
use penstock_rules::error::Kind;
use penstock_rules::session::End;
use pipe::{Broken, Pipe};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A session that is open.
struct Session {
    worker: Rc<Worker>,
    alarm: Alarm,
    client: Stream,
    endpoint: Stream,
    /// From the client to the endpoint, and back.
    up: Pipe,
    down: Pipe,
    /// The side that ended first, if one has.
    first: Option<End>,
    /// How long nothing may move, since when nothing did, and when that is looked at.
    idle: Duration,
    moved_at: Tick,
    look_at: Tick,
    /// The version of the configuration under which its listener was looked for, and when the session has to end because it is gone.
    seen: u64,
    leave_at: Tick,
    in_flight: InFlight,
    about: About,
    /// Places that it has until it ends.
    _places: [Option<Taken>; 2],
    place: Place,
}

/// What is told of a session when it ends.
struct About {
    began: Instant,
    peer: Option<SocketAddr>,
    /// The host that its TLS asks for, where that was read.
    sni: Option<Box<str>>,
    upstream: Option<Arc<SharedUpstream>>,
    route: Option<Arc<SharedRoute>>,
    /// Spent in line for a place, and on connecting.
    queued: Duration,
    connect: Duration,
    attempts: u32,
}

/// Serve a connection until it ends. No `async fn`: that keeps its arguments twice.
pub(crate) fn run(worker: Rc<Worker>, accepted: Accepted) -> impl Future<Output = ()> {
    // Boxed, so that an open session keeps no room for it.
    let opening = Box::pin(open::open(Rc::clone(&worker), accepted));
    async move {
        let opened = {
            let mut opening = opening;
            contain(&worker, opening.as_mut()).await
        };
        let mut session = match opened {
            Ok(Some(Opened::Session(session))) => session,
            Ok(Some(Opened::Http(accepted))) => return Box::pin(connection::run(worker, *accepted)).await,
            Ok(None) => return,
            Err(_) => return worker.counters().fail(Kind::Internal),
        };
        let end = contain(&worker, pin!(session.relay())).await;
        session.finish(end.unwrap_or_else(|_| {
            worker.counters().fail(Kind::Internal);
            End::Failed(Kind::Internal)
        }));
    }
}

impl Session {
    fn listener(&self) -> &SharedListener {
        &self.place.listener
    }

    /// Step 7, relay: bytes both ways until both sides have ended, one breaks, or nothing moves for too long. An end is passed on in
    /// its own direction only (safety.md 170).
    fn relay(&mut self) -> impl Future<Output = End> {
        poll_fn(|cx| self.poll(cx))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = (self.up.moved, self.down.moved);
        let Worker { buffers, pipes, .. } = &*self.worker;
        let up = self.up.poll(cx, (buffers, pipes), &mut self.client, &mut self.endpoint);
        let down = self.down.poll(cx, (buffers, pipes), &mut self.endpoint, &mut self.client);
        self.note_end(self.up.is_ending(), End::ClientClosed);
        self.note_end(self.down.is_ending(), End::EndpointClosed);
        self.count(before);
        match (up, down) {
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Receiver))) => {
                return Poll::Ready(self.broken(End::ClientClosed, End::ClientReset));
            }
            (Poll::Ready(Err(Broken::Receiver)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                return Poll::Ready(self.broken(End::EndpointClosed, End::EndpointReset));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                return Poll::Ready(self.first.unwrap_or(End::ClientClosed));
            }
            _ => {}
        }
        self.look_for_listener();
        if self.worker.is_leaving() || self.worker.clock.now() >= self.leave_at {
            return Poll::Ready(End::Shutdown);
        }
        self.check_idle()
    }

    fn note_end(&mut self, ending: bool, end: End) {
        if ending {
            self.first.get_or_insert(end);
        }
    }

    /// A side that had ended before has closed; one that had not is broken. Either way the other side is not told of an end in
    /// order: what it got may not be all.
    fn broken(&self, closed: End, reset: End) -> End {
        if self.first == Some(closed) { closed } else { reset }
    }

    /// Count what was moved, and remember when.
    fn count(&mut self, (up, down): (u64, u64)) {
        let (up, down) = (self.up.moved - up, self.down.moved - down);
        if up == 0 && down == 0 {
            return;
        }
        self.moved_at = self.worker.clock.now();
        let counters = self.place.listener.counters.of(self.worker.index);
        counters.bytes_in.add(up);
        counters.bytes_out.add(down);
        if down > 0 && self.down.moved == down {
            // Its first words.
            self.in_flight.endpoint.shared.standing.succeeded(Instant::now());
        }
    }

    /// Once a reload has taken its listener away, a session has the time to drain.
    fn look_for_listener(&mut self) {
        let version = self.worker.version();
        if std::mem::replace(&mut self.seen, version) == version || self.leave_at != NEVER {
            return;
        }
        let Some(local) = self.worker.local() else { return };
        if local.snapshot.listener(self.place.listener.id).is_none() {
            self.leave_at = self.worker.clock.after(local.snapshot.plan.engine.drain_timeout);
            self.alarm.lower(self.leave_at);
        }
    }

    /// The alarm stays where it is while bytes move: it is looked at when it rings.
    fn check_idle(&mut self) -> Poll<End> {
        let clock = &self.worker.clock;
        if clock.now() >= self.look_at {
            let left = self.idle.saturating_sub(crate::clock::Clock::span(clock.now().saturating_sub(self.moved_at)));
            if left.is_zero() {
                return Poll::Ready(End::Idle);
            }
            self.look_at = clock.after(left);
            self.alarm.lower(self.look_at.min(self.leave_at));
        }
        Poll::Pending
    }
}
