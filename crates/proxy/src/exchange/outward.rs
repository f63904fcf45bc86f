//! A request of a forward proxy: to the origin that the client names. Steps 2, 4 and 5 are other than those of a route; the rest is
//! the same.

use super::course::Course;
use super::forward::needs_http1;
use super::throttled::Throttled;
use super::{Exchange, Story};
use crate::clock::Clock;
use crate::codec::Downstream;
use crate::codec::h1::{ENDPOINT, H1};
use crate::forward::{Forward, nowhere};
use crate::listen::is_own;
use crate::snapshot::UpstreamSettings;
use crate::stream::Stream;
use crate::tls::Failure;
use crate::upstream::channel::Lease;
use crate::upstream::circuit::Limit;
use crate::upstream::connect::{greet, race};
use crate::upstream::endpoint::{LocalEndpoint, Place};
use crate::upstream::resolve;
use crate::wire::Wire;
use penstock_plan::UpstreamProtocol;
use penstock_rules::error::{Error, Kind};
use penstock_rules::http::{Known, Length, RequestHead, ResponseHead, Target, take_hop};
use penstock_rules::users::Login;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Addresses of a name that are tried.
const ADDRESSES: usize = 8;

impl<'a> Story<'a> {
    /// Steps 2 to 8 of a request that names its origin.
    pub(super) async fn go_out(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
        response: &mut ResponseHead,
    ) -> Result<(), Error> {
        let forward = self.exchange.listener.forward.as_deref().ok_or(Kind::Internal)?;
        let inside = self.inside();
        if let Some(inside) = inside {
            inside.ask();
            request.enter(&inside.name, inside.port)?;
        }
        forward.leave.client(self.client)?;
        match inside {
            Some(inside) => {
                // Who asks was proved for the tunnel. What is said of that in it is for nobody behind it, either.
                Login::take(&mut request.fields);
                self.user.clone_from(&inside.user);
            }
            None => self.identify(forward, down, request).await?,
        }
        let port = self.look_at(forward, request)?;
        self.undecided = !self.judge(forward, request)?;
        if request.target != Target::Tunnel && !take_hop(request) {
            return self.answer_fields(down, response, 204, &Default::default()).await;
        }
        if let Some(outward) = &forward.settings.outward {
            if request.fields.known(Known::XRequestId).is_some() {
                self.request_id = self.exchange.worker.request_id();
            }
            outward.prepare(request, self.client);
        }
        if let Some(failure) = inside.and_then(|inside| inside.failure.as_ref()) {
            // The next tunnel asks the origin again.
            down.close_after();
            self.reason.clone_from(&failure.reason);
            return Err(failure.kind.into());
        }
        if self.undecided && forward.chooses_ways {
            self.find_way(forward, request, down, port).await?;
        }
        match self.rule.and_then(|rule| rule.throttle) {
            None => self.go(down, request, response, (forward, port)).await,
            Some(rate) => {
                let mut slow = Throttled::new(down, rate);
                Box::pin(self.go(&mut slow, request, response, (forward, port))).await
            }
        }
    }

    /// Steps 4 to 8, whichever way it goes.
    async fn go(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
        response: &mut ResponseHead,
        (forward, port): (&'a Forward, u16),
    ) -> Result<(), Error> {
        if let Some(at) = self.parent(forward) {
            return Box::pin(self.go_through(down, request, response, (forward, at))).await;
        }
        let Exchange { worker, .. } = self.exchange;
        let secure = self.is_secure(request);
        let settings = if secure { &forward.secure } else { &forward.settings };
        self.upstream = Some(settings);
        let site = self.site(forward, request, port)?;
        let endpoint = worker.origins.get(forward, &site, &worker.clock).ok_or(Kind::Internal)?;
        let upstream = nowhere(&settings.plan);
        let mut course = Course::new(settings, &upstream, request.is_idempotent());
        self.under_way = course.enter(Limit::Requests, worker.index)?;
        if request.target == Target::Tunnel {
            self.begin(&endpoint)?;
            self.attempts = 1;
            let tunnelled = self.tunnel_out(down, request, &course).await;
            return tunnelled.inspect_err(|error| self.note_failure(settings, *error));
        }
        // In HTTP/2 an origin may say that it did nothing with a request, whatever its method.
        if request.is_idempotent() || secure {
            self.replay.keep_up_to(settings.plan.retry.buffer as usize);
        }
        loop {
            self.begin(&endpoint)?;
            self.attempts += 1;
            let Err(error) = self.visit(down, request, response, &course).await else { return Ok(()) };
            self.taken = None;
            self.note_failure(settings, error);
            if !self.is_stale(error) && error.kind != Kind::UpstreamRefused {
                return Err(error);
            }
            self.try_again(&mut course, error).await?;
        }
    }

    /// Step 1: who asks, where that is to be proved. What proves it goes no further in any case (safety.md 152).
    async fn identify(
        &mut self,
        forward: &Forward,
        down: &mut impl Downstream,
        request: &mut RequestHead,
    ) -> Result<(), Kind> {
        let login = Login::take(&mut request.fields);
        let Some(users) = &forward.users else { return Ok(()) };
        let login = login.ok_or(Kind::UserMissing)?.ok_or(Kind::UserRefused)?;
        let began = Instant::now();
        let proved = users.prove(self.exchange.worker, &login, self.client).await;
        // Neither the client was asked for its body meanwhile, nor the origin for an answer.
        down.excuse(Clock::ticks(began.elapsed()));
        self.start_over();
        proved?;
        self.user = Some(login.user);
        Ok(())
    }

    /// Step 2: whether one may go there; the port.
    fn look_at(&self, forward: &Forward, request: &RequestHead) -> Result<u16, Kind> {
        // What comes through a tunnel goes where that may go.
        let tunnel = matches!(request.target, Target::Tunnel | Target::Inside);
        if request.target == Target::Tunnel && request.length != Length::None {
            // It has none (RFC 9110 §9.3.6): what follows is for the other end.
            return Err(Kind::BadHead);
        }
        if forward.settings.outward.as_ref().is_some_and(|outward| outward.has_seen(request)) {
            return Err(Kind::Loop);
        }
        let port = request.place_port();
        forward.leave.port(port, tunnel)?;
        Ok(port)
    }

    fn begin(&mut self, endpoint: &Rc<LocalEndpoint>) -> Result<(), Kind> {
        let reserved = self.exchange.reserved.take_for(endpoint);
        self.authenticated = reserved.is_some();
        self.pinned = reserved.or_else(|| self.inside()?.take_proved());
        self.endpoint = Some(LocalEndpoint::begin(endpoint).ok_or(Kind::UpstreamFull)?);
        Ok(())
    }

    /// Steps 5 to 8 of a request.
    async fn visit(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        course: &Course<'_>,
    ) -> Result<(), Error> {
        if self.undecided {
            self.look_again(request, course, down).await?;
        }
        if course.settings.plan.protocol != UpstreamProtocol::Http1
            && let Some(lease) = self.share(request, course, down).await?
            && !needs_http1(course.settings, request, &lease)
        {
            return self.attempt_http2(lease, down, request, response, course).await;
        }
        let stream = match self.pooled(request) {
            Some(stream) => stream,
            None => self.reach(request, course, down).await?,
        };
        let wire = Wire::new(stream, Rc::clone(&self.exchange.worker.buffers));
        let mut up = H1::new(wire, Rc::clone(down.alarm()), ENDPOINT, self.waits(course.settings));
        let upload = self.carry(down, &mut up, request, response, course).await?;
        if self.is_clean(down, &up, &upload) {
            self.give_back(up.wire.into_stream(), course.settings);
        }
        Ok(())
    }

    /// Step 5 in HTTP/2: a place on a connection that others use, too; `None`: the origin wants HTTP/1.1.
    async fn share(
        &mut self,
        request: &RequestHead,
        course: &Course<'_>,
        down: &mut impl Downstream,
    ) -> Result<Option<Lease>, Error> {
        let Exchange { worker, .. } = self.exchange;
        let endpoint = self.endpoint.as_ref().map(|in_flight| Rc::clone(&in_flight.endpoint)).ok_or(Kind::Internal)?;
        let channels = &endpoint.channels;
        if self.pinned.is_some() || channels.has_fallen_back(worker.clock.now()) {
            return Ok(None);
        }
        let most = usize::from(course.settings.plan.limits.streams);
        if !self.undecided && !channels.is_open() && channels.dialed(most).is_none() {
            // A new one goes to addresses that were looked at just now.
            self.look_again(request, course, down).await?;
        }
        self.lease(course, down).await
    }

    /// Steps 5 to 7 of a tunnel.
    async fn tunnel_out(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        course: &Course<'_>,
    ) -> Result<(), Error> {
        self.prepare_opening(request);
        let stream = self.reach(request, course, down).await?;
        self.tunnel_over(stream, down, request, course.settings).await
    }

    /// Step 7 of a tunnel, whichever way it goes.
    pub(super) async fn tunnel_over(
        &mut self,
        stream: Stream,
        down: &mut impl Downstream,
        request: &RequestHead,
        settings: &UpstreamSettings,
    ) -> Result<(), Error> {
        if self.cannot_open() {
            down.close_after();
            return Err(Kind::Misdirected.into());
        }
        if !down.respond_connected() {
            return Err(Kind::MethodNotAllowed.into());
        }
        let now = self.exchange.worker.clock.look();
        self.answered = Some(now.saturating_duration_since(self.began));
        self.status = 200;
        if let Some(sni) = self.overhear(down, request).await? {
            return self.leave_tunnel(down, request, (sni, stream));
        }
        if down.whole_connection().is_some() {
            // Passed when all that led to it is done (`run`).
            self.tunnel = Some(stream);
            return Ok(());
        }
        let wire = Wire::new(stream, Rc::clone(&self.exchange.worker.buffers));
        let mut up = H1::new(wire, Rc::clone(down.alarm()), ENDPOINT, self.waits(settings));
        self.pass(down, &mut up, false).await
    }

    /// Step 2 where rules ask for the address: a connection that is kept goes on only to one that they let pass.
    async fn look_again(
        &mut self,
        request: &RequestHead,
        course: &Course<'_>,
        down: &mut impl Downstream,
    ) -> Result<(), Error> {
        let worker = self.exchange.worker;
        let endpoint = self.endpoint.as_ref().map(|in_flight| Rc::clone(&in_flight.endpoint)).ok_or(Kind::Internal)?;
        let began = Instant::now();
        let wait = course.settings.plan.timeouts.connect.min(worker.clock.until(self.total_by));
        let found = self.find_out(request, &endpoint, wait).await;
        self.note_connect(began, down, found)?;
        endpoint.sweep(&worker.clock);
        Ok(())
    }

    /// Step 5: find out where the origin is, and connect. Names are asked for here and nowhere else: what is looked at is what is
    /// connected to (safety.md 150).
    async fn reach(
        &mut self,
        request: &RequestHead,
        course: &Course<'_>,
        down: &mut impl Downstream,
    ) -> Result<Stream, Error> {
        let Exchange { worker, .. } = self.exchange;
        let Some(endpoint) = self.endpoint.as_ref().map(|in_flight| Rc::clone(&in_flight.endpoint)) else {
            return Err(Kind::Internal.into());
        };
        self.taken = course.take_connection(worker.index)?;
        let _pending = course.enter(Limit::Pending, worker.index)?;
        let began = Instant::now();
        let wait = course.settings.plan.timeouts.connect.min(worker.clock.until(self.total_by));
        endpoint.counters().connects.add(1);
        let opened = match self.find_out(request, &endpoint, wait).await {
            Ok(addresses) => race(&addresses, wait.saturating_sub(began.elapsed())).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        let opened = match (opened, &endpoint.secure) {
            (Ok(stream), Some(secure)) => {
                let greeting = secure.greeting(UpstreamProtocol::Http1, &worker.buffers);
                greet(stream.into(), greeting, began + wait).await
            }
            (opened, _) => opened,
        };
        if opened.as_ref().is_err_and(|failure| failure.kind == Kind::Exhausted) {
            worker.shed_pools();
        }
        self.note_connect(began, down, opened)
    }

    /// The addresses of an origin that may be connected to.
    pub(super) async fn find_out(
        &mut self,
        request: &RequestHead,
        endpoint: &LocalEndpoint,
        wait: Duration,
    ) -> Result<Vec<SocketAddr>, Failure> {
        let Exchange { worker, local, listener, .. } = self.exchange;
        let host = self.inside().map_or(request.host(), |inside| &inside.host);
        let forward = listener.forward.as_deref().ok_or(Kind::Internal)?;
        let Place::Tcp { name: Some((_, port)), addresses } = &endpoint.shared.place else {
            return Err(Kind::Internal.into());
        };
        let unresolved = |reason: String| Failure { kind: Kind::NameUnresolved, reason: Some(reason.into()) };
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut found = match literal.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, *port)],
            Err(_) => {
                let resolver = local.snapshot.resolvers.get(worker.index).and_then(Option::as_ref);
                let resolver = resolver.ok_or_else(|| unresolved("this machine has no resolver".into()))?;
                let asked = timeout(wait, resolve::ask(resolver, host, *port)).await;
                asked.unwrap_or_else(|_| Err("no answer in time".into())).map_err(unresolved)?.0
            }
        };
        let first = found.first().copied();
        found.retain(|one| forward.leave.address(one.ip()) && !is_own(&worker.shared, *one));
        let mut refused = Kind::AddressForbidden;
        if self.undecided {
            let mut first = None;
            found.retain(|one| {
                let judged = self.judge_address(forward, request, one.ip()).inspect_err(|kind| refused = *kind);
                if judged.is_ok() {
                    first.get_or_insert(self.rule);
                }
                judged.is_ok()
            });
            if let Some(rule) = first {
                self.rule = rule;
            }
        }
        if found.is_empty() {
            let reason = first.map(|first| first.ip().to_string().into());
            return Err(Failure { kind: refused, reason });
        }
        let mut found = resolve::by_turns(found);
        found.truncate(ADDRESSES);
        addresses.store(Arc::new(found.clone()));
        Ok(found)
    }
}
