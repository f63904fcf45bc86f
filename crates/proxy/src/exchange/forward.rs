//! Steps 4 and 8: pick an endpoint, run an attempt, and try again where that is safe.

use super::Story;
use super::course::Course;
use crate::codec::h1::{ENDPOINT, H1};
use crate::codec::h2::H2;
use crate::codec::{Downstream, Upstream};
use crate::relay::Pump;
use crate::snapshot::UpstreamSettings;
use crate::stream::Stream;
use crate::upstream::affinity::Bond;
use crate::upstream::channel::Lease;
use crate::upstream::circuit::{Circuit, Limit};
use crate::upstream::local::{InFlight, LocalUpstream, Unpicked};
use crate::upstream::opened::{Only, Opened};
use crate::wire::Wire;
use penstock_plan::UpstreamProtocol;
use penstock_rules::balance::Draw;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::{RequestHead, ResponseHead};
use std::rc::Rc;

impl Story<'_> {
    /// Steps 4 to 8: forward, and try again where that is safe.
    pub(super) async fn forward(
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
        let idempotent = request.is_idempotent();
        let mut course = Course::new(settings, upstream, idempotent);
        self.under_way = course.enter(Limit::Requests, self.exchange.worker.index)?;
        // In HTTP/2 an endpoint may say that it did nothing with a request, whatever its method.
        if idempotent || settings.plan.protocol != UpstreamProtocol::Http1 {
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
                // One that is full does not make a failure of the last one's something else.
                Err(Unpicked::Busy) if self.attempts > 0 && settings.plan.queue.is_none() => return Err(last),
                Err(Unpicked::Busy) => self.wait_in_line(down, &course, key).await?,
            };
            course.begin(endpoint);
            self.attempts += 1;
            settings.shared.counters.of(self.exchange.worker.index).retries.add(u64::from(self.attempts > 1));
            let error = match self.attempt(down, request, response, &course).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            // Its connection is closed.
            self.taken = None;
            self.note_failure(settings, error);
            self.try_again(&mut course, error).await?;
            last = error;
        }
    }

    /// Step 4, pick.
    #[inline(always)]
    pub(super) fn pick(&mut self, upstream: &LocalUpstream, tried: u64, key: Option<u64>) -> Result<usize, Unpicked> {
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
        let settings = course.settings;
        if settings.plan.protocol != UpstreamProtocol::Http1
            && let Some(lease) = Box::pin(self.lease(course, down)).await?
            && !needs_http1(settings, request, &lease)
        {
            // Boxed, so that the task of every other exchange stays small.
            return Box::pin(self.attempt_http2(lease, down, request, response, course)).await;
        }
        let stream = match self.pooled(request) {
            Some(stream) => stream,
            None => self.connect(course, down).await?,
        };
        let wire = Wire::new(stream, Rc::clone(&self.exchange.worker.buffers));
        // Made where it stays: it is large.
        let mut up = H1::new(wire, Rc::clone(down.alarm()), ENDPOINT, self.waits(settings));
        let upload = self.carry(down, &mut up, request, response, course).await?;
        if self.is_clean(down, &up, &upload) {
            self.give_back(up.wire.into_stream(), settings);
        }
        Ok(())
    }

    /// Steps 6 and 7 in HTTP/2: the connection is not this exchange's alone, and stays whatever becomes of it.
    pub(super) async fn attempt_http2(
        &mut self,
        lease: Lease,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        course: &Course<'_>,
    ) -> Result<(), Error> {
        // One that was given up meanwhile keeps none.
        let keeps = self.endpoint.as_ref().is_some_and(|in_flight| in_flight.endpoint.most_idle.get() > 0);
        let mut up = H2::over(lease, Rc::clone(down.alarm()), self.waits(course.settings));
        let carried = self.carry(down, &mut up, request, response, course).await;
        if !keeps || course.settings.circuit.as_ref().is_some_and(Circuit::is_short_of_connections) {
            up.close_if_last();
        }
        if !carried?.is_done() || !down.is_ended() {
            down.close_after();
        }
        Ok(())
    }

    /// Steps 6 and 7 over a connection; what is left of the request's body.
    #[inline(always)]
    pub(super) async fn carry(
        &mut self,
        down: &mut impl Downstream,
        up: &mut impl Upstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        course: &Course<'_>,
    ) -> Result<Pump, Error> {
        self.send(up, request, course.sent_as);
        let mut upload = Pump::default();
        let conversed = self.converse(down, up, &mut upload, (request, response), course.patience()).await;
        if self.mirrored.is_some() {
            self.copy_if_whole(down, request);
        }
        conversed.map_err(|error| self.blame(error, up))?;
        if self.asks_another(course, response.status) {
            return Err(Error { kind: Kind::UpstreamStatus, retry: Retry::Idempotent });
        }
        let answered = response.status;
        match self.route {
            Some(route) => {
                if let Some(addons) = route.addons.as_ref().filter(|addons| addons.has_response()) {
                    Box::pin(self.ask_of_response(addons, down, request, response)).await?;
                }
            }
            // A forward proxy has no routes.
            None => self.judge_response(request, response)?,
        }
        if answered == 101 && (!upload.is_done() || !down.is_ended()) {
            // What is left of the body would go on as bytes of the other protocol (RFC 9110 §7.8).
            return Err(Kind::BadUpgrade.into());
        }
        if !down.takes(answered) {
            return Err(Kind::BadUpgrade.into());
        }
        if answered == 101 {
            self.switch(down, up, request, response).await?;
            return Ok(upload);
        }
        self.authenticated |= request.options.authenticates || response.options.authenticates;
        if !upload.is_done() || !down.is_ended() {
            // The answer came before the request was whole: neither side can tell where a next one would begin.
            down.close_after();
            up.spoil();
        }
        if request.options.expect_continue && !self.continued && answered >= 400 {
            // The endpoint did not ask for the body: what it gets of it, it may take for a request.
            up.spoil();
        }
        // An add-on that changed the status has said what the client gets.
        let page = if response.status == answered { self.page_for(request, answered)? } else { None };
        match page {
            // Boxed, so that the task of every other exchange stays small.
            Some(page) => Box::pin(self.stand_in(down, up, (request, response), page)).await?,
            None => self.relay(down, up, &mut upload, request, response).await?,
        }
        Ok(upload)
    }

    /// The endpoint has done its part: give its places back, before the client knows that its request is answered. The next that it
    /// sends, to whatever worker, finds them free.
    pub(super) fn leave(&mut self) {
        self.endpoint.iter_mut().for_each(InFlight::leave);
        self.under_way = None;
    }

    /// Step 8, finish: whether the connection may go back to its pool, because nothing on it is in doubt (safety.md R3).
    pub(super) fn is_clean(&self, down: &mut impl Downstream, up: &H1, upload: &Pump) -> bool {
        if !upload.is_done() || !down.is_ended() {
            down.close_after();
            return false;
        }
        up.persistent && up.is_clean() && up.wire.input().is_empty()
    }

    #[inline(always)]
    pub(super) fn give_back(&mut self, stream: Stream, settings: &UpstreamSettings) {
        let only = self.told().map(Only::Between);
        if settings.plan.proxy_protocol.is_none() || only.is_some() {
            self.keep(stream, settings, only);
        }
    }

    /// The same, for this alone.
    pub(super) fn keep(&mut self, stream: Stream, settings: &UpstreamSettings, only: Option<Only>) {
        let opened = Opened { stream, taken: self.taken.take(), only: only.map(Box::new) };
        let Some(in_flight) = &self.endpoint else { return };
        if self.authenticated {
            self.exchange.reserved.keep(&in_flight.endpoint, opened);
        } else if !settings.circuit.as_ref().is_some_and(Circuit::is_short_of_connections) {
            in_flight.endpoint.give_back(opened, &self.exchange.worker.clock, settings.plan.timeouts.idle);
        }
    }
}

/// Whether a request is better asked in HTTP/1.1, which the endpoint may have, too: an upgrade that has no form in HTTP/2, or a
/// WebSocket where it has none on its streams.
pub(super) fn needs_http1(settings: &UpstreamSettings, request: &RequestHead, lease: &Lease) -> bool {
    request.options.upgrade
        && settings.plan.protocol == UpstreamProtocol::Auto
        && !(lease.takes_websockets() && request.websocket_accept().is_ok())
}
