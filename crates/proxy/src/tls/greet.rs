//! The handshake with an endpoint: from a connection to a stream with keys, or to a named failure.

use super::carrier::Carrier;
use super::session::Session;
use super::stream::TlsStream;
use crate::buffers::Buffers;
use crate::stream::Stream;
use penstock_rules::error::Kind;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// What a handshake with an endpoint begins with.
#[derive(Clone)]
pub(crate) struct Greeting {
    pub(crate) name: ServerName<'static>,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) buffers: Rc<Buffers>,
}

/// Why there is no connection.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// More than the kind says, for the log.
    pub(crate) reason: Option<Box<str>>,
}

impl From<Kind> for Failure {
    fn from(kind: Kind) -> Failure {
        Failure { kind, reason: None }
    }
}

impl Failure {
    fn because(kind: Kind, reason: impl Into<Box<str>>) -> Failure {
        Failure { kind, reason: Some(reason.into()) }
    }
}

impl Greeting {
    /// Shake hands on `carrier`. It has no end of its own.
    ///
    /// # Errors
    /// `UpstreamCertificate` or `UpstreamTlsFailed`; the endpoint was told by an alert, where it can be.
    pub(crate) async fn shake_hands(self, carrier: Carrier) -> Result<Stream, Failure> {
        let Greeting { name, config, buffers } = self;
        let session = UnbufferedClientConnection::new(Arc::clone(&config), name).map_err(|error| failure(&error))?;
        let mut stream = TlsStream::new(carrier, Session::Client(Box::new(session), config), buffers);
        poll_fn(|cx| poll(&mut stream, cx)).await?;
        Ok(Stream::Tls(Box::new(stream)))
    }
}

fn poll(stream: &mut TlsStream, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
    let broken = |error: io::Error| Failure::because(Kind::UpstreamTlsFailed, error.to_string());
    loop {
        let shaken = stream.shake_hands();
        if let Err(error) = shaken {
            stream.stage_alert();
            // An alert that does not go at once does not go.
            let _ = stream.poll_flush(cx);
            return Poll::Ready(Err(failure(&error)));
        }
        ready!(stream.poll_flush(cx)).map_err(broken)?;
        if let Ok(true) = shaken {
            return Poll::Ready(Ok(()));
        }
        if ready!(stream.poll_receive(cx, false)).map_err(broken)? == 0 {
            let reason = "the endpoint closed in the middle of the handshake";
            return Poll::Ready(Err(Failure::because(Kind::UpstreamTlsFailed, reason)));
        }
    }
}

fn failure(error: &Error) -> Failure {
    let kind = match error {
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Kind::UpstreamCertificate,
        _ => Kind::UpstreamTlsFailed,
    };
    Failure::because(kind, error.to_string())
}
