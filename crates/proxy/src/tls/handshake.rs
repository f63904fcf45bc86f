//! The handshake of a client's connection: from the first byte to a stream with keys, or to a named failure.

use super::session::Session;
use super::stream::TlsStream;
use super::{HANDSHAKE, Tls, asked};
use crate::clear::ClearStream;
use crate::clock::{Alarm, Tick};
use crate::connection::QUIET;
use crate::stream::Stream;
use crate::worker::Worker;
use penstock_plan::{Alpn, ClientCertificates};
use penstock_rules::error::Kind;
use penstock_rules::tls::Client;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, CommonState, Error, HandshakeKind, ProtocolVersion, SupportedCipherSuite};
use std::future::poll_fn;
use std::rc::Rc;
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
}

impl Secured {
    /// Whether a client on a new connection would be asked for what this one was.
    pub(crate) fn is_current(&self, tls: Option<&Tls>) -> bool {
        tls.and_then(|tls| tls.plan.clients.as_ref()) == self.asked.as_ref()
    }
}

/// Why there is no stream, and the socket where something in clear may still be said.
pub(crate) struct Refused {
    pub(crate) kind: Kind,
    pub(crate) socket: ClearStream,
}

/// Shake hands on `socket` until `until`. `Ok(None)`: the client went without a word.
///
/// # Errors
/// [`Refused`]; the client was told by an alert, where it can be.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    tls: &Tls,
    socket: ClearStream,
    (alarm, until): (&Alarm, Tick),
    is_closing: impl Fn() -> bool,
) -> Result<Option<(Stream, Secured)>, Refused> {
    let session = match UnbufferedServerConnection::new(tls.config()) {
        Ok(session) => session,
        Err(_) => return Err(Refused { kind: Kind::Internal, socket }),
    };
    let began = Instant::now();
    let mut shaking = Shaking {
        stream: TlsStream::new(socket, Session::Server(Box::new(session)), Rc::clone(&worker.buffers)),
        sni: None,
        heard: false,
    };
    // One that just came may be about to speak; one that does not is the first to go where room is needed.
    alarm.rest(worker.clock.after(QUIET));
    let outcome = poll_fn(|cx| match shaking.poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending if alarm.clock().now() >= until => {
            Poll::Ready(if shaking.heard { Err(Kind::TlsTimeout) } else { Ok(false) })
        }
        Poll::Pending if !shaking.heard && is_closing() => Poll::Ready(Ok(false)),
        Poll::Pending if !shaking.heard && alarm.is_shed() => {
            worker.counters().shed_connections.add(1);
            Poll::Ready(Ok(false))
        }
        Poll::Pending => {
            if shaking.heard {
                alarm.work();
            }
            alarm.clear();
            alarm.lower(until);
            Poll::Pending
        }
    })
    .await;
    alarm.work();
    match outcome {
        Ok(true) => match secured(tls, shaking.stream.agreed(), shaking.sni, began.elapsed()) {
            Ok(secured) => Ok(Some((Stream::Tls(Box::new(shaking.stream)), secured))),
            Err(kind) => Err(Refused { kind, socket: shaking.stream.into_socket() }),
        },
        Ok(false) => Ok(None),
        Err(kind) => Err(Refused { kind, socket: shaking.stream.into_socket() }),
    }
}

/// A handshake under way.
struct Shaking {
    stream: TlsStream,
    sni: Option<Box<str>>,
    /// Something came.
    heard: bool,
}

impl Shaking {
    /// True: done. False: the client closed before it said anything.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Kind>> {
        loop {
            let shaken = self.stream.shake_hands();
            if let Some(name) = asked::take() {
                self.sni = Some(name);
            }
            let done = match shaken {
                Ok(done) => done,
                Err(error) => {
                    self.stream.stage_alert();
                    // An alert that does not go at once does not go.
                    let _ = self.stream.poll_flush(cx);
                    return Poll::Ready(Err(kind(&error)));
                }
            };
            if ready!(self.stream.poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Kind::TlsFailed));
            }
            if done {
                return Poll::Ready(Ok(true));
            }
            match ready!(self.stream.poll_receive(cx, false)) {
                Ok(0) | Err(_) if !self.heard => return Poll::Ready(Ok(false)),
                Ok(0) | Err(_) => return Poll::Ready(Err(Kind::TlsFailed)),
                Ok(_) => {}
            }
            if !self.heard && self.stream.sealed_input().first() != Some(&HANDSHAKE) {
                return Poll::Ready(Err(plain(self.stream.sealed_input())));
            }
            self.heard = true;
        }
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
        // Within a handshake the library says nothing else in free words.
        Error::General(_) => Kind::TlsName,
        _ => Kind::TlsFailed,
    }
}

fn secured(tls: &Tls, session: &CommonState, sni: Option<Box<str>>, took: Duration) -> Result<Secured, Kind> {
    let alpn = session.alpn_protocol();
    let shown = session.peer_certificates().and_then(<[_]>::first);
    let client = shown.map(|shown| Client::parse(shown)).transpose().map_err(|_| Kind::TlsClient)?;
    Ok(Secured {
        client,
        asked: tls.plan.clients.clone(),
        sni,
        alpn: [Alpn::H2, Alpn::Http11].into_iter().find(|one| Some(one.name().as_bytes()) == alpn),
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        },
        cipher: session.negotiated_cipher_suite().and_then(suite_name).unwrap_or_default(),
        took,
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
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
