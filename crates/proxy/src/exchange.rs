//! The story of one exchange, from a whole request head to the last byte of its answer, in nine steps:
//! 1 admit, 2 route, 3 request filters, 4 pick, 5 connect, 6 send, 7 relay, 8 finish or retry, 9 record.

use crate::clock::{NEVER, Tick};
use crate::codec::Downstream;
use crate::codec::h1::{ENDPOINT, H1, Waits};
use crate::connection::Origin;
use crate::observe::access_log;
use crate::relay::{Failure, Pump, tunnel};
use crate::respond;
use crate::snapshot::{Answer, Listener, Route, UpstreamSettings};
use crate::upstream::connect::connect;
use crate::upstream::endpoint::{InFlight, LocalUpstream};
use crate::wire::Wire;
use crate::worker::{Local, Worker};
use penstock_plan::{Action, HostHeader};
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::{
    BodyFraming, Fields, HostLine, Identity, Known, Length, RequestHead, RequestLines, ResponseHead, Target, forwarded,
    write_request,
};
use penstock_rules::route::View;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Connections tried for one request, the first included.
const ATTEMPTS: u32 = 3;

/// What an exchange is told by its connection.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) local: &'a Local,
    pub(crate) origin: &'a Origin,
    pub(crate) listener: &'a Listener,
    /// Index of the listener in the plan.
    pub(crate) index: usize,
    pub(crate) identity: &'a Identity,
}

/// What is remembered of an exchange for its record.
pub(crate) struct Story<'a> {
    pub(crate) exchange: &'a Exchange<'a>,
    pub(crate) began: Instant,
    /// Whether the peer's forwarded headers are believed.
    trusted: bool,
    pub(crate) client: Option<IpAddr>,
    pub(crate) request_id: [u8; 32],
    pub(crate) route: Option<&'a Route>,
    pub(crate) upstream: Option<&'a UpstreamSettings>,
    /// Where the request went last.
    pub(crate) endpoint: Option<InFlight>,
    pub(crate) attempts: u32,
    pub(crate) reused: bool,
    pub(crate) connect: Duration,
    /// From the beginning to the response head.
    pub(crate) answered: Option<Duration>,
    pub(crate) status: u16,
    pub(crate) error: Option<Kind>,
    pub(crate) upgraded: bool,
    /// Bytes written before, then those of this exchange.
    pub(crate) bytes_out: u64,
    /// Those of them that are content.
    pub(crate) body_out: u64,
    total_by: Tick,
}

/// Run one exchange to its end. What becomes of the connection is left in `down`.
pub(crate) async fn run(
    exchange: &Exchange<'_>,
    down: &mut impl Downstream,
    request: &mut RequestHead,
    response: &mut ResponseHead,
) {
    let mut story = Story::begin(exchange, down, request);
    if let Err(error) = story.tell(down, request, response).await {
        story.error = Some(error.kind);
        exchange.worker.counters().fail(error.kind);
        if story.status == 0 || down.retract() {
            // Whatever the client still sends of this request is not read as a next one.
            if !down.is_ended() {
                down.close_after();
            }
            story.status = respond::fail(&story, down, request, error.kind).await;
        } else {
            down.close_after();
        }
    }
    story.record(down, request);
}

impl<'a> Story<'a> {
    /// Step 1, admit: who is the client, and how much may it send?
    fn begin(exchange: &'a Exchange<'a>, down: &mut impl Downstream, request: &mut RequestHead) -> Story<'a> {
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
        if !trusted {
            request.strip_identity();
        }
        let mut story = Story {
            exchange,
            began: Instant::now(),
            trusted,
            client,
            request_id: [0; 32],
            route: None,
            upstream: None,
            endpoint: None,
            attempts: 0,
            reused: false,
            connect: Duration::ZERO,
            answered: None,
            status: 0,
            error: None,
            upgraded: false,
            bytes_out: down.written(),
            body_out: 0,
            total_by: NEVER,
        };
        story.choose_id(request);
        let limits = &exchange.listener.plan.limits;
        down.accept_body(request, limits.body, limits.body_rate);
        story
    }

    async fn tell(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        let route = match request.target {
            Target::Resource => self.route(down, request)?,
            // `OPTIONS *` asks for the proxy itself (RFC 9110 §9.3.7).
            Target::Server => return self.answer_fields(down, response, 204, &Fields::default()).await,
        };
        if let Some(answer) = route.filters.on_request(request)? {
            return self.answer_fields(down, response, answer.status, &answer.fields).await;
        }
        if let Some(answer) = &route.answer {
            return self.answer(down, request, response, answer).await;
        }
        let at = match &route.plan.action {
            Action::Split(shares) => {
                let mut point = self.exchange.worker.random() % route.shares.max(1);
                let taken = shares.iter().find(|share| {
                    let taken = point < u64::from(share.weight);
                    point = point.saturating_sub(u64::from(share.weight));
                    taken
                });
                taken.map_or(0, |share| share.upstream)
            }
            Action::Upstream(upstream) => *upstream,
            Action::Respond(_) | Action::Redirect(_) => return Err(Kind::Internal.into()),
        };
        self.forward(down, request, response, at as usize).await
    }

    /// Step 2, route.
    fn route(&mut self, down: &mut impl Downstream, request: &RequestHead) -> Result<&'a Route, Error> {
        let Exchange { local, listener, origin, index, .. } = self.exchange;
        let view = View {
            head: request,
            listener: &listener.plan.name,
            scheme: "http",
            port: origin.port,
            client: self.client,
            client_port: origin.peer.filter(|_| !self.trusted).map(|peer| peer.port()),
        };
        let index = u32::try_from(*index).unwrap_or(u32::MAX);
        let at = local.snapshot.table.find(&view, index).ok_or(Kind::NoRoute)?;
        let route = local.snapshot.routes.get(at).ok_or(Kind::Internal)?;
        self.route = Some(route);
        let limit = route.plan.limits.body.or(listener.plan.limits.body);
        if route.plan.limits.body.is_some() {
            down.accept_body(request, limit, listener.plan.limits.body_rate);
        }
        if let (Length::Bytes(bytes), Some(limit)) = (request.length, limit)
            && bytes > limit
        {
            return Err(Kind::BodyTooLarge.into());
        }
        if let Some(total) = route.plan.timeouts.total {
            self.total_by = self.exchange.worker.clock.after(total);
        }
        Ok(route)
    }

    /// Steps 4 to 8: forward, and try again where that is safe.
    async fn forward(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        at: usize,
    ) -> Result<(), Error> {
        let local = self.exchange.local;
        let settings = local.snapshot.upstreams.get(at).ok_or(Kind::Internal)?;
        let upstream = local.upstreams.get(at).ok_or(Kind::Internal)?;
        self.upstream = Some(settings);
        let mut tried = 0;
        let mut last = Error::from(Kind::NoEndpoint);
        loop {
            let Some(endpoint) = self.pick(upstream, tried) else { return Err(last) };
            self.attempts += 1;
            let error = match self.attempt(down, request, response, settings).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if let Some(endpoint) = &self.endpoint {
                endpoint
                    .endpoint
                    .counters()
                    .failures
                    .add(u64::from(error.side() == penstock_rules::error::Side::Upstream));
            }
            let again = match error.retry {
                Retry::Never => false,
                Retry::Always => true,
                Retry::Idempotent => request.is_idempotent(),
            };
            if !again || self.attempts >= ATTEMPTS || self.status != 0 || down.received() > 0 {
                return Err(error);
            }
            if !self.reused {
                tried |= 1u64.checked_shl(u32::try_from(endpoint).unwrap_or(64)).unwrap_or(0);
            }
            last = error;
        }
    }

    /// Step 4, pick.
    fn pick(&mut self, upstream: &LocalUpstream, tried: u64) -> Option<usize> {
        let picked = upstream.pick(tried, self.exchange.worker.random(), self.began)?;
        self.endpoint = Some(upstream.endpoints.get(picked)?.begin());
        Some(picked)
    }

    async fn attempt(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        settings: &UpstreamSettings,
    ) -> Result<(), Error> {
        let mut up = self.connect(settings, down).await?;
        self.send(&mut up, request, settings);
        let mut upload = Pump::default();
        self.converse(down, &mut up, &mut upload, response, request).await?;
        if response.status == 101 {
            return self.switch(down, &mut up, request, response).await;
        }
        if !upload.is_done() {
            // The answer came before the request was whole: neither side can tell where a next one would begin.
            down.close_after();
        }
        self.relay(down, &mut up, &mut upload, request, response).await?;
        self.finish(down, up, &upload, settings);
        Ok(())
    }

    /// Step 5, connect: from the pool, or anew. A second attempt always connects anew.
    async fn connect(&mut self, settings: &UpstreamSettings, down: &impl Downstream) -> Result<H1, Error> {
        let Exchange { worker, .. } = self.exchange;
        let Some(in_flight) = &self.endpoint else { return Err(Kind::Internal.into()) };
        let endpoint = &in_flight.endpoint;
        let pooled = if self.attempts == 1 { endpoint.take_idle() } else { None };
        self.reused = pooled.is_some();
        let stream = match pooled {
            Some(stream) => {
                endpoint.counters().reused.add(1);
                stream
            }
            None => {
                let began = Instant::now();
                let opened = connect(endpoint, settings.plan.timeouts.connect).await;
                self.connect += began.elapsed();
                opened.map_err(|kind| {
                    endpoint.unreachable(Instant::now());
                    Error { kind, retry: Retry::Always }
                })?
            }
        };
        let timeouts = &settings.plan.timeouts;
        let body = self.route.and_then(|route| route.plan.timeouts.body).unwrap_or(timeouts.body);
        let waits = Waits { body, write: timeouts.write };
        Ok(H1::new(Wire::new(stream, Rc::clone(&worker.buffers)), Rc::clone(down.alarm()), ENDPOINT, waits))
    }

    /// Step 6, send: the head is staged here; it goes out with the first bytes of the body.
    fn send(&self, up: &mut H1, request: &RequestHead, settings: &UpstreamSettings) {
        let framing = match request.length {
            Length::None | Length::UntilClose => BodyFraming::None,
            Length::Bytes(bytes) => BodyFraming::Bytes(bytes),
            Length::Chunked => BodyFraming::Chunked,
        };
        let address = self.endpoint.as_ref().map_or("", |endpoint| endpoint.endpoint.shared.address.as_str());
        let own = if address.starts_with("unix:") { "localhost" } else { address };
        let lines = RequestLines {
            host: match &settings.plan.host {
                HostHeader::Keep => HostLine::Keep(own),
                HostHeader::Upstream => HostLine::Set(own),
                HostHeader::Literal(host) => HostLine::Set(host),
            },
            framing,
            identity: self.exchange.identity,
            trusted: self.trusted,
            request_id: if request.fields.known(Known::XRequestId).is_some() { b"" } else { &self.request_id },
            upgrade: request.options.upgrade,
        };
        write_request(request, &lines, &mut up.wire.out);
        up.begin_body(framing);
    }

    /// Send the request and wait for the head of its final response; interim ones are passed on.
    async fn converse(
        &mut self,
        down: &mut impl Downstream,
        up: &mut H1,
        upload: &mut Pump,
        response: &mut ResponseHead,
        request: &RequestHead,
    ) -> Result<(), Error> {
        let Some(settings) = self.upstream else { return Err(Kind::Internal.into()) };
        let clock = &self.exchange.worker.clock;
        let wait = self.route.and_then(|route| route.plan.timeouts.head).unwrap_or(settings.plan.timeouts.head);
        let to_head = request.method() == "HEAD";
        let (mut head_by, mut interim, mut broken) = (NEVER, 0, None);
        let outcome = poll_fn(|cx| {
            down.alarm().clear();
            if let Err(kind) = self.check_total(down) {
                return Poll::Ready(Err(kind));
            }
            if !upload.is_done() {
                match upload.poll(cx, clock, down, up) {
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                    Poll::Ready(Err(Failure::Source(kind))) => return Poll::Ready(Err(kind)),
                    // The endpoint takes no more; it may have said why.
                    Poll::Ready(Err(Failure::Sink(kind))) => {
                        upload.stop();
                        broken = Some(kind);
                    }
                }
            }
            loop {
                match up.poll_response(cx, response, &settings.limits, to_head) {
                    Poll::Ready(Ok(Some(()))) if response.is_interim() => {
                        interim += 1;
                        if interim > settings.plan.limits.interim {
                            return Poll::Ready(Err(Kind::ResponseTooLarge));
                        }
                        down.interim(response);
                        if let Poll::Ready(Err(kind)) = down.poll_flush(cx) {
                            return Poll::Ready(Err(kind));
                        }
                    }
                    Poll::Ready(Ok(Some(()))) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(None)) => return Poll::Ready(Err(broken.unwrap_or(Kind::UpstreamClosed))),
                    Poll::Ready(Err(kind)) => return Poll::Ready(Err(kind)),
                    Poll::Pending => break,
                }
            }
            if upload.is_done() {
                if head_by == NEVER {
                    head_by = clock.after(wait);
                }
                if clock.now() >= head_by {
                    return Poll::Ready(Err(Kind::UpstreamHeadTimeout));
                }
                down.alarm().lower(head_by);
                if down.is_ended() && down.poll_gone(cx).is_ready() {
                    return Poll::Ready(Err(Kind::ClientClosed));
                }
            }
            Poll::Pending
        })
        .await;
        outcome.map_err(|kind| {
            // A connection that broke before a byte of an answer came: the request may be repeated, if it can be.
            let closed = matches!(kind, Kind::UpstreamClosed) && interim == 0;
            Error { kind, retry: if closed { Retry::Idempotent } else { Retry::Never } }
        })?;
        self.note_answer();
        Ok(())
    }

    /// Step 7, relay: the response back, and what is left of the request on.
    async fn relay(
        &mut self,
        down: &mut impl Downstream,
        up: &mut H1,
        upload: &mut Pump,
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        self.filter_response(request, response);
        up.expect_body(response.length, None, 0);
        if self.exchange.worker.is_draining() {
            down.close_after();
        }
        down.respond(response, true);
        self.status = response.status;
        let clock = &self.exchange.worker.clock;
        let mut download = Pump::default();
        poll_fn(|cx| {
            down.alarm().clear();
            if let Err(kind) = self.check_total(down) {
                return Poll::Ready(Err(kind));
            }
            if !upload.is_done()
                && let Poll::Ready(Err(_)) = upload.poll(cx, clock, down, up)
            {
                // Whoever failed, the answer is under way: it is delivered, and both connections end with it.
                upload.stop();
                down.close_after();
                up.persistent = false;
            }
            download.poll(cx, clock, up, down).map_err(|failure| failure.kind())
        })
        .await
        .map_err(Error::from)
    }

    /// Step 7 for an upgrade: after `101` the bytes are the client's and the endpoint's own affair.
    async fn switch(
        &mut self,
        down: &mut impl Downstream,
        up: &mut H1,
        request: &RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        if !request.options.upgrade || !response.options.upgrade {
            return Err(Kind::BadUpgrade.into());
        }
        self.filter_response(request, response);
        down.respond(response, true);
        self.status = 101;
        self.upgraded = true;
        let idle = self.exchange.listener.plan.timeouts.tunnel;
        down.become_tunnel(idle);
        crate::codec::Tunnel::become_tunnel(up, idle);
        let tunnels = &self.exchange.origin.listener.counters.of(self.exchange.worker.index).tunnels;
        tunnels.add(1);
        let alarm = Rc::clone(down.alarm());
        let end = tunnel(&alarm, down, up).await;
        tunnels.subtract(1);
        // That one side ends a tunnel is how tunnels end.
        if end == Kind::TunnelIdle { Err(end.into()) } else { Ok(()) }
    }

    /// Step 8, finish: the connection goes back to its pool only if nothing on it is in doubt (safety.md R3).
    fn finish(&mut self, down: &mut impl Downstream, up: H1, upload: &Pump, settings: &UpstreamSettings) {
        if !upload.is_done() || !down.is_ended() {
            down.close_after();
        } else if up.persistent
            && up.is_clean()
            && up.wire.input().is_empty()
            && let Some(in_flight) = &self.endpoint
        {
            let wait = settings.plan.timeouts.idle;
            in_flight.endpoint.give_back(up.wire.into_stream(), &self.exchange.worker.clock, wait);
        }
    }

    /// Step 9, record.
    fn record(&mut self, down: &impl Downstream, request: &RequestHead) {
        let Exchange { worker, local, .. } = self.exchange;
        let total = self.began.elapsed();
        self.bytes_out = down.written().saturating_sub(self.bytes_out);
        self.body_out = if self.status == 0 { 0 } else { down.sent() };
        let shared = self.route.map_or(&local.snapshot.unrouted, |route| &route.shared);
        let bytes_in = request.raw_length() as u64 + down.received();
        shared.counters.of(worker.index).observe(self.status, bytes_in, self.bytes_out);
        worker.counters().observe(u64::try_from(total.as_micros()).unwrap_or(u64::MAX));
        if let Some(log) = &local.snapshot.plan.access_log {
            let record = access_log::Record { story: self, request, total, bytes_in };
            let mut batch = worker.records.borrow_mut();
            access_log::add(log.format, &record, &mut batch);
            worker.counters().records.add(1);
            if batch.is_full() {
                worker.shared.log.flush(&mut batch, worker.counters());
            }
        }
    }

    async fn answer(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        answer: &Answer,
    ) -> Result<(), Error> {
        response.clone_from(&answer.head);
        self.filter_response(request, response);
        self.status = response.status;
        respond::send(down, response, &answer.body).await.map_err(Error::from)
    }

    async fn answer_fields(
        &mut self,
        down: &mut impl Downstream,
        response: &mut ResponseHead,
        status: u16,
        fields: &Fields,
    ) -> Result<(), Error> {
        response.compose(status);
        response.fields.clone_from(fields);
        self.status = status;
        respond::send(down, response, b"").await.map_err(Error::from)
    }

    /// Step 3 on the way back, response filters.
    fn filter_response(&self, request: &RequestHead, response: &mut ResponseHead) {
        if let Some(route) = self.route.filter(|route| route.filters.has_response()) {
            route.filters.on_response(request, &mut response.fields);
        }
    }

    fn check_total(&self, down: &impl Downstream) -> Result<(), Kind> {
        if self.total_by == NEVER {
            return Ok(());
        }
        if self.exchange.worker.clock.now() >= self.total_by {
            return Err(Kind::TotalTimeout);
        }
        down.alarm().lower(self.total_by);
        Ok(())
    }

    fn note_answer(&mut self) {
        let now = Instant::now();
        let answered = now.saturating_duration_since(self.began);
        self.answered = Some(answered);
        if let Some(in_flight) = &self.endpoint {
            in_flight.endpoint.answered(answered.saturating_sub(self.connect), now);
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
