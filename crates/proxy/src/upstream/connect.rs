//! A new connection to an endpoint, with TLS where it speaks that.

use super::endpoint::{LocalEndpoint, Place};
use crate::buffers::Buffers;
use crate::clear::ClearStream;
use crate::listen::watch_peer;
use crate::stream::Stream;
use crate::tls::{Failure, Greeting};
use penstock_rules::error::Kind;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{timeout, timeout_at};

/// Open a connection, trying each address of a name once, within `wait` in all.
///
/// # Errors
/// `Unresolved`, `ConnectTimeout`, `ConnectRefused`, `ConnectFailed`, `Exhausted`, or one of TLS.
pub(crate) async fn connect(
    endpoint: &LocalEndpoint,
    buffers: &Rc<Buffers>,
    wait: Duration,
) -> Result<Stream, Failure> {
    endpoint.counters().connects.add(1);
    let greeting = endpoint.secure.as_ref().map(|secure| secure.greeting(buffers));
    match &endpoint.shared.place {
        Place::Unix(path) => connect_unix(path, greeting, wait).await,
        Place::Tcp { .. } => connect_any(&endpoint.addresses(), greeting, wait).await,
    }
}

/// As [`connect`], to any of `addresses` in order; with TLS where there is a greeting.
pub(crate) async fn connect_any(
    addresses: &[SocketAddr],
    greeting: Option<Greeting>,
    wait: Duration,
) -> Result<Stream, Failure> {
    let began = Instant::now();
    let mut failure = Kind::Unresolved.into();
    for (at, address) in addresses.iter().enumerate() {
        // A silent first address must not eat the time of the others.
        let left = wait.saturating_sub(began.elapsed());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        let until = Instant::now() + share;
        match within(share, TcpStream::connect(address)).await {
            Ok(stream) => {
                // Small writes go out at once; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                let _ = watch_peer(&SockRef::from(&stream));
                match secure(ClearStream::Tcp(stream), greeting.clone(), until).await {
                    Ok(stream) => return Ok(stream),
                    Err(refused) => failure = refused,
                }
            }
            Err(kind) => failure = kind.into(),
        }
    }
    Err(failure)
}

/// As [`connect_any`], to a unix socket.
pub(crate) async fn connect_unix(path: &Path, greeting: Option<Greeting>, wait: Duration) -> Result<Stream, Failure> {
    let until = Instant::now() + wait;
    let stream = within(wait, UnixStream::connect(path)).await?;
    secure(ClearStream::Unix(stream), greeting, until).await
}

async fn secure(socket: ClearStream, greeting: Option<Greeting>, until: Instant) -> Result<Stream, Failure> {
    let Some(greeting) = greeting else { return Ok(Stream::Clear(socket)) };
    // Boxed, so that connecting in clear keeps no room for it.
    match timeout_at(until.into(), Box::pin(greeting.shake_hands(socket))).await {
        Ok(shaken) => shaken,
        Err(_) => Err(Kind::UpstreamTlsTimeout.into()),
    }
}

async fn within<T>(wait: Duration, connecting: impl Future<Output = io::Result<T>>) -> Result<T, Kind> {
    match timeout(wait, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
                Kind::Exhausted
            }
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Kind::ConnectRefused,
            io::ErrorKind::TimedOut => Kind::ConnectTimeout,
            _ => Kind::ConnectFailed,
        }),
        Err(_) => Err(Kind::ConnectTimeout),
    }
}
