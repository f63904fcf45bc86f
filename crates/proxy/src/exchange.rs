//! The story of one exchange, from a whole request head to the last byte of its answer, in nine steps:
//! 1 admit, 2 route, 3 request filters, 4 pick, 5 connect, 6 send, 7 relay, 8 finish or retry, 9 record.

mod course;
mod line;
mod replay;
mod route;
mod story;

pub(crate) use story::Story;

use crate::clock::{Clock, NEVER};
use crate::codec::Downstream;
use crate::codec::h1::{ENDPOINT, H1, Waits};
use crate::connection::{Origin, is_closing};
use crate::faults;
use crate::relay::{Failure, Pump, tunnel};
use crate::respond;
use crate::snapshot::{Listener, UpstreamSettings};
use crate::upstream::affinity::Bond;
use crate::upstream::connect::connect;
use crate::upstream::local::{LocalUpstream, Unpicked};
use crate::upstream::reserved::Reserved;
use crate::wire::Wire;
use crate::worker::{Local, Worker};
use course::Course;
use penstock_plan::{Action, HostHeader};
use penstock_rules::balance::Draw;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::{
    BodyFraming, Fields, HostLine, Identity, Known, Length, RequestHead, RequestLines, ResponseHead, Target,
    write_request,
};
use penstock_rules::pace::LeastRate;
use std::borrow::Cow;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long an endpoint that takes no more of a request has to say why. One that is gone says so at once; this is for a connection that
/// the system only refuses to write to (safety.md 177).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What an exchange is told by its connection.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) local: &'a Local,
    pub(crate) origin: &'a Origin,
    pub(crate) listener: &'a Listener,
    /// Index of the listener in the plan.
    pub(crate) index: usize,
    pub(crate) identity: &'a Identity,
    pub(crate) reserved: &'a Reserved,
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
            down.abort();
        }
    }
    story.record(down, request);
}

impl<'a> Story<'a> {
    async fn tell(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        let route = match request.target {
            Target::Resource => self.route(down, request).await?,
            // `OPTIONS *` asks for the proxy itself (RFC 9110 §9.3.7).
            Target::Server => return self.answer_fields(down, response, 204, &Fields::default()).await,
        };
        if let Some(answer) = route.filters.on_request(request)? {
            return self.answer_fields(down, response, answer.status, &answer.fields).await;
        }
        faults::strike(self.exchange.worker, faults::Place::Filter, request);
        if let Some(addons) = &route.addons
            && let Some(answer) = Box::pin(self.ask_of_request(addons, down, request)).await?
        {
            answer.compose(response);
            return self.answer(down, request, response, &answer.body).await;
        }
        if let Some(answer) = &route.answer {
            response.clone_from(&answer.head);
            return self.answer(down, request, response, &answer.body).await;
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
        self.bind(request, at as usize);
        self.forward(down, request, response, at as usize).await
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
        upstream.budget.request(self.began);
        // Of the request as the endpoint gets it: the route's filters have run.
        let key = settings.key.as_ref().and_then(|key| key.hash(&self.view(request)));
        let mut course = Course::new(settings, upstream, request.is_idempotent());
        if request.is_idempotent() {
            self.replay.keep_up_to(settings.plan.retry.buffer as usize);
        }
        let mut last = Error::from(Kind::NoEndpoint);
        loop {
            // Who comes later does not take the place that somebody in the line waits for.
            let picked =
                if upstream.queue.is_empty() { self.pick(upstream, course.tried, key) } else { Err(Unpicked::Busy) };
            let endpoint = match picked {
                Ok(endpoint) => endpoint,
                Err(Unpicked::None) => return Err(last),
                Err(Unpicked::Busy) => self.wait_in_line(down, (settings, upstream), course.tried, key).await?,
            };
            course.begin(endpoint);
            self.attempts += 1;
            settings.shared.counters.of(self.exchange.worker.index).retries.add(u64::from(self.attempts > 1));
            let error = match self.attempt(down, request, response, &course).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.note_failure(settings, error);
            self.try_again(&mut course, error).await?;
            last = error;
        }
    }

    /// Step 4, pick.
    fn pick(&mut self, upstream: &LocalUpstream, tried: u64, key: Option<u64>) -> Result<usize, Unpicked> {
        if let Some(before) = &mut self.endpoint {
            before.leave();
        }
        if let Some((picked, in_flight, stream)) = self.exchange.reserved.take(upstream) {
            (self.endpoint, self.pinned, self.authenticated) = (Some(in_flight), Some(stream), true);
            return Ok(picked);
        }
        let draw = Draw { random: self.exchange.worker.random(), now: self.began, key };
        let (picked, in_flight) = upstream.pick(tried, self.bond, &draw)?;
        self.endpoint = Some(in_flight);
        self.rebind = match self.bond {
            // It is told of another endpoint only if its own does not keep it: not when that was full for a moment.
            Bond::Endpoint(own) if own == picked || upstream.keeps(own, tried, self.began) => None,
            _ => Some(picked),
        };
        Ok(picked)
    }

    async fn attempt(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        course: &Course<'_>,
    ) -> Result<(), Error> {
        let (settings, patience) = (course.settings, course.patience());
        let mut up = self.connect(settings, down, patience).await?;
        self.send(&mut up, request, settings);
        let mut upload = Pump::default();
        self.converse(down, &mut up, &mut upload, (request, response), patience).await?;
        if self.asks_another(course, response.status) {
            return Err(Error { kind: Kind::UpstreamStatus, retry: Retry::Idempotent });
        }
        let answered = response.status;
        if let Some(addons) = self.route.and_then(|route| route.addons.as_ref()).filter(|addons| addons.has_response())
        {
            Box::pin(self.ask_of_response(addons, down, request, response)).await?;
        }
        if answered == 101 {
            return self.switch(down, &mut up, request, response).await;
        }
        self.authenticated |= request.options.authenticates || response.options.authenticates;
        if !upload.is_done() || !down.is_ended() {
            // The answer came before the request was whole: neither side can tell where a next one would begin.
            down.close_after();
            up.persistent = false;
        }
        if request.options.expect_continue && !self.continued && answered >= 400 {
            // The endpoint did not ask for the body: what it gets of it, it may take for a request.
            up.persistent = false;
        }
        self.relay(down, &mut up, &mut upload, request, response).await?;
        self.finish(down, up, &upload, settings);
        Ok(())
    }

    /// Step 5, connect: from the pool, or anew. A second attempt always connects anew.
    async fn connect(
        &mut self,
        settings: &UpstreamSettings,
        down: &mut impl Downstream,
        patience: Option<Duration>,
    ) -> Result<H1, Error> {
        let Exchange { worker, .. } = self.exchange;
        let Some(in_flight) = &self.endpoint else { return Err(Kind::Internal.into()) };
        let endpoint = &in_flight.endpoint;
        let pooled = match self.pinned.take() {
            None if self.attempts == 1 => endpoint.take_idle(),
            pinned => pinned,
        };
        self.reused = pooled.is_some();
        let stream = match pooled {
            Some(stream) => {
                endpoint.counters().reused.add(1);
                stream
            }
            None => {
                let began = Instant::now();
                let wait = settings.plan.timeouts.connect;
                let (wait, clock) = (patience.map_or(wait, |patience| patience.min(wait)), &worker.clock);
                let opened = connect(endpoint, wait.min(clock.until(self.total_by))).await;
                self.connect += began.elapsed();
                // The client was not asked for its body meanwhile.
                down.excuse(Clock::ticks(began.elapsed()));
                if opened.is_err() && clock.now() >= self.total_by {
                    return Err(Kind::TotalTimeout.into());
                }
                opened.map_err(|kind| {
                    // That we have no descriptor left says nothing of the endpoint.
                    if kind == Kind::Exhausted {
                        worker.shed_pools();
                    } else {
                        endpoint.unreachable(Instant::now());
                    }
                    Error { kind, retry: Retry::Always }
                })?
            }
        };
        let timeouts = &settings.plan.timeouts;
        let body = self.route.and_then(|route| route.plan.timeouts.body).unwrap_or(timeouts.body);
        let waits = Waits { body, write: timeouts.write, rate: LeastRate::NONE };
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
        (request, response): (&RequestHead, &mut ResponseHead),
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let Some(settings) = self.upstream else { return Err(Kind::Internal.into()) };
        let clock = &self.exchange.worker.clock;
        let wait = self.route.and_then(|route| route.plan.timeouts.head).unwrap_or(settings.plan.timeouts.head);
        let to_head = request.is_head();
        let (mut head_by, mut interim, mut broken, mut hasty) = (NEVER, 0u32, None, false);
        // A client that waits to be told to go on is not late with its body; the endpoint is with its answer.
        let mut waiting = request.options.expect_continue.then(|| clock.now());
        let outcome = poll_fn(|cx| {
            down.alarm().clear();
            if let Err(kind) = self.check_total(down) {
                return Poll::Ready(Err(kind));
            }
            if let Some(since) = waiting {
                down.excuse(clock.now().saturating_sub(since));
                waiting = (interim == 0 && down.received() == 0).then(|| clock.now());
                if waiting.is_none() {
                    head_by = NEVER;
                }
            }
            if !upload.is_done() {
                match upload.poll(cx, clock, &mut self.replay.of(down), up) {
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                    Poll::Ready(Err(Failure::Source(kind))) => return Poll::Ready(Err(kind)),
                    // The endpoint takes no more; it may have said why.
                    Poll::Ready(Err(Failure::Sink(kind))) => {
                        upload.stop();
                        broken = Some(kind);
                        head_by = clock.after(LAST_WORDS);
                    }
                }
            }
            loop {
                // No further interim response before the client took the last.
                match down.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(kind)) => return Poll::Ready(Err(kind)),
                    Poll::Pending => break,
                }
                match up.poll_response(cx, response, &settings.limits, to_head) {
                    Poll::Ready(Ok(Some(()))) if response.is_interim() => {
                        interim += 1;
                        if interim > u32::from(settings.plan.limits.interim) {
                            return Poll::Ready(Err(Kind::ResponseTooLarge));
                        }
                        self.continued |= response.status == 100;
                        down.interim(response);
                    }
                    Poll::Ready(Ok(Some(()))) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(None)) => return Poll::Ready(Err(broken.unwrap_or(Kind::UpstreamClosed))),
                    Poll::Ready(Err(kind)) => return Poll::Ready(Err(kind)),
                    Poll::Pending => break,
                }
            }
            if upload.is_done() || waiting.is_some() {
                if head_by == NEVER {
                    // What cannot be sent again from its beginning has the whole time.
                    let patience = patience.filter(|_| self.replay.is_whole());
                    hasty = patience.is_some_and(|patience| patience < wait);
                    head_by = clock.after(patience.map_or(wait, |patience| patience.min(wait)));
                }
                if clock.now() >= head_by {
                    return Poll::Ready(Err(broken.unwrap_or(Kind::UpstreamHeadTimeout)));
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
            let silent = kind == Kind::UpstreamClosed || (hasty && kind == Kind::UpstreamHeadTimeout);
            Error { kind, retry: if silent && interim == 0 { Retry::Idempotent } else { Retry::Never } }
        })?;
        self.note_answer(settings, response.status);
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
        up.expect_body(response.length, None, LeastRate::NONE);
        let mut coder = self.coder(request, response)?;
        if is_closing(self.exchange.worker, self.exchange.origin) {
            down.close_after();
        }
        down.respond(response, true);
        self.status = response.status;
        let clock = &self.exchange.worker.clock;
        let mut download = Pump::default();
        poll_fn(|cx| {
            down.alarm().clear();
            if down.sent() > 0 {
                faults::strike(self.exchange.worker, faults::Place::Body, request);
            }
            if let Err(kind) = self.check_total(down) {
                return Poll::Ready(Err(kind));
            }
            if !upload.is_done()
                && let Poll::Ready(Err(_)) = upload.poll(cx, clock, &mut self.replay.of(down), up)
            {
                // Whoever failed, the answer is under way: it is delivered, and both connections end with it.
                upload.stop();
                down.close_after();
                up.persistent = false;
            }
            let moved = match &mut coder {
                None => download.poll(cx, clock, up, down),
                Some(coder) => download.poll(cx, clock, &mut coder.over(up), down),
            };
            match moved {
                // Nothing to write for now, which would have told.
                Poll::Pending if upload.is_done() && down.poll_gone(cx).is_ready() => {
                    Poll::Ready(Err(Kind::ClientClosed))
                }
                moved => moved.map_err(|failure| failure.kind()),
            }
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
        let websocket = response.fields.known(Known::Upgrade).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
        self.filter_response(request, response);
        down.respond(response, true);
        self.status = 101;
        self.upgraded = true;
        let idle = self.exchange.listener.plan.timeouts.tunnel;
        down.become_tunnel(idle);
        crate::codec::Tunnel::become_tunnel(up, idle);
        let tunnels = &self.exchange.origin.listener.counters.of(self.exchange.worker.index).tunnels;
        let _open = tunnels.raise();
        let _told = websocket.then(|| self.exchange.worker.counters().websockets.raise());
        let alarm = Rc::clone(down.alarm());
        let end = tunnel(&alarm, down, up, websocket, || self.exchange.worker.is_leaving()).await;
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
            let (stream, wait) = (up.wire.into_stream(), settings.plan.timeouts.idle);
            if self.authenticated {
                self.exchange.reserved.keep(&in_flight.endpoint, stream);
            } else {
                in_flight.endpoint.give_back(stream, &self.exchange.worker.clock, wait);
            }
        }
    }

    async fn answer(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        body: &[u8],
    ) -> Result<(), Error> {
        self.filter_response(request, response);
        let mut body = Cow::Borrowed(body);
        if let Some(mut coder) = self.coder(request, response)? {
            body = Cow::Owned(coder.whole(&body).ok_or(Kind::Exhausted)?);
        }
        self.status = response.status;
        respond::send(down, response, &body).await.map_err(Error::from)
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
}
