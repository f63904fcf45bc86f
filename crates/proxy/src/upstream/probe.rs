//! Active probes: one question, one verdict. What is asked and what follows from the answer is decided in `rules::health`.

mod http2;
mod udp;

use super::connect::{Opening, connect_any, connect_unix};
use super::endpoint::{Endpoint, Place};
use crate::buffers::Buffers;
use crate::observe::events::Level;
use crate::stream::Stream;
use crate::tls::Secure;
use crate::worker::Shared;
use penstock_plan::{HealthCheck, ProxyVersion, UpstreamProtocol};
use penstock_rules::error::Kind;
use penstock_rules::health::{Change, Outcome, Probed, Question, Schedule, State};
use penstock_rules::proxy_protocol;
use serde_json::json;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Instant;
use tokio::time::timeout;

/// Bytes that are read at once.
const PIECE: usize = 8 * 1024;

/// What it takes to probe one endpoint.
pub(crate) struct Probing {
    pub(crate) upstream: String,
    pub(crate) endpoint: Arc<Endpoint>,
    /// How it is spoken to, where that is with TLS.
    pub(crate) secure: Option<Secure>,
    pub(crate) protocol: UpstreamProtocol,
    pub(crate) buffers: Rc<Buffers>,
    /// The PROXY protocol, where connections begin with that: a probe speaks for nobody.
    pub(crate) announces: Option<ProxyVersion>,
    pub(crate) check: HealthCheck,
    pub(crate) question: Arc<Question>,
    pub(crate) shared: Arc<Shared>,
}

impl Probing {
    /// Probe for as long as this runs.
    pub(crate) async fn follow(self) {
        let schedule = Schedule::new(&self.check);
        self.endpoint.begin_probes(self.check.start);
        let mut wait = schedule.first(random());
        for turn in 0.. {
            tokio::time::sleep(wait).await;
            let began = Instant::now();
            let probed = timeout(self.check.timeout, self.probe(turn)).await.unwrap_or(Some(Outcome::Timeout));
            let (at, took) = (Instant::now(), began.elapsed());
            let probed = probed.map(|outcome| Probed { at, outcome, took });
            if let Some(change) = probed.and_then(|one| self.endpoint.observe(one, self.check.fall, self.check.rise)) {
                self.tell(change);
            }
            wait = schedule.next(random(), took);
        }
    }

    fn tell(&self, change: Change) {
        let down = change.state != State::Up;
        let (level, word) = if down { (Level::Warning, "down") } else { (Level::Info, "up") };
        let (upstream, address) = (&self.upstream, &self.endpoint.address);
        let message = format!("{upstream}/{address} is {word}: {}", change.reason);
        let fields = [("upstream", json!(upstream)), ("endpoint", json!(address)), ("state", json!(word))];
        self.shared.events.add(level, "health", message, &fields);
    }

    /// One probe. Each begins with the next address of a name, as requests do. `None`: that we have nothing left to ask with says
    /// nothing of the endpoint.
    async fn probe(&self, turn: usize) -> Option<Outcome> {
        if let Question::Udp(question) = &*self.question {
            return udp::ask(&self.addresses(turn), question).await;
        }
        let stream = match self.connect(turn).await {
            Ok(stream) => stream,
            Err(Kind::Exhausted) => return None,
            Err(kind) => return Some(outcome(kind)),
        };
        Some(self.ask(stream).await)
    }

    /// What an endpoint says.
    async fn ask(&self, stream: Stream) -> Outcome {
        let authority = self.authority();
        // Over TLS whatever was agreed on, in clear what is configured.
        let http2 = stream.agreed_on_http2().unwrap_or(self.protocol == UpstreamProtocol::H2c);
        match &*self.question {
            Question::Http(question) if http2 => http2::ask_http(stream, question, &authority).await,
            Question::Http(_) if self.protocol == UpstreamProtocol::H2 => Outcome::BadResponse,
            Question::Http(question) => {
                let mut answer = question.answer();
                let said = talk(stream, &question.request(&authority), |bytes| answer.take(bytes)).await;
                said.unwrap_or_else(|| answer.end())
            }
            Question::Tcp(question) => match question.answer() {
                Some(mut answer) => {
                    let said = talk(stream, question.request(), |bytes| answer.take(bytes)).await;
                    said.unwrap_or_else(|| answer.end())
                }
                None => Outcome::Connected,
            },
            // Without a connection, see `udp`.
            Question::Udp(_) => Outcome::BadResponse,
            Question::Grpc(question) => http2::ask_grpc(stream, question, &authority).await,
        }
    }

    async fn connect(&self, turn: usize) -> Result<Stream, Kind> {
        let wait = self.check.timeout;
        let protocol = match &*self.question {
            Question::Grpc(_) => UpstreamProtocol::H2,
            Question::Http(_) => self.protocol,
            Question::Tcp(_) | Question::Udp(_) => UpstreamProtocol::Http1,
        };
        let greeting = self.secure.as_ref().map(|secure| secure.greeting(protocol, &self.buffers));
        let mut announced = Vec::new();
        self.announces.iter().for_each(|version| proxy_protocol::write(*version, None, &mut announced));
        let opening = Opening { announced, greeting };
        let opened = match (self.check.address.as_deref(), &self.endpoint.place) {
            (Some(address), _) => match address.strip_prefix("unix:") {
                Some(path) => connect_unix(Path::new(path), opening, wait).await,
                None => {
                    let address: SocketAddr = address.parse().map_err(|_| Kind::Unresolved)?;
                    connect_any(&[address], opening, wait).await
                }
            },
            (None, Place::Unix(path)) => connect_unix(path, opening, wait).await,
            (None, Place::Tcp { addresses, .. }) => {
                connect_any(&self.placed(addresses.load().to_vec(), turn), opening, wait).await
            }
        };
        opened.map_err(|failure| failure.kind)
    }

    /// The addresses of an endpoint as this turn asks them.
    fn placed(&self, mut addresses: Vec<SocketAddr>, turn: usize) -> Vec<SocketAddr> {
        if let Some(first) = turn.checked_rem(addresses.len()) {
            addresses.rotate_left(first);
        }
        if let Some(port) = self.check.port {
            addresses.iter_mut().for_each(|address| address.set_port(port));
        }
        addresses
    }

    /// Where datagrams are sent.
    fn addresses(&self, turn: usize) -> Vec<SocketAddr> {
        match (self.check.address.as_deref(), &self.endpoint.place) {
            (Some(address), _) => address.parse().into_iter().collect(),
            (None, Place::Unix(_)) => Vec::new(),
            (None, Place::Tcp { addresses, .. }) => self.placed(addresses.load().to_vec(), turn),
        }
    }

    /// What is asked, as a host with a port.
    fn authority(&self) -> String {
        let asked = self.check.address.as_deref().unwrap_or(&self.endpoint.address);
        match (asked.starts_with("unix:"), self.check.port, asked.rsplit_once(':')) {
            (true, ..) => "localhost".into(),
            (false, Some(port), Some((host, _))) => format!("{host}:{port}"),
            _ => asked.into(),
        }
    }
}

/// What it says of an endpoint that there is no connection.
fn outcome(kind: Kind) -> Outcome {
    match kind {
        Kind::Unresolved => Outcome::Unresolved,
        Kind::ConnectRefused => Outcome::Refused,
        Kind::ConnectTimeout | Kind::UpstreamTlsTimeout => Outcome::Timeout,
        Kind::UpstreamCertificate => Outcome::Untrusted,
        Kind::UpstreamTlsFailed => Outcome::Insecure,
        _ => Outcome::Unreachable,
    }
}

/// Send `request`, and give what comes back to `take` until it says how the probe ended; `None` if the endpoint closed before, or
/// did not take the request.
async fn talk(mut stream: Stream, request: &[u8], mut take: impl FnMut(&[u8]) -> Option<Outcome>) -> Option<Outcome> {
    let mut sent = 0;
    poll_fn(|cx| {
        while let Some(rest) = request.get(sent..).filter(|rest| !rest.is_empty()) {
            sent += ready!(stream.poll_write(cx, rest))?;
        }
        Poll::Ready(std::io::Result::Ok(()))
    })
    .await
    .ok()?;
    let mut piece = [0; PIECE];
    loop {
        let count = poll_fn(|cx| stream.poll_read(cx, &mut piece)).await.ok()?;
        if count == 0 {
            return None;
        }
        if let Some(outcome) = take(piece.get(..count)?) {
            return Some(outcome);
        }
    }
}

/// Jitter needs no good dice.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
