//! Steps 1 to 5 for a client that has no session: admit, route, pick, and a socket to the endpoint. There is nothing to wait for: an
//! endpoint that cannot be reached says so later or never, and then the session moves to another.

use super::carrier::Carrier;
use super::{Client, Session};
use crate::admit;
use crate::exchange::Course;
use crate::session::About;
use crate::session::open::{Choice, Way, note_failure, route};
use crate::session::record::Moved;
use crate::snapshot::{Listener, UpstreamSettings};
use crate::upstream::affinity::Bond;
use crate::upstream::circuit::{Limit, Taken};
use crate::upstream::endpoint::{LocalEndpoint, Place};
use crate::upstream::local::{InFlight, LocalUpstream, Unpicked};
use crate::worker::Local;
use penstock_rules::error::{Error, Kind, Retry};
use penstock_rules::http::RequestHead;
use penstock_rules::limit;
use penstock_rules::route::View;
use penstock_rules::session::{End, SessionId};
use rustix::event::epoll;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// An endpoint that datagrams can be sent to.
struct Reached {
    socket: OwnedFd,
    in_flight: InFlight,
    places: [Option<Taken>; 2],
}

impl Carrier {
    /// A session for a client that has none. `None`: it gets none, which is counted.
    pub(super) fn open(&mut self, client: Client) -> Option<SessionId> {
        let shared = self.owner.load_full();
        let (local, last) = self.worker.local_of(shared.id)?;
        let (index, listener) = local.snapshot.listener(shared.id)?;
        if last || self.worker.is_draining() {
            return None;
        }
        let ip = client.peer.ip().to_canonical();
        let place = admit::admit_session(&self.worker, shared, listener, ip).ok()?;
        if !self.make_room(listener) {
            admit::refused(&self.worker, &place.listener, Kind::OutOfDescriptors);
            return None;
        }
        place.listener.counters.of(self.worker.index).accepted.add(1);
        let mut about = About::new(Some(SocketAddr::new(ip, client.peer.port())));
        let mut reached = self.reach(&local, (index, listener), &mut about, 0);
        if matches!(reached, Err(Kind::Exhausted)) && self.evict() {
            reached = self.reach(&local, (index, listener), &mut about, 0);
        }
        let reached = reached.and_then(|reached| {
            let data = epoll::EventData::new_u64(self.table.next_id().to_bits());
            let watched = epoll::add(&*self.epoll, &reached.socket, data, epoll::EventFlags::IN);
            watched.map(|()| reached).map_err(|_| Kind::Exhausted)
        });
        match reached {
            Ok(Reached { socket, in_flight, places }) => {
                let session = Session {
                    client,
                    socket,
                    in_flight,
                    tried: 0,
                    bulk: false,
                    gathers: false,
                    up: [0; 2],
                    down: [0; 2],
                    about,
                    _places: places,
                    place,
                };
                Some(self.table.insert(client, Box::new(session), self.worker.clock.now()))
            }
            Err(kind) => {
                // What an endpoint failed at was counted with its attempt.
                if kind.side() != penstock_rules::error::Side::Upstream {
                    self.fail(kind);
                }
                let nothing = Moved { bytes: [0; 2], datagrams: Some([0; 2]) };
                about.record(&self.worker, &place.listener, None, End::Failed(kind), nothing);
                None
            }
        }
    }

    /// See that there is a place in the table, and a descriptor: who was used least recently gives way. Whether there is.
    fn make_room(&mut self, listener: &Listener) -> bool {
        let most = listener.plan.datagrams.map_or(u32::MAX, |datagrams| datagrams.sessions);
        let most = limit::sessions_each(most, self.worker.shared.counters.len());
        while self.table.len() >= most || admit::lacks_descriptors(&self.worker) {
            if !self.evict() {
                return false;
            }
        }
        true
    }

    fn evict(&mut self) -> bool {
        let Some(id) = self.table.least() else { return false };
        self.end(id, End::Evicted);
        true
    }

    /// The endpoint of a session cannot be reached: another gets what comes. Where there is none, the session ends.
    pub(super) fn move_on(&mut self, id: SessionId, kind: Kind) {
        let Some(session) = self.table.get(id) else { return };
        self.note_unreachable(session, kind);
        if !self.change(id) {
            self.end(id, End::EndpointReset);
        }
    }

    /// Give the session another endpoint, if there is one.
    pub(super) fn change(&mut self, id: SessionId) -> bool {
        let Some(session) = self.table.get_mut(id) else { return false };
        let shared = Arc::clone(&session.place.listener);
        let Some((local, _)) = self.worker.local_of(shared.id) else { return false };
        let (Some((index, listener)), Some(upstream)) = (local.snapshot.listener(shared.id), &session.about.upstream)
        else {
            return false;
        };
        let at = local.snapshot.upstreams.iter().position(|one| one.shared.id == upstream.id);
        let Some(upstream) = at.and_then(|at| local.upstreams.get(at)) else { return false };
        let mine = session.in_flight.endpoint.shared.id;
        let place = upstream.endpoints.iter().position(|one| one.shared.id == mine);
        let bit = place.and_then(|at| 1u64.checked_shl(u32::try_from(at).ok()?)).unwrap_or(0);
        let tried = session.tried | bit;
        if !upstream.has_other(tried, Instant::now()) {
            return false;
        }
        session.tried = tried;
        let mut about = std::mem::replace(&mut session.about, About::new(None));
        let reached = self.reach(&local, (index, listener), &mut about, tried);
        let Some(session) = self.table.get_mut(id) else { return false };
        session.about = about;
        let Ok(Reached { socket, in_flight, places }) = reached else { return false };
        let watched = epoll::add(&*self.epoll, &socket, epoll::EventData::new_u64(id.to_bits()), epoll::EventFlags::IN);
        if watched.is_err() {
            return false;
        }
        (session.socket, session.in_flight, session._places) = (socket, in_flight, places);
        (session.bulk, session.gathers) = (false, false);
        true
    }

    fn note_unreachable(&self, session: &Session, kind: Kind) {
        let endpoint = &session.in_flight.endpoint;
        endpoint.unreachable(Instant::now());
        let Some(local) = self.worker.local() else { return };
        let Some(upstream) = &session.about.upstream else { return };
        match local.snapshot.upstreams.iter().find(|one| one.shared.id == upstream.id) {
            Some(settings) => note_failure(&self.worker, settings, &session.in_flight, kind.into()),
            None => self.fail(kind),
        }
    }

    /// Steps 2 to 5: an endpoint that was not `tried`.
    fn reach(
        &self,
        local: &Rc<Local>,
        (index, listener): (usize, &Listener),
        about: &mut About,
        tried: u64,
    ) -> Result<Reached, Kind> {
        let head = RequestHead::default();
        let view = View {
            listener: &listener.plan.name,
            port: self.port,
            client: about.peer.map(|peer| peer.ip()),
            client_port: about.peer.map(|peer| peer.port()),
            ..View::of(&head)
        };
        let at = match &about.upstream {
            // It keeps its upstream, whatever routes say now.
            Some(upstream) => local.snapshot.upstreams.iter().position(|one| one.shared.id == upstream.id),
            None => {
                let Way::Upstream(at, route) = route(&self.worker, local, (index, listener), &view)? else {
                    return Err(Kind::NoRoute);
                };
                about.route = route;
                Some(at)
            }
        };
        let at = at.ok_or(Kind::NoEndpoint)?;
        let settings = local.snapshot.upstreams.get(at).ok_or(Kind::Internal)?;
        let upstream = local.upstreams.get(at).ok_or(Kind::Internal)?;
        about.upstream = Some(Arc::clone(&settings.shared));
        let key = settings.key.as_ref().and_then(|key| key.hash(&view));
        let bond = settings.affinity.as_ref().map_or(Bond::None, |affinity| affinity.of(&view));
        self.pick(settings, upstream, &Choice { bond, key }, about, tried)
    }

    /// Steps 4 and 5. Only what fails here at once is tried again here.
    fn pick(
        &self,
        settings: &UpstreamSettings,
        upstream: &LocalUpstream,
        choice: &Choice,
        about: &mut About,
        tried: u64,
    ) -> Result<Reached, Kind> {
        let worker = &self.worker;
        upstream.budget.request(Instant::now());
        let mut course = Course::new(settings, upstream, true);
        course.tried = tried;
        let under_way = course.enter(Limit::Requests, worker.index)?;
        let mut last = Error::from(Kind::NoEndpoint);
        loop {
            let (endpoint, in_flight) = match upstream.pick(course.tried, choice.bond, &choice.draw(worker)) {
                Ok(picked) => picked,
                // A datagram does not wait in line.
                Err(Unpicked::Busy) if last.kind == Kind::NoEndpoint => return Err(Kind::QueueFull),
                Err(_) => return Err(last.kind),
            };
            course.begin(endpoint);
            about.attempts += 1;
            settings.shared.counters.of(worker.index).retries.add(u64::from(about.attempts > 1));
            let taken = course.take_connection(worker.index)?;
            match connect(&in_flight.endpoint) {
                Ok(socket) => return Ok(Reached { socket, in_flight, places: [under_way, taken] }),
                Err(Kind::Exhausted) => return Err(Kind::Exhausted),
                Err(kind) => last = Error { kind, retry: Retry::Always },
            }
            in_flight.endpoint.unreachable(Instant::now());
            note_failure(worker, settings, &in_flight, last);
            if !course.retries.again(last.retry) {
                return Err(last.kind);
            }
            course.charge(worker.index, last).map_err(|error| error.kind)?;
            course.give_up();
        }
    }
}

/// A socket that sends to the endpoint and hears nobody else, to the first of its addresses that there is a way to.
fn connect(endpoint: &LocalEndpoint) -> Result<OwnedFd, Kind> {
    endpoint.counters().connects.add(1);
    let Place::Tcp { .. } = &endpoint.shared.place else { return Err(Kind::ConnectFailed) };
    let mut failure = Kind::Unresolved;
    for address in endpoint.addresses() {
        match open_socket(address) {
            Ok(socket) => return Ok(socket.into()),
            Err(error) => {
                failure = match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return Err(Kind::Exhausted),
                    Some(libc::ECONNREFUSED) => Kind::ConnectRefused,
                    _ => Kind::ConnectFailed,
                }
            }
        }
    }
    Err(failure)
}

fn open_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    socket.connect(&address.into())?;
    Ok(socket)
}
