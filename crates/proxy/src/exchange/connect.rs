//! Step 5, connect.

use super::course::Course;
use super::{Exchange, Story};
use crate::clock::Clock;
use crate::codec::h1::Waits;
use crate::codec::{Downstream, Upstream};
use crate::snapshot::UpstreamSettings;
use crate::stream::Stream;
use crate::tls::Failure;
use crate::upstream::channel::{Lease, Terms, dial};
use crate::upstream::circuit::Limit;
use crate::upstream::connect::connect;
use crate::upstream::opened::Only;
use penstock_plan::UpstreamProtocol;
use penstock_rules::error::{Error, Kind, Retry, Side};
use penstock_rules::http::{Length, RequestHead};
use penstock_rules::pace::LeastRate;
use penstock_rules::proxy_protocol::{self, Addresses};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;
use tokio::time::timeout_at;

impl Story<'_> {
    /// Step 5, connect: from the pool. A second attempt always connects anew.
    #[inline(always)]
    pub(super) fn pooled(&mut self, request: &RequestHead) -> Option<Stream> {
        let surely = is_single(request);
        let endpoint = &self.endpoint.as_ref()?.endpoint;
        let (announces, only) = (self.upstream?.plan.proxy_protocol.is_some(), self.told().map(Only::Between));
        let pooled = match self.pinned.take() {
            // Of nobody in particular it would have to be told anew.
            _ if announces && only.is_none() => None,
            None if self.attempts == 1 => endpoint.take_idle(only.as_ref(), surely),
            pinned => pinned
                .filter(|opened| opened.only.as_deref() == only.as_ref() && !(surely && opened.stream.has_ended())),
        };
        self.reused = pooled.is_some();
        if self.reused {
            endpoint.counters().reused.add(1);
        }
        let opened = pooled?;
        self.taken = opened.taken;
        Some(opened.stream)
    }

    /// Step 5, connect: anew.
    pub(super) async fn connect(&mut self, course: &Course<'_>, down: &mut impl Downstream) -> Result<Stream, Error> {
        let Exchange { worker, .. } = self.exchange;
        let Some(in_flight) = &self.endpoint else { return Err(Kind::Internal.into()) };
        let endpoint = &in_flight.endpoint;
        self.reason = None;
        self.taken = course.take_connection(worker.index)?;
        let _pending = course.enter(Limit::Pending, worker.index)?;
        let began = Instant::now();
        let wait = course.settings.plan.timeouts.connect;
        let (wait, clock) = (course.patience().map_or(wait, |patience| patience.min(wait)), &worker.clock);
        let mut announced = Vec::new();
        if let Some(version) = course.settings.plan.proxy_protocol {
            proxy_protocol::write(version, self.told().as_ref(), &mut announced);
        }
        let wait = wait.min(clock.until(self.total_by));
        let mut opened = connect(endpoint, Some(UpstreamProtocol::Http1), &worker.buffers, wait, announced).await;
        if let Err(failure) = &mut opened {
            // That we have no descriptor left says nothing of the endpoint.
            if failure.kind == Kind::Exhausted {
                worker.shed_pools();
            } else if failure.kind == Kind::UpstreamTlsFailed && endpoint.channels.is_open() {
                // It was asked in HTTP/1.1 for the sake of an upgrade alone, and speaks HTTP/2.
                failure.kind = Kind::UpgradeUnsupported;
            } else {
                endpoint.unreachable(Instant::now());
            }
        }
        self.note_connect(began, down, opened)
    }

    /// Step 5, connect, in HTTP/2: a place on a connection that is there, or on one that is made for whoever waits for it. `None`: the
    /// endpoint wants HTTP/1.1, and may have it.
    pub(super) async fn lease(
        &mut self,
        course: &Course<'_>,
        down: &mut impl Downstream,
    ) -> Result<Option<Lease>, Error> {
        let Exchange { worker, .. } = self.exchange;
        let Some(in_flight) = &self.endpoint else { return Err(Kind::Internal.into()) };
        let endpoint = Rc::clone(&in_flight.endpoint);
        let terms = Terms::of(&course.settings.plan);
        (self.reason, self.reused) = (None, false);
        if let Some(lease) = endpoint.channels.take(terms.most) {
            self.reused = lease.reused;
            endpoint.counters().reused.add(u64::from(lease.reused));
            return Ok(Some(lease));
        }
        let _pending = course.enter(Limit::Pending, worker.index)?;
        let began = Instant::now();
        let wait = course.patience().map_or(terms.connect, |patience| patience.min(terms.connect));
        let by = began + wait.min(worker.clock.until(self.total_by));
        let opened = loop {
            if let Some(lease) = endpoint.channels.take(terms.most) {
                break Ok(Some(lease));
            }
            if endpoint.channels.has_fallen_back(worker.clock.now()) {
                break Ok(None);
            }
            let dial = match endpoint.channels.dialed(terms.most) {
                Some(dial) => dial,
                None => dial(worker, &endpoint, course.take_connection(worker.index)?, terms),
            };
            match timeout_at(by.into(), dial.wait()).await {
                Ok(Ok(Some(lease))) => break Ok(Some(lease)),
                Ok(Ok(None)) => {}
                Ok(Err(failure)) => break Err(failure),
                Err(_) => break Err(Kind::ConnectTimeout.into()),
            }
        };
        self.note_connect(began, down, opened)
    }

    pub(super) fn note_connect<T>(
        &mut self,
        began: Instant,
        down: &mut impl Downstream,
        opened: Result<T, Failure>,
    ) -> Result<T, Error> {
        let took = self.exchange.worker.clock.look().saturating_duration_since(began);
        self.connect += took;
        // The client was not asked for its body meanwhile.
        down.excuse(Clock::ticks(took));
        if opened.is_err() && self.exchange.worker.clock.now() >= self.total_by {
            return Err(Kind::TotalTimeout.into());
        }
        opened.map_err(|Failure { kind, reason }| {
            self.reason = reason;
            Error { kind, retry: Retry::Always }
        })
    }

    /// Between whom the endpoint is told that the connection is, where it is told and that is known.
    pub(super) fn told(&self) -> Option<Addresses> {
        self.upstream.filter(|settings| settings.plan.proxy_protocol.is_some())?;
        let origin = self.exchange.origin;
        // The port of a client that a proxy speaks for is not known.
        let port = origin.peer.filter(|_| !self.trusted).map_or(0, |peer| peer.port());
        let source = SocketAddr::new(self.client?, port);
        let unknown = || {
            let nowhere =
                if source.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
            SocketAddr::new(nowhere, origin.port.unwrap_or(0))
        };
        // A connection that is older than the configuration that asks for this does not know.
        let destination = origin.destination.as_deref().copied().unwrap_or_else(unknown);
        Some(Addresses { source, destination: SocketAddr::new(destination.ip().to_canonical(), destination.port()) })
    }

    /// The attempt failed: where TLS says why, that is the failure.
    pub(super) fn blame(&mut self, error: Error, up: &impl Upstream) -> Error {
        match up.failure() {
            Some(reason) if error.side() == Side::Upstream => {
                self.reason = Some(reason);
                Error { kind: Kind::UpstreamTlsFailed, ..error }
            }
            _ => error,
        }
    }

    /// How long the endpoint may take.
    pub(super) fn waits(&self, settings: &UpstreamSettings) -> Waits {
        let timeouts = &settings.plan.timeouts;
        let body = self.route.and_then(|route| route.plan.timeouts.body).unwrap_or(timeouts.body);
        Waits { body, write: timeouts.write, rate: LeastRate::NONE }
    }
}

/// Whether a request may not be sent a second time, or perhaps cannot: the connection that it goes out on had better be alive. Of the
/// others, those that met the end of one on the way are sent again, unless the upstream tries nothing again.
pub(super) fn is_single(request: &RequestHead) -> bool {
    request.length != Length::None || !request.is_idempotent()
}
