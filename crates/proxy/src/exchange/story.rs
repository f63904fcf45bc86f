//! What is remembered of an exchange from its first step to its record.

use super::Exchange;
use super::mirror::Mirrored;
use super::replay::Replay;
use crate::clock::{NEVER, Tick};
use crate::codec::Downstream;
use crate::filter::compress::Coder;
use crate::observe::access_log;
use crate::snapshot::{Route, UpstreamSettings};
use crate::stream::Stream;
use crate::upstream::affinity::{Affinity, Bond};
use crate::upstream::circuit::Taken;
use crate::upstream::local::InFlight;
use crate::upstream::opened::Opened;
use crate::upstream::outlier;
use penstock_plan::Alpn;
use penstock_rules::error::{Error, Kind, Retry, Side};
use penstock_rules::filter::Asked;
use penstock_rules::forward::Rule;
use penstock_rules::grpc;
use penstock_rules::health::Cause;
use penstock_rules::http::{HostLine, Known, Length, RequestHead, ResponseHead, forwarded};
use penstock_rules::list::Hit;
use penstock_rules::pace::LeastRate;
use penstock_rules::page::Pages;
use penstock_rules::route::View;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What is remembered of an exchange for its record.
pub(crate) struct Story<'a> {
    pub(crate) exchange: &'a Exchange<'a>,
    pub(crate) began: Instant,
    /// Whether the peer's forwarded headers are believed.
    pub(super) trusted: bool,
    /// What the client spoke.
    pub(super) scheme: &'static str,
    pub(crate) client: Option<IpAddr>,
    pub(crate) request_id: [u8; 32],
    pub(crate) route: Option<&'a Route>,
    pub(crate) upstream: Option<&'a UpstreamSettings>,
    /// What binds the client to an endpoint of the upstream.
    pub(super) bond: Bond,
    /// The endpoint that it is to be bound to from now on.
    pub(super) rebind: Option<usize>,
    /// Where the request went last.
    pub(crate) endpoint: Option<InFlight>,
    /// Spent on asking a service whether the request may go on.
    pub(crate) auth: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) reused: bool,
    /// Spent in line for a place at an endpoint.
    pub(crate) queued: Duration,
    pub(crate) connect: Duration,
    /// On what came before the attempt that runs (a body that was read first, a service that was asked, add-ons, a line, other
    /// attempts), connecting left out.
    pub(crate) spent: Duration,
    /// When the endpoint had the whole request, if it has a body.
    pub(super) sent: Option<Instant>,
    /// What must be kept of the request's body.
    pub(super) replay: Replay,
    /// From the beginning to the response head.
    pub(crate) answered: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) error: Option<Kind>,
    /// What the last attempt failed at, which is counted already.
    pub(super) counted: Option<Kind>,
    /// What the last attempt failed for, where there is more to say than its kind.
    pub(crate) reason: Option<Box<str>>,
    pub(crate) upgraded: bool,
    /// The other end of a tunnel that is to be passed, between connections that carry nothing else.
    pub(super) tunnel: Option<Stream>,
    /// Who asks, where a forward proxy wants that proved.
    pub(crate) user: Option<Box<str>>,
    /// An origin behind a parent was asked who it is: what goes wrong with TLS is its.
    pub(super) greeted: bool,
    /// Which rule takes it is not known before the address of its origin is.
    pub(super) undecided: bool,
    /// The rule of a forward proxy that took the request, if one did.
    pub(crate) rule: Option<&'a Rule>,
    /// The list, and the line of it, for which that rule refused.
    pub(crate) listed: Option<Box<Hit>>,
    /// The copy of the request that goes elsewhere, if there is one.
    pub(crate) mirrored: Option<Mirrored>,
    /// The connection that this client has authenticated, until it is used.
    pub(super) pinned: Option<Opened>,
    /// The place of the connection in use among those that the upstream may have.
    pub(super) taken: Option<Taken>,
    /// Its place among the requests that the upstream may have under way.
    pub(super) under_way: Option<Taken>,
    /// The connection is, or will be, this client's alone.
    pub(super) authenticated: bool,
    /// The endpoint asked for the body that the client offered.
    pub(super) continued: bool,
    /// Bytes written before, then those of this exchange.
    pub(crate) bytes_out: u64,
    /// Those of them that are content.
    pub(crate) body_out: u64,
    /// When the route's patience ends.
    pub(crate) total_by: Tick,
}

impl<'a> Story<'a> {
    /// Step 1, admit: who is the client, and how much may it send?
    #[inline(always)]
    pub(super) fn admit(&mut self, down: &mut impl Downstream, request: &mut RequestHead) {
        let exchange = self.exchange;
        self.meet(request);
        if !self.trusted && request.may_identify() {
            // A forward proxy decides for itself what of the client's own words goes on.
            request.strip_identity(exchange.listener.forward.is_some());
        }
        request.strip_listed();
        if self.trusted {
            // Not by a field that was for one connection alone.
            self.scheme = forwarded::scheme(exchange.origin.scheme(), &request.fields);
        }
        self.bytes_out = down.written();
        self.choose_id(request);
        if request.dropped > 0 {
            exchange.worker.counters().dropped_fields.add(u64::from(request.dropped));
        }
        let limits = &exchange.listener.plan.limits;
        // Whoever streams may have little to say for long.
        let least = if grpc::is_call(request) { LeastRate::NONE } else { exchange.listener.least(limits.body_rate) };
        down.accept_body(request, limits.body, least);
    }

    /// Who is the client, and what did it speak?
    #[inline(always)]
    pub(super) fn meet(&mut self, request: &RequestHead) {
        let exchange = self.exchange;
        let peer = exchange.origin.peer.map(|peer| peer.ip());
        let trusted = match peer {
            Some(peer) => {
                !exchange.listener.trusted.is_empty() && forwarded::is_trusted(peer, &exchange.listener.trusted)
            }
            None => false,
        };
        let client = match peer {
            Some(peer) if trusted => Some(forwarded::client(peer, &exchange.listener.trusted, &request.fields)),
            peer => peer,
        };
        let own = exchange.origin.scheme();
        let scheme = if trusted { forwarded::scheme(own, &request.fields) } else { own };
        (self.trusted, self.scheme, self.client) = (trusted, scheme, client);
    }

    /// The story of something asked on the way, of which nothing is recorded.
    pub(super) fn aside<'s>(&self, exchange: &'s Exchange<'s>) -> Story<'s> {
        let (trusted, scheme, client, request_id) = (self.trusted, self.scheme, self.client, self.request_id);
        Story { trusted, scheme, client, request_id, ..Story::new(exchange) }
    }

    /// Nothing has happened yet.
    #[inline(always)]
    pub(super) fn new(exchange: &'a Exchange<'a>) -> Story<'a> {
        Story {
            exchange,
            began: exchange.worker.clock.instant(),
            trusted: false,
            scheme: "",
            client: None,
            request_id: [0; 32],
            route: None,
            upstream: None,
            bond: Bond::None,
            rebind: None,
            endpoint: None,
            auth: None,
            attempts: 0,
            reused: false,
            queued: Duration::ZERO,
            connect: Duration::ZERO,
            spent: Duration::ZERO,
            sent: None,
            replay: Replay::default(),
            answered: None,
            status: 0,
            error: None,
            counted: None,
            reason: None,
            upgraded: false,
            tunnel: None,
            user: None,
            greeted: false,
            undecided: false,
            rule: None,
            listed: None,
            mirrored: None,
            pinned: None,
            taken: None,
            under_way: None,
            authenticated: false,
            continued: false,
            bytes_out: 0,
            body_out: 0,
            total_by: NEVER,
        }
    }

    /// The request as expressions and add-ons see it.
    pub(crate) fn view<'v>(&'v self, request: &'v RequestHead) -> View<'v> {
        let Exchange { listener, origin, .. } = self.exchange;
        View {
            head: request,
            listener: &listener.plan.name,
            scheme: self.scheme,
            sni: origin.secured.as_ref().and_then(|secured| secured.sni.as_deref()),
            alpn: origin.secured.as_ref().and_then(|secured| secured.alpn).map(Alpn::name),
            certificate: origin.secured.as_ref().and_then(|secured| secured.client.as_ref()),
            port: origin.port,
            client: self.client,
            client_port: origin.peer.filter(|_| !self.trusted).map(|peer| peer.port()),
            body: None,
            errand: None,
        }
    }

    /// Error pages, in the order in which they count.
    pub(crate) fn pages(&self) -> impl Iterator<Item = &'a Pages> + use<'a> {
        let Exchange { listener, local, .. } = self.exchange;
        let route = self.route.map(|route| &route.pages);
        route.into_iter().chain([&listener.pages, &local.snapshot.pages])
    }

    /// Step 9, record.
    pub(super) fn record(&mut self, down: &impl Downstream, request: &RequestHead) {
        if self.mirrored.is_some() {
            self.give_up_copy(down, request);
        }
        let Exchange { worker, local, .. } = self.exchange;
        // Not the turn's: what took long within it is told, and is not the next one's.
        let total = worker.clock.look().saturating_duration_since(self.began);
        self.bytes_out = down.written().saturating_sub(self.bytes_out);
        self.body_out = if self.status == 0 { 0 } else { down.sent() };
        let shared = self.route.map_or(&local.snapshot.unrouted, |route| &route.shared);
        let bytes_in = request.raw_length() as u64 + down.received();
        shared.counters.of(worker.index).observe(self.status, bytes_in, self.bytes_out);
        worker.counters().observe(u64::try_from(total.as_micros()).unwrap_or(u64::MAX));
        if let Some(log) = &local.snapshot.plan.access_log {
            let record = access_log::Record { story: self, request, total, bytes_in };
            let mut batch = worker.records.borrow_mut();
            access_log::add(log, &record, &mut batch);
            worker.counters().records.add(1);
            if batch.is_full() {
                worker.shared.log.flush(&mut batch, worker.counters());
            }
        }
    }

    /// Step 3 on the way back, response filters.
    pub(super) fn filter_response(&self, request: &RequestHead, response: &mut ResponseHead) {
        response.strip_listed();
        if let Some(route) = self.route.filter(|route| route.filters.has_response()) {
            let host = self.upstream.map(|settings| self.host_line(settings));
            route.filters.on_response(&Asked { head: request, scheme: self.scheme, host }, &mut response.fields);
        }
        if let Some(Affinity::Cookie(cookie)) = self.upstream.and_then(|upstream| upstream.affinity.as_ref())
            && let Some(line) = self.rebind.and_then(|at| cookie.set_cookie(at, self.scheme == "https"))
        {
            response.fields.push("set-cookie", line);
        }
    }

    /// The `Host` that the endpoint is asked with.
    pub(super) fn host_line<'h>(&'h self, settings: &'h UpstreamSettings) -> HostLine<'h> {
        let address = self.endpoint.as_ref().map_or("", |endpoint| endpoint.endpoint.shared.address.as_str());
        HostLine::of(&settings.plan.host, address)
    }

    /// To what the client is bound. A cookie that says so is ours and goes no further.
    pub(super) fn bind(&mut self, request: &mut RequestHead, upstream: usize) {
        let settings = self.exchange.local.snapshot.upstreams.get(upstream);
        self.bond = match settings.and_then(|settings| settings.affinity.as_ref()) {
            None => Bond::None,
            Some(Affinity::Cookie(cookie)) => cookie.take(&mut request.fields).map_or(Bond::None, Bond::Endpoint),
            Some(affinity) => affinity.of(&self.view(request)),
        };
    }

    /// The coder of the response's body, where a filter wants it coded; the head says so then.
    pub(super) fn coder(&self, request: &RequestHead, response: &mut ResponseHead) -> Result<Option<Box<Coder>>, Kind> {
        let Some(compress) = self.route.and_then(|route| route.filters.compress()) else { return Ok(None) };
        let buffers = &self.exchange.worker.buffers;
        match compress.on_response(request, response, |coding| buffers.charge(Coder::memory(coding))) {
            Some(coding) if response.length != Length::None => {
                Coder::new(coding).map(|coder| Some(Box::new(coder))).ok_or(Kind::Exhausted)
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn check_total(&self, down: &impl Downstream) -> Result<(), Kind> {
        if self.total_by == NEVER {
            return Ok(());
        }
        if self.exchange.worker.clock.now() >= self.total_by {
            return Err(Kind::TotalTimeout);
        }
        down.alarm().lower(self.total_by);
        Ok(())
    }

    /// What has passed until now was not the endpoint's time.
    pub(super) fn start_over(&mut self) {
        let now = self.exchange.worker.clock.look();
        self.spent = now.saturating_duration_since(self.began).saturating_sub(self.connect);
        self.sent = None;
    }

    /// The request is with the endpoint: it has begun to wait for an answer. `counts`: somebody looks at who waits how long.
    pub(super) fn note_sent(&mut self, request: &RequestHead, counts: bool) {
        let began = match request.length {
            Length::None => self.began + self.connect + self.spent,
            _ => *self.sent.get_or_insert_with(|| self.exchange.worker.clock.look()),
        };
        if let Some(in_flight) = self.endpoint.as_mut().filter(|_| counts) {
            in_flight.sent(began);
        }
    }

    /// The endpoint answered with this status.
    #[inline(always)]
    pub(super) fn note_answer(&mut self, settings: &UpstreamSettings, request: &RequestHead, status: u16) {
        let now = self.exchange.worker.clock.instant();
        let answered = now.saturating_duration_since(self.began);
        self.answered = Some(answered);
        if let Some(in_flight) = &mut self.endpoint {
            in_flight.heard(now);
        }
        if let Some(in_flight) = self.endpoint.as_ref().filter(|in_flight| in_flight.is_current()) {
            // From the request's last byte. One that was answered before that says nothing of how long others wait.
            let wait = match request.length {
                Length::None => Some(answered.saturating_sub(self.connect + self.spent)),
                _ => self.sent.map(|sent| now.saturating_duration_since(sent)),
            };
            in_flight.endpoint.answered(wait, now);
            let latency = settings.plan.outlier.as_ref().and_then(|rules| rules.latency);
            if let (Some(rules), Some(wait)) = (latency, wait) {
                in_flight.endpoint.counters().late.add(u64::from(wait > rules.least));
            }
            match status {
                500.. => self.speak_against(settings, Cause::Status(status)),
                _ => in_flight.endpoint.shared.standing.succeeded(now),
            }
        }
    }

    /// An attempt failed. That a connection had been closed while nobody used it says nothing of the endpoint.
    pub(super) fn note_failure(&mut self, settings: &UpstreamSettings, error: Error) {
        if error.side() != Side::Upstream {
            return;
        }
        self.count_failure(error);
        let Some(in_flight) = &self.endpoint else { return };
        in_flight.endpoint.counters().failures.add(1);
        // Of a status it was told when it came.
        if !self.is_stale(error) && error.kind != Kind::UpstreamStatus {
            self.speak_against(settings, Cause::Failure(error.kind));
        }
    }

    /// The same, where that says nothing of the endpoint.
    pub(super) fn count_failure(&mut self, error: Error) {
        if error.side() == Side::Upstream {
            self.exchange.worker.counters().fail(error.kind);
            self.counted = Some(error.kind);
        }
    }

    /// Whether an attempt failed because its connection had been closed while nobody used it, or was about to be.
    pub(super) fn is_stale(&self, error: Error) -> bool {
        self.reused && error.kind == Kind::UpstreamClosed && error.retry != Retry::Never
    }

    fn speak_against(&self, settings: &UpstreamSettings, cause: Cause) {
        if let Some(in_flight) = self.endpoint.as_ref().filter(|in_flight| in_flight.is_current()) {
            outlier::failed(settings, &in_flight.endpoint.shared, cause, &self.exchange.worker.shared);
        }
    }

    /// A new request id, unless a proxy that is believed gave one.
    fn choose_id(&mut self, request: &RequestHead) {
        if request.fields.known(Known::XRequestId).is_some() {
            return;
        }
        self.request_id = self.exchange.worker.request_id();
    }

    /// The id of this exchange, for the log and the error page.
    pub(crate) fn id<'r>(&'r self, request: &'r RequestHead) -> &'r [u8] {
        request.fields.known(Known::XRequestId).unwrap_or(&self.request_id)
    }
}
