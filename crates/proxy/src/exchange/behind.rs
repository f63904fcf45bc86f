//! Origins behind a parent: which ways to them there are already, and the TLS that is spoken to them on a new one.

use super::connect::is_single;
use super::forward::needs_http1;
use super::{Exchange, Story};
use crate::codec::Downstream;
use crate::forward::Behind;
use crate::snapshot::UpstreamSettings;
use crate::stream::Stream;
use crate::tls::Failure;
use crate::upstream::channel::{Lease, Terms, adopt};
use crate::upstream::connect::greet;
use crate::upstream::endpoint::LocalEndpoint;
use crate::upstream::opened::{self, Only, Opened};
use penstock_plan::UpstreamProtocol;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::{RequestHead, Target};
use std::rc::Rc;
use std::time::Instant;

/// A way to an origin, or a connection to a parent that needs none.
pub(super) enum Way {
    /// For one request at a time.
    Alone(Stream),
    /// In HTTP/2, which others use, too.
    Shared(Lease),
}

impl Story<'_> {
    /// How origins are known behind this parent.
    pub(super) fn behind(&self, settings: &UpstreamSettings, parent: &LocalEndpoint) -> Behind {
        let shares = settings.plan.proxy_protocol.is_none();
        Behind { version: self.exchange.local.version, parent: parent.shared.id, shares }
    }

    /// The origin that TLS is spoken to, as it is known behind the parent that was picked; `None`: none is.
    pub(super) fn origin_behind(&mut self, request: &RequestHead) -> Result<Option<Rc<LocalEndpoint>>, Kind> {
        if !self.is_secure(request) || request.target == Target::Tunnel {
            return Ok(None);
        }
        let Exchange { worker, listener, .. } = self.exchange;
        let forward = listener.forward.as_deref().ok_or(Kind::Internal)?;
        let (Some(settings), Some(in_flight)) = (self.upstream, &self.endpoint) else { return Err(Kind::Internal) };
        let behind = Some(self.behind(settings, &in_flight.endpoint));
        let mut site = self.site(forward, request, request.place_port())?;
        site.behind = behind;
        worker.origins.get(forward, &site, &worker.clock).map(Some).ok_or(Kind::Internal)
    }

    /// Step 5: a place on a way in HTTP/2 that is there.
    pub(super) fn shared_way(&mut self, origin: Option<&Rc<LocalEndpoint>>, request: &RequestHead) -> Option<Lease> {
        let forward = self.exchange.listener.forward.as_deref()?;
        let lease = origin?.channels.take(usize::from(forward.secure.plan.limits.streams))?;
        if needs_http1(&forward.secure, request, &lease) {
            return None;
        }
        self.reused = lease.reused;
        let parent = &self.endpoint.as_ref()?.endpoint;
        parent.counters().reused.add(u64::from(lease.reused));
        Some(lease)
    }

    /// What the way of a request may be used for again; `None`: it is this client's alone.
    pub(super) fn reusable_way(&self, request: &RequestHead, settings: &UpstreamSettings) -> Option<Only> {
        if request.target == Target::Tunnel || settings.plan.proxy_protocol.is_some() {
            return None;
        }
        let (host, port) = self.place(request);
        let name = self.inside().map_or(request.host(), |inside| &inside.name);
        let name = self.is_secure(request).then(|| name.into());
        let (version, forward) = (self.exchange.local.version, self.exchange.listener.forward.as_ref()?.id);
        Some(Only::Way(opened::Way { version, forward, place: format!("{host}:{port}"), name }))
    }

    /// Step 5: a way that was used before. A second attempt always opens one.
    pub(super) fn kept_way(&self, way: &Only, request: &RequestHead) -> Option<Opened> {
        let endpoint = &self.endpoint.as_ref().filter(|_| self.attempts == 1)?.endpoint;
        let kept = endpoint.take_idle(Some(way), is_single(request))?;
        endpoint.counters().reused.add(1);
        Some(kept)
    }

    /// Close a way that nobody uses, to make room for another through the same parent; whether there was one.
    pub(super) fn shed_way(&self) -> bool {
        let origins = &self.exchange.worker.origins;
        self.endpoint.as_ref().is_some_and(|in_flight| origins.shed_one_behind(in_flight.endpoint.shared.id))
    }

    /// Step 5: have an origin prove who it is that we speak TLS to, on a new way. No other parent leads to another origin.
    pub(super) async fn greet_origin(
        &mut self,
        stream: Stream,
        origin: &Rc<LocalEndpoint>,
        request: &RequestHead,
        down: &mut impl Downstream,
    ) -> Result<Way, Error> {
        let Exchange { worker, listener, .. } = self.exchange;
        let forward = listener.forward.as_deref().ok_or(Kind::Internal)?;
        let secure = origin.secure.as_ref().ok_or(Kind::Internal)?;
        self.greeted = true;
        let began = Instant::now();
        let wait = forward.settings.plan.timeouts.connect.min(worker.clock.until(self.total_by));
        // An upgrade may have no form in HTTP/2.
        let shares =
            !request.options.upgrade && self.upstream.is_some_and(|settings| settings.plan.proxy_protocol.is_none());
        let protocol = if shares { UpstreamProtocol::Auto } else { UpstreamProtocol::Http1 };
        let shaken = greet(stream.into(), secure.greeting(protocol, &worker.buffers), began + wait).await;
        let shared = match shaken {
            Ok(stream) if stream.agreed_on_http2() == Some(true) => {
                let opened = Opened { stream, taken: self.taken.take(), only: None };
                let lease = adopt(worker, origin, opened, Terms::of(&forward.secure.plan)).wait().await;
                lease.and_then(|lease| lease.map(Way::Shared).ok_or(Failure::from(Kind::UpstreamRefused)))
            }
            shaken => shaken.map(Way::Alone),
        };
        self.note_connect(began, down, shared).map_err(|error| Error { retry: Retry::Never, ..error })
    }
}
