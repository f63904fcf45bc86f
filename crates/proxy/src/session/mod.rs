//! Sessions of layer 4: a connection of a client and one to an endpoint, and bytes between them that nobody reads. The same steps
//! as those of an exchange, as far as there is no request: 1 admit (where it was accepted), 2 route, 4 pick, 5 connect, 7 relay,
//! 9 record.
//!
//! What it takes to open a session is given back when it is open: what stays is small and holds no snapshot, so that a session may
//! last for days and over many reloads.

mod datagrams;
mod duplex;
mod hear;
mod line;
mod open;
mod pipe;
mod preread;
mod record;
mod secure;

pub(crate) use datagrams::{Relay, Room};
pub(crate) use duplex::Duplex;

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
    duplex: Duplex,
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

    /// Step 7, relay: bytes both ways until both sides have ended, one breaks, or nothing moves for too long.
    fn relay(&mut self) -> impl Future<Output = End> {
        poll_fn(|cx| self.poll(cx))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let before = self.duplex.moved();
        let Worker { buffers, pipes, clock, .. } = &*self.worker;
        let ends = (&mut self.client, &mut self.endpoint);
        let polled = self.duplex.poll(cx, (buffers, pipes), clock, ends);
        self.count(before);
        if polled.is_ready() {
            return polled;
        }
        self.look_for_listener();
        if self.worker.is_leaving() || self.worker.clock.now() >= self.leave_at {
            return Poll::Ready(End::Shutdown);
        }
        self.duplex.poll_idle(&self.alarm, self.leave_at)
    }

    /// Count what was moved.
    fn count(&self, before: [u64; 2]) {
        let moved = self.duplex.moved();
        if moved == before {
            return;
        }
        let ([up, down], [up_before, down_before]) = (moved, before);
        let counters = self.place.listener.counters.of(self.worker.index);
        counters.bytes_in.add(up - up_before);
        counters.bytes_out.add(down - down_before);
        if down > 0 && down_before == 0 {
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
}
