//! Tunnels that are opened: first the origin proves who it is, then the client is shown a certificate of ours for it, and what it asks
//! for is served as any other request (`exchange/outward.rs`).

use super::leaves::{leaf, prepare};
use super::origins::{Behind, Site};
use super::{Forward, Interception};
use crate::clock::Alarm;
use crate::connection::{Origin, is_closing};
use crate::contain::contain;
use crate::observe::events::Level;
use crate::respond;
use crate::stream::Stream;
use crate::tls::{self, Carrier, Failure, Secured, Shown};
use crate::upstream::channel::{Terms, adopt};
use crate::upstream::circuit::Taken;
use crate::upstream::connect::greet;
use crate::upstream::endpoint::{LocalEndpoint, Place};
use crate::upstream::local::{InFlight, LocalUpstream};
use crate::upstream::opened::Opened;
use crate::worker::Worker;
use penstock_plan::UpstreamProtocol;
use penstock_rules::error::Kind;
use penstock_rules::forward::Sign;
use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// A client that leaves so soon without having asked for anything did not like what it was shown.
const AT_ONCE: Duration = Duration::from_secs(1);

/// A tunnel that is to be opened, as its exchange leaves it to the client's connection.
pub(crate) struct Opening {
    pub(crate) forward: Arc<Forward>,
    /// What the client asked to be connected to.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    /// The name in its hello.
    pub(crate) sni: Option<String>,
    /// The connection to the origin, in clear, its place among those that there may be, and all addresses that may be connected to.
    pub(crate) stream: Stream,
    pub(crate) taken: Option<Taken>,
    pub(crate) addresses: Arc<Vec<SocketAddr>>,
    /// The parent through which it goes, which alone knows addresses, and how the origin is known behind it.
    pub(crate) parent: Option<(Rc<LocalEndpoint>, Behind)>,
    pub(crate) client: Option<IpAddr>,
    /// Who asked for it, where that was to be proved.
    pub(crate) user: Option<Box<str>>,
}

/// The client of such a tunnel, and what it has said.
pub(crate) struct Heard {
    pub(crate) client: Carrier,
    pub(crate) said: Vec<u8>,
    pub(crate) opening: Opening,
}

/// A tunnel that was opened. What is asked for in it is for one host.
pub(crate) struct Inside {
    /// What the tunnel goes to, of which an address is asked.
    pub(crate) host: Box<str>,
    pub(crate) port: u16,
    /// Whom the client asked for, and the origin has to be.
    pub(crate) name: Box<str>,
    /// Who asks in it.
    pub(crate) user: Option<Box<str>>,
    /// Why the origin is not asked for anything.
    pub(crate) failure: Option<Failure>,
    /// The connection over which it proved that, for the first request. In a pool it would be taken for one that spoke unasked: tickets
    /// come behind the handshake.
    proved: Cell<Option<Proved>>,
    /// Whether the client has asked for something.
    asked: Cell<bool>,
    since: Instant,
    noticer: Noticer,
}

/// A connection over which the origin has proved who it is, and nobody uses.
struct Proved {
    opened: Opened,
    /// The parent through which it goes.
    parent: Option<Rc<LocalEndpoint>>,
    since: Instant,
}

impl fmt::Debug for Inside {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Inside({}:{} as {})", self.host, self.port, self.name)
    }
}

impl Inside {
    /// The connection over which the origin has proved who it is, if it goes straight there, was not used, and is not too old for that.
    pub(crate) fn take_proved(&self) -> Option<Opened> {
        let proved = self.proved.take()?;
        if proved.parent.is_some() {
            self.proved.set(Some(proved));
            return None;
        }
        self.is_fresh(&proved).then_some(proved.opened)
    }

    /// The same through one of these parents, with its place among them.
    pub(crate) fn take_through(&self, parents: &LocalUpstream) -> Option<(usize, InFlight, Opened)> {
        let proved = self.proved.take()?;
        let place = |parent| parents.endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, parent));
        let Some((at, parent)) = proved.parent.as_ref().and_then(|parent| Some((place(parent)?, parent))) else {
            self.proved.set(Some(proved));
            return None;
        };
        let in_flight = LocalEndpoint::begin(parent).filter(|_| self.is_fresh(&proved))?;
        Some((at, in_flight, proved.opened))
    }

    fn is_fresh(&self, proved: &Proved) -> bool {
        proved.since.elapsed() < self.noticer.forward.settings.plan.timeouts.idle
    }

    /// The client asks for something: it has taken our certificate.
    pub(crate) fn ask(&self) {
        if !self.asked.replace(true) {
            self.noticer.trust(&self.name);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if !self.asked.get() && self.since.elapsed() < AT_ONCE {
            self.noticer.notice(&self.name, Sign::Left);
        }
    }
}

/// Notes which client does not take our certificates.
struct Noticer {
    worker: Rc<Worker>,
    forward: Arc<Forward>,
    client: Option<IpAddr>,
}

impl Noticer {
    fn trust(&self, host: &str) {
        let Some(interception) = &self.forward.interception else { return };
        let mut pinned = interception.shared.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.trust(self.client, host, (Instant::now(), self.wait()));
    }

    fn notice(&self, host: &str, sign: Sign) {
        let Some(interception) = &self.forward.interception else { return };
        let wait = self.wait();
        let mut pinned = interception.shared.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if pinned.notice(self.client, host, sign, (Instant::now(), wait)) {
            let client = self.client.map_or_else(|| "unix".to_owned(), |client| client.to_string());
            let message = format!(
                "client {client} does not take our certificate for {host}: its tunnels there stay closed for {} s",
                wait.as_secs()
            );
            self.worker.shared.events.add(Level::Warning, "interception", message, &[]);
        }
    }

    /// For how long that is remembered.
    fn wait(&self) -> Duration {
        self.forward.plan.interception.as_ref().map_or(Duration::ZERO, |plan| plan.pinned)
    }
}

impl Interception {
    /// Whether tunnels of this client to this host stay closed because of what it did.
    pub(crate) fn is_pinned(&self, client: Option<IpAddr>, host: &str) -> bool {
        let pinned = self.shared.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.has(client, host, Instant::now())
    }
}

/// Open a tunnel; the stream in it, or `None`: close. `origin` is from then on that of what is in it.
pub(crate) async fn open(worker: &Rc<Worker>, origin: &mut Origin, heard: Heard, alarm: &Alarm) -> Option<Stream> {
    let opened = contain(worker, pin!(shake_hands(worker, origin, heard, alarm))).await;
    match opened.unwrap_or(Err(Kind::Internal)) {
        Ok((stream, secured)) => {
            origin.secured = Some(Box::new(secured));
            Some(stream)
        }
        Err(kind) => {
            let (local, _) = worker.local_of(origin.listener.id)?;
            respond::refuse_connection(worker, (&local, origin), kind);
            None
        }
    }
}

async fn shake_hands(
    worker: &Rc<Worker>,
    origin: &Origin,
    Heard { client, said, opening }: Heard,
    alarm: &Alarm,
) -> Result<(Stream, Secured), Kind> {
    let Opening { forward, host, port, sni, stream, taken, addresses, parent, client: address, user } = opening;
    let interception = forward.interception.as_ref().ok_or(Kind::Internal)?;
    let name: Box<str> = sni.map_or_else(|| host.clone(), String::into_boxed_str);
    let own = bare(&name);
    prepare(worker, &interception.authority, own);
    let tls = forward.tls.as_ref().ok_or(Kind::Internal)?;
    let (parent, behind) = parent.unzip();
    let site = Site { place: format!("{host}:{port}"), secure: Some((tls, &name)), behind };
    let proved = prove(worker, &forward, &site, (stream, taken), addresses).await;
    let counters = interception.shared.counters.of(worker.index);
    counters.unverified.add(u64::from(proved.is_err()));
    let (local, _) = worker.local_of(origin.listener.id).ok_or(Kind::ClientClosed)?;
    let (_, listener) = local.snapshot.listener(origin.listener.id).ok_or(Kind::ClientClosed)?;
    let shown = leaf(worker, &interception.authority, own).await.ok_or(Kind::TlsName)?;
    let until = worker.clock.after(listener.plan.timeouts.tls);
    let closing = || is_closing(worker, &origin.listener);
    let shaken = tls::accept(worker, (Shown::Origin(&shown), listener), (client, &said), (alarm, until), closing).await;
    let noticer = Noticer { worker: Rc::clone(worker), forward: Arc::clone(&forward), client: address };
    match shaken {
        Ok(Some((stream, mut secured))) => {
            counters.opened.add(1);
            let (proved, failure) = match proved {
                Ok(opened) => (opened.map(|opened| Proved { opened, parent, since: Instant::now() }), None),
                Err(failure) => (None, Some(failure)),
            };
            let (proved, asked, since) = (Cell::new(proved), Cell::new(false), Instant::now());
            // Who the client has proved to be to the proxy itself it is in its tunnel, too.
            secured.client = origin.secured.as_ref().and_then(|outer| outer.client.clone());
            let inside = Inside { host, port, name, user, failure, proved, asked, since, noticer };
            secured.inside = Some(Rc::new(inside));
            Ok((stream, secured))
        }
        Ok(None) => Err(Kind::ClientClosed),
        Err(refused) => {
            match refused.kind {
                Kind::CertificateRefused => {
                    counters.refused.add(1);
                    noticer.notice(&name, Sign::Refused);
                }
                Kind::ClientClosed => {
                    noticer.notice(&name, Sign::Left);
                    return Err(Kind::TlsFailed);
                }
                _ => {}
            }
            Err(refused.kind)
        }
    }
}

/// Let the origin prove who it is; the connection for the first request, unless others share it.
async fn prove(
    worker: &Rc<Worker>,
    forward: &Forward,
    site: &Site<'_>,
    (stream, taken): (Stream, Option<Taken>),
    addresses: Arc<Vec<SocketAddr>>,
) -> Result<Option<Opened>, Failure> {
    let endpoint = worker.origins.get(forward, site, &worker.clock).ok_or(Kind::Internal)?;
    let secure = endpoint.secure.as_ref().ok_or(Kind::Internal)?;
    if let Place::Tcp { name: Some(_), addresses: known } = &endpoint.shared.place {
        known.store(addresses);
    }
    if endpoint.channels.is_open() {
        // It has proved that already, on a connection that takes more requests.
        return Ok(None);
    }
    let shares = site.behind.is_none_or(|behind| behind.shares);
    let protocol = if shares { UpstreamProtocol::Auto } else { UpstreamProtocol::Http1 };
    let greeting = secure.greeting(protocol, &worker.buffers);
    let timeouts = &forward.secure.plan.timeouts;
    let stream = greet(stream.into(), greeting, Instant::now() + timeouts.connect).await?;
    let opened = Opened { stream, taken, only: None };
    if opened.stream.agreed_on_http2() != Some(true) {
        endpoint.channels.fall_back(&worker.clock);
        return Ok(Some(opened));
    }
    // One that is not remembered keeps none.
    if endpoint.most_idle.get() > 0 {
        adopt(worker, &endpoint, opened, Terms::of(&forward.secure.plan));
    }
    Ok(None)
}

/// A host without the brackets that an address of IPv6 has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
