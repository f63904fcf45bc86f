//! What comes before a session is open: which upstream it goes to, which endpoint, and a connection to that. Whatever fails here
//! before a byte was passed on is tried again at another endpoint.

use super::duplex::Duplex;
use super::record::Moved;
use super::{About, Session};
use crate::admit::{self, Place};
use crate::announced;
use crate::clock::{Alarm, NEVER};
use crate::exchange::Course;
use crate::listen::{Accepted, Handed};
use crate::snapshot::{Listener, SharedListener, SharedRoute, UpstreamSettings};
use crate::stream::Stream;
use crate::upstream::affinity::Bond;
use crate::upstream::circuit::{Limit, Taken};
use crate::upstream::connect::connect;
use crate::upstream::local::{InFlight, LocalUpstream, Unpicked};
use crate::upstream::outlier;
use crate::worker::{Local, Worker};
use penstock_plan::Action;
use penstock_rules::balance::Draw;
use penstock_rules::error::{Error, Kind, Retry, Side};
use penstock_rules::health::Cause;
use penstock_rules::http::RequestHead;
use penstock_rules::proxy_protocol::{self, Addresses};
use penstock_rules::route::View;
use penstock_rules::session::End;
use penstock_rules::tls::Hello;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A session that is being opened.
pub(super) struct Opening {
    pub(super) worker: Rc<Worker>,
    pub(super) alarm: Alarm,
    pub(super) client: Stream,
    pub(super) about: About,
    /// What it said already.
    pub(super) said: Vec<u8>,
    /// Whether it was told by an alert what is wrong: a reset would take that with it.
    pub(super) told: bool,
    /// Whom it asks for, where that is read.
    hello: Option<Hello>,
    port: Option<u16>,
    /// What the client connected to, where somebody is told of it.
    pub(super) destination: Option<SocketAddr>,
    pub(super) place: Place,
}

/// What was found for a connection.
enum Found {
    /// An endpoint, and how long the session may be silent.
    Endpoint(Duration, Reached),
    Http(Arc<SharedListener>),
}

/// An endpoint that was reached.
struct Reached {
    stream: Stream,
    in_flight: InFlight,
    places: [Option<Taken>; 2],
}

/// What becomes of a connection.
pub(super) enum Opened {
    Session(Box<Session>),
    /// A listener of `http` serves it.
    Http(Box<Accepted>),
}

/// Where a connection or a datagram goes.
pub(super) enum Way {
    /// To this upstream, by a route or not.
    Upstream(usize, Option<Arc<SharedRoute>>),
    Http(Arc<SharedListener>),
}

/// Open a session; `None`: it could not be, which was recorded.
pub(super) async fn open(worker: Rc<Worker>, accepted: Accepted) -> Option<Opened> {
    let Accepted { stream, peer, port, place, .. } = accepted;
    let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    let destination = worker.local().filter(|local| local.snapshot.announces).and_then(|_| stream.local());
    let mut client = Stream::Clear(stream);
    // A session waits for both sides from its first moment on.
    let joined = client.join();
    let alarm = worker.clock.alarm();
    poll_fn(|cx| {
        alarm.register(cx);
        Poll::Ready(())
    })
    .await;
    let mut opening = Opening {
        worker,
        alarm,
        client,
        about: About::new(peer),
        said: Vec::new(),
        told: false,
        hello: None,
        port,
        destination,
        place,
    };
    let (local, _) = opening.worker.local_of(opening.place.listener.id)?;
    let reached = match joined {
        Ok(()) => opening.reach(&local).await,
        Err(_) => Err(Kind::OutOfDescriptors),
    };
    match reached {
        Ok(Found::Endpoint(idle, reached)) => Some(Opened::Session(Box::new(opening.begin(idle, reached)))),
        Ok(Found::Http(listener)) => opening.hand_over(listener),
        Err(kind) => {
            opening.fail(kind);
            None
        }
    }
}

impl Opening {
    pub(super) fn listener(&self) -> &SharedListener {
        &self.place.listener
    }

    /// Steps 2 to 5.
    async fn reach(&mut self, local: &Local) -> Result<Found, Kind> {
        let (index, listener) = local.snapshot.listener(self.place.listener.id).ok_or(Kind::NoRoute)?;
        if announced::is_expected(&self.worker, &listener.shared, self.about.peer) {
            Box::pin(self.hear(listener)).await?;
        }
        if listener.tls.is_some() || listener.plan.preread {
            self.hello = match &listener.tls {
                // Boxed: it is large, and most sessions have none.
                Some(tls) => Some(Box::pin(self.secure((tls, listener), listener.plan.timeouts.tls)).await?),
                None => self.read_first(listener.plan.timeouts.hello).await?,
            };
            self.about.sni = self.hello.as_ref().and_then(|hello| hello.sni.as_deref()).map(Box::from);
        }
        let head = RequestHead::default();
        let view = self.view(listener, &head);
        let (at, route) = match route(&self.worker, local, (index, listener), &view)? {
            Way::Upstream(at, route) => (at, route),
            Way::Http(listener) => return Ok(Found::Http(listener)),
        };
        let settings = local.snapshot.upstreams.get(at).ok_or(Kind::Internal)?;
        let upstream = local.upstreams.get(at).ok_or(Kind::Internal)?;
        let key = settings.key.as_ref().and_then(|key| key.hash(&view));
        let bond = settings.affinity.as_ref().map_or(Bond::None, |affinity| affinity.of(&view));
        self.about.route = route;
        self.about.upstream = Some(Arc::clone(&settings.shared));
        let choice = Choice { bond, key };
        // Places are waited for and endpoints connected to for as long as the client is there.
        let reached = self.forward(settings, upstream, &choice).await?;
        Ok(Found::Endpoint(listener.plan.timeouts.idle, reached))
    }

    /// What expressions see of a connection.
    fn view<'v>(&'v self, listener: &'v Listener, head: &'v RequestHead) -> View<'v> {
        View {
            sni: self.hello.as_ref().and_then(|hello| hello.sni.as_deref()),
            alpn: self.hello.as_ref().and_then(|hello| hello.alpn.as_deref()),
            listener: &listener.plan.name,
            port: self.port,
            client: self.about.peer.map(|peer| peer.ip()),
            client_port: self.about.peer.map(|peer| peer.port()),
            ..View::of(head)
        }
    }

    /// Steps 4 and 5: an endpoint that can be reached.
    async fn forward(
        &mut self,
        settings: &UpstreamSettings,
        upstream: &LocalUpstream,
        choice: &Choice,
    ) -> Result<Reached, Kind> {
        let worker = Rc::clone(&self.worker);
        upstream.budget.request(self.about.began);
        let mut course = Course::new(settings, upstream, true);
        let under_way = course.enter(Limit::Requests, worker.index)?;
        let mut last = Error::from(Kind::NoEndpoint);
        loop {
            // Who comes later does not take the place that somebody in the line waits for.
            let picked = match upstream.queue.is_empty() {
                true => upstream.pick(course.tried, choice.bond, &choice.draw(&worker)),
                false => Err(Unpicked::Busy),
            };
            let (endpoint, in_flight) = match picked {
                Ok(picked) => picked,
                Err(Unpicked::None) => return Err(last.kind),
                Err(Unpicked::Busy) if self.about.attempts > 0 && settings.plan.queue.is_none() => {
                    return Err(last.kind);
                }
                Err(Unpicked::Busy) => self.wait_in_line(&course, choice).await?,
            };
            course.begin(endpoint);
            self.about.attempts += 1;
            settings.shared.counters.of(worker.index).retries.add(u64::from(self.about.attempts > 1));
            match self.connect(&course, &in_flight).await {
                Ok((stream, taken)) => return Ok(Reached { stream, in_flight, places: [under_way, taken] }),
                Err(error) => last = error,
            }
            note_failure(&worker, settings, &in_flight, last);
            drop(in_flight);
            if !course.retries.again(last.retry) {
                return Err(last.kind);
            }
            if last.kind != Kind::Exhausted {
                course.charge(worker.index, last).map_err(|error| error.kind)?;
                course.give_up();
            }
        }
    }

    /// Step 5, connect.
    async fn connect(&mut self, course: &Course<'_>, in_flight: &InFlight) -> Result<(Stream, Option<Taken>), Error> {
        let (worker, endpoint) = (&self.worker, &in_flight.endpoint);
        let taken = course.take_connection(worker.index)?;
        let _pending = course.enter(Limit::Pending, worker.index)?;
        let began = Instant::now();
        let mut announced = Vec::new();
        if let Some(version) = course.settings.plan.proxy_protocol {
            proxy_protocol::write(version, self.told().as_ref(), &mut announced);
        }
        let wait = course.settings.plan.timeouts.connect;
        let opened = connect(endpoint, None, &worker.buffers, wait, announced).await;
        let took = began.elapsed();
        self.about.connect += took;
        match opened {
            Ok(stream) => {
                // There is no answer whose time could be taken: how soon it accepts is what is known of its load.
                endpoint.answered(Some(took), Instant::now());
                Ok((stream, taken))
            }
            // That we have no descriptor left says nothing of the endpoint.
            Err(failure) if failure.kind == Kind::Exhausted => {
                worker.shed_pools();
                Err(Error { kind: failure.kind, retry: Retry::Always })
            }
            Err(failure) => {
                endpoint.unreachable(Instant::now());
                Err(Error { kind: failure.kind, retry: Retry::Always })
            }
        }
    }

    /// Between whom the endpoint is told that the connection is, where that is known.
    fn told(&self) -> Option<Addresses> {
        let (source, destination) = (self.about.peer?, self.destination?);
        Some(Addresses { source, destination: SocketAddr::new(destination.ip().to_canonical(), destination.port()) })
    }

    /// The session is open.
    fn begin(self, idle: Duration, reached: Reached) -> Session {
        let Opening { worker, alarm, client, about, said, place, .. } = self;
        let Reached { stream, in_flight, places } = reached;
        let duplex = Duplex::beginning_with(&said, &worker.buffers, idle, &alarm);
        Session {
            worker,
            alarm,
            client,
            endpoint: stream,
            duplex,
            // Looked for at the first look: a reload may have come while it was opened.
            seen: 0,
            leave_at: NEVER,
            in_flight,
            about,
            _places: places,
            place,
        }
    }

    /// A listener of `http` serves it, if that takes it in. What it said goes along.
    fn hand_over(self, listener: Arc<SharedListener>) -> Option<Opened> {
        let Opening { worker, client, about, said, port, destination, .. } = self;
        let (peer, Stream::Clear(stream)) = (about.peer, client) else { return None };
        // Who is refused is counted there; in clear he would take a word for broken TLS.
        let place = admit::admit(&worker, listener, peer.map(|peer| peer.ip())).ok()?;
        let handed = Some(Box::new(Handed { said, destination }));
        Some(Opened::Http(Box::new(Accepted { stream, peer, port, place, handed })))
    }

    /// It could not be opened: the client gets a reset, so that it takes nothing for an end in order.
    fn fail(mut self, kind: Kind) {
        // What an endpoint failed at was counted with its attempt, and who has too many connections when that was seen.
        if kind.side() != Side::Upstream && kind != Kind::TooManyPerClient {
            self.worker.counters().fail(kind);
        }
        if !self.told {
            self.client.break_off();
        }
        let nothing = Moved { bytes: [0; 2], datagrams: None };
        self.about.record(&self.worker, &self.place.listener, None, End::Failed(kind), nothing);
    }
}

/// Step 2, route: the first that serves the listener and matches, or else the listener's own upstream, or the listener that opens what
/// is not passed on.
pub(super) fn route(
    worker: &Worker,
    local: &Local,
    (index, listener): (usize, &Listener),
    view: &View<'_>,
) -> Result<Way, Kind> {
    let found = local.snapshot.table.find(view, u32::try_from(index).unwrap_or(u32::MAX));
    let Some(route) = found.and_then(|at| local.snapshot.routes.get(at)) else {
        let http = listener.plan.http.and_then(|at| local.snapshot.listeners.get(at as usize));
        return match (http, listener.plan.upstream) {
            (Some(http), _) => Ok(Way::Http(Arc::clone(&http.shared))),
            (None, Some(own)) => Ok(Way::Upstream(own as usize, None)),
            (None, None) => Err(Kind::NoRoute),
        };
    };
    let at = match (&route.plan.action, &route.split) {
        (Action::Upstream(upstream), _) => *upstream,
        (_, Some(split)) => split.choose(view, worker.random()),
        _ => return Err(Kind::NoRoute),
    };
    Ok(Way::Upstream(at as usize, Some(Arc::clone(&route.shared))))
}

/// An attempt at an endpoint failed.
pub(super) fn note_failure(worker: &Worker, settings: &UpstreamSettings, in_flight: &InFlight, error: Error) {
    if error.side() != Side::Upstream {
        return;
    }
    worker.counters().fail(error.kind);
    in_flight.endpoint.counters().failures.add(1);
    if in_flight.is_current() {
        outlier::failed(settings, &in_flight.endpoint.shared, Cause::Failure(error.kind), &worker.shared);
    }
}

/// What decides which endpoint takes a session.
pub(super) struct Choice {
    pub(super) bond: Bond,
    pub(super) key: Option<u64>,
}

impl Choice {
    pub(super) fn draw(&self, worker: &Worker) -> Draw {
        Draw { random: worker.random(), now: Instant::now(), key: self.key }
    }
}
