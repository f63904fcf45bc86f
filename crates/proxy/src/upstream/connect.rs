//! A connection to an endpoint: from the pool, or a new one.

use super::endpoint::{LocalEndpoint, Place};
use crate::clear::ClearStream;
use crate::listen::watch_peer;
use crate::stream::Stream;
use penstock_rules::error::Kind;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Open a connection, trying each address of a name once, within `wait` in all.
///
/// # Errors
/// `Unresolved`, `ConnectTimeout`, `ConnectRefused`, `ConnectFailed` or `Exhausted`.
pub(crate) async fn connect(endpoint: &LocalEndpoint, wait: Duration) -> Result<Stream, Kind> {
    endpoint.counters().connects.add(1);
    match &endpoint.shared.place {
        Place::Unix(path) => within(wait, UnixStream::connect(path)).await.map(ClearStream::Unix).map(Stream::Clear),
        Place::Tcp { .. } => connect_any(&endpoint.addresses(), wait).await,
    }
}

/// As [`connect`], to any of `addresses` in order.
pub(crate) async fn connect_any(addresses: &[SocketAddr], wait: Duration) -> Result<Stream, Kind> {
    let began = Instant::now();
    let mut failure = Kind::Unresolved;
    for (at, address) in addresses.iter().enumerate() {
        // A silent first address must not eat the time of the others.
        let left = wait.saturating_sub(began.elapsed());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(1);
        match within(share, TcpStream::connect(address)).await {
            Ok(stream) => {
                // Small writes go out at once; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                let _ = watch_peer(&SockRef::from(&stream));
                return Ok(Stream::Clear(ClearStream::Tcp(stream)));
            }
            Err(kind) => failure = kind,
        }
    }
    Err(failure)
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
