//! Step 9, record: what is counted and written of a session when it ends.

use super::{About, Session};
use crate::observe::access_log;
use crate::snapshot::SharedListener;
use crate::upstream::endpoint::LocalEndpoint;
use crate::upstream::outlier;
use crate::worker::Worker;
use penstock_rules::error::Kind;
use penstock_rules::health::Cause;
use penstock_rules::session::End;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What went to the endpoint, and to the client.
pub(super) struct Moved {
    pub(super) bytes: [u64; 2],
    /// Where it is datagrams that go.
    pub(super) datagrams: Option<[u64; 2]>,
}

impl About {
    /// Nothing has happened yet.
    pub(super) fn new(peer: Option<SocketAddr>) -> About {
        About {
            began: Instant::now(),
            peer,
            sni: None,
            upstream: None,
            route: None,
            queued: Duration::ZERO,
            connect: Duration::ZERO,
            attempts: 0,
        }
    }

    /// It has ended so, after so much.
    pub(super) fn record(
        &self,
        worker: &Rc<Worker>,
        listener: &SharedListener,
        endpoint: Option<&LocalEndpoint>,
        end: End,
        Moved { bytes: [bytes_in, bytes_out], datagrams }: Moved,
    ) {
        let counters = listener.counters.of(worker.index);
        if let Some(counter) = counters.sessions.get(end.index()) {
            counter.add(1);
        }
        // What the log looks like is decided now, not when the session began.
        let Some(local) = worker.local() else { return };
        let Some(log) = &local.snapshot.plan.access_log else { return };
        let record = access_log::SessionRecord {
            peer: self.peer,
            user: None,
            sni: self.sni.as_deref(),
            listener: &listener.name,
            route: self.route.as_ref().map_or("", |route| &route.name),
            upstream: self.upstream.as_ref().map_or("", |upstream| &upstream.name),
            endpoint: endpoint.map_or("", |endpoint| &endpoint.shared.address),
            bytes_in,
            bytes_out,
            datagrams,
            queued: self.queued,
            connect: self.connect,
            total: self.began.elapsed(),
            attempts: self.attempts,
            open: [worker.counters().connections.get() + worker.counters().sessions.get(), counters.open.get()],
            in_flight: endpoint.map_or(0, |endpoint| endpoint.counters().in_flight.get()),
            end,
        };
        let mut batch = worker.records.borrow_mut();
        access_log::add_session(log.format, &record, &mut batch);
        worker.counters().records.add(1);
        if batch.is_full() {
            worker.shared.log.flush(&mut batch, worker.counters());
        }
    }
}

impl Session {
    /// Close both connections, as each deserves, and tell what was.
    pub(super) fn finish(mut self: Box<Self>, end: End) {
        if !matches!(end, End::ClientClosed | End::EndpointClosed) {
            self.client.break_off();
            self.endpoint.break_off();
        }
        let Worker { buffers, pipes, .. } = &*self.worker;
        self.duplex.let_go((buffers, pipes));
        self.judge(end);
        let moved = Moved { bytes: self.duplex.moved(), datagrams: None };
        self.about.record(&self.worker, self.listener(), Some(&self.in_flight.endpoint), end, moved);
    }

    /// What the end says of the endpoint.
    fn judge(&self, end: End) {
        let endpoint = &self.in_flight.endpoint;
        let [_, answered] = self.duplex.moved();
        if !end.turned_away(answered, self.about.began.elapsed().saturating_sub(self.about.queued)) {
            endpoint.shared.standing.succeeded(Instant::now());
            return;
        }
        self.worker.counters().fail(Kind::UpstreamClosed);
        endpoint.counters().failures.add(1);
        endpoint.unreachable(Instant::now());
        if !self.in_flight.is_current() {
            return;
        }
        let (Some(local), Some(upstream)) = (self.worker.local(), &self.about.upstream) else { return };
        if let Some(settings) = local.snapshot.upstreams.iter().find(|one| one.shared.id == upstream.id) {
            outlier::failed(settings, &endpoint.shared, Cause::Failure(Kind::UpstreamClosed), &self.worker.shared);
        }
    }
}
