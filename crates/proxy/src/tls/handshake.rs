//! The handshake of a client's connection: from the first byte to a stream with keys, or to a named failure.

use super::asked::Asked;
use super::carrier::Carrier;
use super::line::UnderWay;
use super::session::Session;
use super::stream::TlsStream;
use super::{HANDSHAKE, Tls, asked};
use crate::clock::{Alarm, Tick};
use crate::connection::QUIET;
use crate::forward::Inside;
use crate::snapshot::Listener;
use crate::stream::Stream;
use crate::worker::Worker;
use penstock_plan::{Alpn, ClientCertificates};
use penstock_rules::error::Kind;
use penstock_rules::tls::Client;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::{
    AlertDescription, CommonState, Error, HandshakeKind, ProtocolVersion, ServerConfig, SupportedCipherSuite,
};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

/// What is known of a connection since its handshake.
#[derive(Clone, Debug)]
pub(crate) struct Secured {
    /// The name that the client asked for, in lower case.
    pub(crate) sni: Option<Box<str>>,
    /// The protocol agreed on, where the client offered any.
    pub(crate) alpn: Option<Alpn>,
    pub(crate) version: &'static str,
    /// As IANA names it.
    pub(crate) cipher: &'static str,
    /// From the first byte that was waited for.
    pub(crate) took: Duration,
    /// Who the client has proved to be.
    pub(crate) client: Option<Client>,
    /// What clients were asked for.
    asked: Option<ClientCertificates>,
    /// Whether a ticket spared the client its proof and us ours.
    pub(crate) resumed: bool,
    /// The tunnel that was opened for it, where we stand for an origin.
    pub(crate) inside: Option<Rc<Inside>>,
}

impl Secured {
    /// Whether a client that makes a new connection for this host would be asked for what this one was, and shown the same
    /// certificate (safety.md 138). One that named no host takes what it gets.
    pub(crate) fn is_for(&self, tls: Option<&Tls>, host: &str) -> bool {
        let Some(tls) = tls else { return self.asked.is_none() };
        tls.asked_of(Some(host)) == self.asked.as_ref()
            && self.sni.as_deref().is_none_or(|name| name == host || tls.is_served_alike(name, host))
    }
}

/// What a client is shown.
#[derive(Clone, Copy)]
pub(crate) enum Shown<'t> {
    /// Our own certificates.
    Own(&'t Tls),
    /// That by which we stand for the origin of its tunnel.
    Origin(&'t Arc<ServerConfig>),
}

impl Shown<'_> {
    fn config(self) -> Arc<ServerConfig> {
        match self {
            Shown::Own(tls) => tls.config(),
            Shown::Origin(config) => Arc::clone(config),
        }
    }

    /// What clients are asked for that name this host.
    fn asked_of(self, name: Option<&str>) -> Option<ClientCertificates> {
        match self {
            Shown::Own(tls) => tls.asked_of(name).cloned(),
            Shown::Origin(_) => None,
        }
    }
}

/// Why there is no stream, and what carried it, where something in clear may still be said.
pub(crate) struct Refused {
    pub(crate) kind: Kind,
    pub(crate) carrier: Carrier,
}

/// Shake hands on `carrier` until `until`, which `said` so much already. `Ok(None)`: the client went without a word.
///
/// # Errors
/// [`Refused`]; the client was told by an alert, where it can be.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    (shown, listener): (Shown<'_>, &Listener),
    (carrier, said): (Carrier, &[u8]),
    (alarm, until): (&Alarm, Tick),
    is_closing: impl Fn() -> bool,
) -> Result<Option<(Stream, Secured)>, Refused> {
    let session = match UnbufferedServerConnection::new(shown.config()) {
        Ok(session) => session,
        Err(_) => return Err(Refused { kind: Kind::Internal, carrier }),
    };
    let began = Instant::now();
    let mut shaking = Shaking {
        stream: TlsStream::new(carrier, Session::Server(Box::new(session)), Rc::clone(&worker.buffers)),
        asked: Asked::default(),
        heard: false,
        hello: match shown {
            Shown::Own(tls) if tls.asks_by_name() => Some((tls, Acceptor::default(), 0)),
            _ => None,
        },
        stands: matches!(shown, Shown::Origin(_)),
    };
    if !said.is_empty() {
        shaking.stream.begin_with(said);
    }
    let mut under_way = None;
    // One that just came may be about to speak; one that does not is the first to go where room is needed.
    alarm.rest(worker.clock.after(QUIET));
    let outcome = poll_fn(|cx| match shaking.poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending if under_way.as_ref().is_some_and(UnderWay::is_given_up) => {
            Poll::Ready(Err(Kind::TooManyHandshakes))
        }
        Poll::Pending if alarm.clock().now() >= until => {
            Poll::Ready(if shaking.heard { Err(Kind::TlsTimeout) } else { Ok(false) })
        }
        Poll::Pending if !shaking.heard && is_closing() => Poll::Ready(Ok(false)),
        Poll::Pending if !shaking.heard && alarm.is_shed() => {
            worker.counters().shed_connections.add(1);
            Poll::Ready(Ok(false))
        }
        Poll::Pending => {
            if shaking.heard && under_way.is_none() {
                alarm.work();
                let most = listener.plan.limits.handshakes as usize;
                under_way = Some(worker.handshakes.begin(listener.shared.id, most, cx.waker().clone()));
            }
            alarm.clear();
            alarm.lower(until);
            Poll::Pending
        }
    })
    .await;
    alarm.work();
    match outcome {
        Ok(true) => match secured(shown, shaking.stream.agreed(), shaking.asked.name, began.elapsed()) {
            Ok(secured) => Ok(Some((Stream::Tls(Box::new(shaking.stream)), secured))),
            Err(kind) => Err(Refused { kind, carrier: shaking.stream.into_carrier() }),
        },
        Ok(false) => Ok(None),
        Err(kind) => Err(Refused { kind, carrier: shaking.stream.into_carrier() }),
    }
}

/// A handshake under way.
struct Shaking<'t> {
    stream: TlsStream,
    asked: Asked,
    /// Something came.
    heard: bool,
    /// Where the name decides what the handshake is held with: it is read ahead, by the same library, and so much of it was.
    hello: Option<(&'t Tls, Acceptor, usize)>,
    /// We stand for somebody else, which not every client takes.
    stands: bool,
}

impl Shaking<'_> {
    /// True: done. False: the client closed before it said anything.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Kind>> {
        // What was said before is here already.
        if !self.heard && !self.stream.sealed_input().is_empty() {
            self.hear()?;
        }
        loop {
            if self.hello.is_none() {
                let shaken = self.stream.shake_hands();
                if let Some(asked) = asked::take() {
                    self.asked = asked;
                }
                let done = match shaken {
                    Ok(done) => done,
                    Err(error) => {
                        self.stream.stage_alert();
                        // An alert that does not go at once does not go.
                        let _ = self.stream.poll_flush(cx);
                        return Poll::Ready(Err(self.named(&error)));
                    }
                };
                if ready!(self.stream.poll_flush(cx)).is_err() {
                    return Poll::Ready(Err(self.broken()));
                }
                if done {
                    return Poll::Ready(Ok(true));
                }
            }
            match ready!(self.stream.poll_receive(cx, false)) {
                Ok(0) | Err(_) if !self.heard => return Poll::Ready(Ok(false)),
                Ok(0) | Err(_) => return Poll::Ready(Err(self.broken())),
                Ok(_) => self.hear()?,
            }
        }
    }

    /// What the client is said to have done that broke the handshake off.
    fn broken(&self) -> Kind {
        // Its hello was whole: it went because it did not like what it was shown, or needs it no more.
        if self.stands { Kind::ClientClosed } else { Kind::TlsFailed }
    }

    fn named(&self, error: &Error) -> Kind {
        match error {
            _ if self.asked.unserved => Kind::TlsName,
            Error::AlertReceived(alert) if self.stands && refuses(*alert) => Kind::CertificateRefused,
            Error::AlertReceived(AlertDescription::UserCanceled) if self.stands => Kind::ClientClosed,
            error => kind(error),
        }
    }

    /// Look at what came.
    fn hear(&mut self) -> Result<(), Kind> {
        if !self.heard && self.stream.sealed_input().first() != Some(&HANDSHAKE) {
            return Err(plain(self.stream.sealed_input()));
        }
        self.heard = true;
        self.read_hello()
    }

    /// Once it is known which host the client names, go on with what is asked for that.
    fn read_hello(&mut self) -> Result<(), Kind> {
        let Some((tls, acceptor, read)) = &mut self.hello else { return Ok(()) };
        let input = self.stream.sealed_input();
        let mut rest = input.get(*read..).unwrap_or_default();
        *read = input.len();
        let name = loop {
            if rest.is_empty() {
                return Ok(());
            }
            // What is no hello is told so by the handshake itself.
            if acceptor.read_tls(&mut rest).is_err() {
                break None;
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => break accepted.client_hello().server_name().map(str::to_owned),
                Err(_) => break None,
            }
        };
        let session = UnbufferedServerConnection::new(tls.config_for(name.as_deref())).map_err(|_| Kind::Internal)?;
        self.stream.begin_as(Session::Server(Box::new(session)));
        self.hello = None;
        Ok(())
    }
}

/// What bytes that are no TLS are taken for.
fn plain(input: &[u8]) -> Kind {
    if input.first().is_some_and(u8::is_ascii_alphabetic) { Kind::PlainOnTls } else { Kind::TlsFailed }
}

fn kind(error: &Error) -> Kind {
    match error {
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Kind::TlsProtocol
        }
        Error::NoCertificatesPresented | Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => {
            Kind::TlsClient
        }
        _ => Kind::TlsFailed,
    }
}

/// Whether a client says by this that it does not take a certificate (RFC 8446 §6.2).
fn refuses(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

fn secured(shown: Shown<'_>, session: &CommonState, sni: Option<Box<str>>, took: Duration) -> Result<Secured, Kind> {
    let alpn = session.alpn_protocol();
    let proof = session.peer_certificates().and_then(<[_]>::first);
    let client = proof.map(|proof| Client::parse(proof)).transpose().map_err(|_| Kind::TlsClient)?;
    Ok(Secured {
        client,
        asked: shown.asked_of(sni.as_deref()),
        sni,
        alpn: [Alpn::H2, Alpn::Http11].into_iter().find(|one| Some(one.name().as_bytes()) == alpn),
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: session.negotiated_cipher_suite().and_then(suite_name).unwrap_or_default(),
        took,
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        inside: None,
    })
}

/// As IANA registers it; the library writes `TLS13_` where that has `TLS_`.
fn suite_name(suite: SupportedCipherSuite) -> Option<&'static str> {
    let name = suite.suite().as_str()?;
    Some(match name {
        "TLS13_AES_256_GCM_SHA384" => "TLS_AES_256_GCM_SHA384",
        "TLS13_AES_128_GCM_SHA256" => "TLS_AES_128_GCM_SHA256",
        "TLS13_CHACHA20_POLY1305_SHA256" => "TLS_CHACHA20_POLY1305_SHA256",
        name => name,
    })
}
