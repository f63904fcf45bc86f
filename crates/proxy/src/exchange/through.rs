//! A request or a tunnel of a forward proxy that goes through a parent: an upstream like any other, of which an endpoint is picked,
//! connected to and tried again as ever. What differs is how it is asked: with the whole URL, or first for a way to the origin.

use super::behind::Way;
use super::course::Course;
use super::{Exchange, Story};
use crate::codec::Downstream;
use crate::codec::h1::{ENDPOINT, H1};
use crate::forward::Forward;
use crate::listen::is_own;
use crate::stream::Stream;
use crate::upstream::circuit::Limit;
use crate::upstream::local::Unpicked;
use crate::upstream::opened::Opened;
use crate::wire::Wire;
use penstock_plan::Verdict;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::forward::{Asking, Next, Parent, is_localhost, literal};
use penstock_rules::http::{RequestHead, ResponseHead, Target};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::ready;
use std::time::Instant;
use tokio::time::timeout;

impl<'a> Story<'a> {
    /// The upstream through which this one goes, by its index.
    pub(super) fn parent(&self, forward: &Forward) -> Option<usize> {
        let at = match self.rule.map(|rule| rule.verdict) {
            Some(Verdict::Parent(at)) => Some(at),
            Some(Verdict::Direct) => None,
            _ => forward.plan.parent,
        };
        at.map(|at| at as usize)
    }

    /// Steps 4 to 8.
    pub(super) async fn go_through(
        &mut self,
        down: &mut impl Downstream,
        request: &mut RequestHead,
        response: &mut ResponseHead,
        (forward, at): (&'a Forward, usize),
    ) -> Result<(), Error> {
        let Exchange { worker, local, .. } = self.exchange;
        let settings = local.snapshot.upstreams.get(at).ok_or(Kind::Internal)?;
        let upstream = local.upstreams.get(at).ok_or(Kind::Internal)?;
        let parent = settings.parent.as_ref().ok_or(Kind::Internal)?;
        self.look_at_host(forward, request)?;
        self.upstream = Some(settings);
        upstream.budget.request(self.began);
        let key = settings.key.as_ref().and_then(|key| key.hash(&self.view(request)));
        let mut course = Course::new(settings, upstream, request.is_idempotent());
        // What the origin hears of the client does not change with the way.
        course.sent_as = &forward.settings;
        self.under_way = course.enter(Limit::Requests, worker.index)?;
        // In HTTP/2 an origin may say that it did nothing with a request, whatever its method.
        if request.target != Target::Tunnel && (request.is_idempotent() || self.is_secure(request)) {
            self.replay.keep_up_to(settings.plan.retry.buffer as usize);
        }
        // Whatever else is spoken on a connection is between the client and its origin.
        let asks = request.target == Target::Elsewhere && parent.takes_requests();
        if asks {
            request.go_through(parent.authorization());
        }
        let mut last = Error::from(Kind::NoEndpoint);
        loop {
            let (endpoint, kept) = match self.inside().and_then(|inside| inside.take_through(upstream)) {
                Some((endpoint, in_flight, kept)) => {
                    self.endpoint = Some(in_flight);
                    (endpoint, Some(kept))
                }
                None => match self.pick_parent(&course, key, last)? {
                    Some(endpoint) => (endpoint, None),
                    None => (self.wait_in_line(down, &course, key).await?, None),
                },
            };
            course.begin(endpoint);
            self.attempts += 1;
            settings.shared.counters.of(worker.index).retries.add(u64::from(self.attempts > 1));
            let way = if asks {
                self.connection(&course, request, down).await.map(Way::Alone)
            } else {
                self.way(down, request, (parent, &course, kept)).await
            };
            let (error, opened) = match way {
                Err(error) => (error, false),
                Ok(way) => match self.use_way(way, down, request, response, (&course, asks)).await {
                    Ok(()) => return Ok(()),
                    Err(error) => (error, !asks),
                },
            };
            self.taken = None;
            if opened || error.kind == Kind::ParentRefused || (!asks && error.retry == Retry::Never) {
                // It did its part: what is refused or fails behind it says nothing of how well it is.
                self.count_failure(error);
            } else {
                self.note_failure(settings, error);
            }
            self.try_again(&mut course, error).await?;
            last = error;
        }
    }

    /// Step 4, pick; `None`: there is one to wait for.
    fn pick_parent(&mut self, course: &Course<'_>, key: Option<u64>, last: Error) -> Result<Option<usize>, Error> {
        let upstream = course.upstream;
        let picked =
            if upstream.queue.is_empty() { self.pick(upstream, course.tried, key) } else { Err(Unpicked::Busy) };
        match picked {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(Unpicked::None) => Err(last),
            Err(Unpicked::Busy) if self.attempts > 0 && course.settings.plan.queue.is_none() => Err(last),
            Err(Unpicked::Busy) => Ok(None),
        }
    }

    /// Step 2: no name is asked for on the way through a parent, but what names an address is judged as ever.
    fn look_at_host(&self, forward: &Forward, request: &RequestHead) -> Result<(), Kind> {
        let (host, port) = self.place(request);
        let allowed = match literal(host, port) {
            Some(address) => forward.leave.address(address.ip()) && !is_own(&self.exchange.worker.shared, address),
            None => forward.plan.allow_private || !is_localhost(host),
        };
        if allowed { Ok(()) } else { Err(Kind::AddressForbidden) }
    }

    /// Where the origin is, as a parent is asked for it.
    pub(super) fn place<'s>(&self, request: &'s RequestHead) -> (&'s str, u16)
    where
        'a: 's,
    {
        match self.inside() {
            Some(inside) => (&inside.host, inside.port),
            None => (request.host(), request.place_port()),
        }
    }

    /// Step 5: a connection to a parent that takes requests for whatever origin.
    async fn connection(
        &mut self,
        course: &Course<'_>,
        request: &RequestHead,
        down: &mut impl Downstream,
    ) -> Result<Stream, Error> {
        match self.pooled(request) {
            Some(stream) => Ok(stream),
            None => self.connect(course, down).await,
        }
    }

    /// Step 5: a connection to the origin.
    async fn way(
        &mut self,
        down: &mut impl Downstream,
        request: &RequestHead,
        (parent, course, kept): (&Parent, &Course<'_>, Option<Opened>),
    ) -> Result<Way, Error> {
        // Who has authenticated a connection to the parent, or a way to another server, cannot use it for this.
        let way = self.reusable_way(request, course.settings);
        let pinned = self.pinned.take().filter(|pinned| way.is_some() && pinned.only.as_deref() == way.as_ref());
        let kept = kept.or(pinned);
        self.greeted = false;
        let origin = self.origin_behind(request)?;
        if kept.is_none()
            && let Some(lease) = self.shared_way(origin.as_ref(), request)
        {
            return Ok(Way::Shared(lease));
        }
        let kept = kept.or_else(|| self.kept_way(way.as_ref()?, request));
        self.reused = kept.is_some();
        if let Some(kept) = kept {
            self.taken = kept.taken;
            return Ok(Way::Alone(kept.stream));
        }
        if request.target == Target::Tunnel {
            self.prepare_opening(request);
        }
        let mut connected = self.connect(course, down).await;
        // Those in HTTP/2 are not among the parent's own.
        if connected.as_ref().is_err_and(|error| error.kind == Kind::UpstreamFull) && self.shed_way() {
            connected = self.connect(course, down).await;
        }
        let stream = connected?;
        let stream = self.open_way(stream, request, (parent, course)).await?;
        match origin {
            Some(origin) => self.greet_origin(stream, &origin, request, down).await,
            None => Ok(Way::Alone(stream)),
        }
    }

    /// Steps 6 to 8 of one attempt.
    async fn use_way(
        &mut self,
        way: Way,
        down: &mut impl Downstream,
        request: &RequestHead,
        response: &mut ResponseHead,
        (course, asks): (&Course<'_>, bool),
    ) -> Result<(), Error> {
        let settings = course.settings;
        let stream = match way {
            Way::Shared(lease) => return self.attempt_http2(lease, down, request, response, course).await,
            Way::Alone(stream) => stream,
        };
        if request.target == Target::Tunnel {
            return self.tunnel_over(stream, down, request, settings).await;
        }
        let wire = Wire::new(stream, Rc::clone(&self.exchange.worker.buffers));
        let mut up = H1::new(wire, Rc::clone(down.alarm()), ENDPOINT, self.waits(settings));
        let upload = self.carry(down, &mut up, request, response, course).await?;
        if self.is_clean(down, &up, &upload) {
            if asks {
                self.give_back(up.wire.into_stream(), settings);
            } else if let Some(way) = self.reusable_way(request, settings) {
                self.keep(up.wire.into_stream(), settings, Some(way));
            }
        }
        Ok(())
    }

    /// Step 5: have the parent open the way.
    async fn open_way(
        &mut self,
        mut stream: Stream,
        request: &RequestHead,
        (parent, course): (&Parent, &Course<'_>),
    ) -> Result<Stream, Error> {
        let outward = course.sent_as.outward.as_ref().filter(|outward| outward.via);
        let via = outward.map(|outward| outward.pseudonym.as_str());
        let (host, port) = self.place(request);
        let (asking, said) = parent.ask(host, port, via);
        let (began, clock) = (Instant::now(), &self.exchange.worker.clock);
        let wait = course.settings.plan.timeouts.head.min(clock.until(self.total_by));
        let outcome = timeout(wait, converse(&mut stream, asking, said)).await;
        self.connect += clock.look().saturating_duration_since(began);
        let (kind, reason) = match outcome {
            Ok(Ok(())) => return Ok(stream),
            Ok(Err((kind, reason))) => (kind, reason),
            Err(_) => (Kind::UpstreamHeadTimeout, None),
        };
        self.reason = reason.map(|reason| format!("the parent: {reason}").into());
        // As long as the way is not open nothing came to the origin.
        let retry = if kind == Kind::ParentRefused { Retry::Never } else { Retry::Always };
        Err(Error { kind, retry })
    }
}

/// Say and hear until the way is open.
async fn converse(stream: &mut Stream, mut asking: Asking<'_>, said: Vec<u8>) -> Result<(), (Kind, Option<String>)> {
    let mut next = Next::Say(said);
    let mut room = [0; 64];
    loop {
        let heard = match next {
            Next::Say(said) => {
                say(stream, &said).await.ok_or((Kind::UpstreamClosed, None))?;
                0
            }
            Next::Hear(most) => {
                let most = most.min(room.len());
                let into = room.get_mut(..most).unwrap_or_default();
                match poll_fn(|cx| stream.poll_read(cx, into)).await {
                    Ok(count @ 1..) => count,
                    _ => return Err((Kind::UpstreamClosed, None)),
                }
            }
            Next::Open => return Ok(()),
        };
        let bytes = room.get(..heard).unwrap_or_default();
        next = asking.hear(bytes).map_err(|refused| (Kind::ParentRefused, Some(refused.0)))?;
    }
}

async fn say(stream: &mut Stream, mut rest: &[u8]) -> Option<()> {
    poll_fn(|cx| {
        while !rest.is_empty() {
            let count = ready!(stream.poll_write(cx, rest))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        stream.poll_flush(cx)
    })
    .await
    .ok()
}
