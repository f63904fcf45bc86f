//! A new connection to an endpoint, with TLS where it speaks that.

use super::endpoint::{LocalEndpoint, Place};
use crate::buffers::Buffers;
use crate::clear::ClearStream;
use crate::listen::watch_peer;
use crate::stream::Stream;
use crate::tls::{Carrier, Failure, Greeting};
use penstock_plan::UpstreamProtocol;
use penstock_rules::error::Kind;
use socket2::SockRef;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{timeout, timeout_at};

/// How long an address has before the next of its name is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);

/// Open a connection for this protocol, or for one that is not known, trying each address of a name once, within `wait` in all.
///
/// # Errors
/// `Unresolved`, `ConnectTimeout`, `ConnectRefused`, `ConnectFailed`, `Exhausted`, or one of TLS.
pub(crate) async fn connect(
    endpoint: &LocalEndpoint,
    protocol: Option<UpstreamProtocol>,
    buffers: &Rc<Buffers>,
    wait: Duration,
    announced: Vec<u8>,
) -> Result<Stream, Failure> {
    endpoint.counters().connects.add(1);
    let greeting = endpoint.secure.as_ref().map(|secure| secure.greeting(protocol, buffers));
    let opening = Opening { announced, greeting };
    match &endpoint.shared.place {
        Place::Unix(path) => connect_unix(path, opening, wait).await,
        Place::Tcp { .. } => connect_any(&endpoint.addresses(), opening, wait).await,
    }
}

/// What a connection to an endpoint begins with.
pub(crate) struct Opening {
    /// A header of the PROXY protocol, or nothing.
    pub(crate) announced: Vec<u8>,
    /// A handshake, where TLS is spoken.
    pub(crate) greeting: Option<Greeting>,
}

/// As [`connect`], to any of `addresses` in order.
pub(crate) async fn connect_any(addresses: &[SocketAddr], opening: Opening, wait: Duration) -> Result<Stream, Failure> {
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
                match open(ClearStream::Tcp(stream), &opening, until).await {
                    Ok(stream) => return Ok(stream),
                    Err(refused) => failure = refused,
                }
            }
            Err(kind) => failure = kind.into(),
        }
    }
    Err(failure)
}

/// Open a connection in clear to the first of `addresses` that answers. The next is tried a little later, or at once when one failed
/// (RFC 8305 §5).
///
/// # Errors
/// As [`connect`]: the last failure, if all have failed.
pub(crate) async fn race(addresses: &[SocketAddr], wait: Duration) -> Result<Stream, Kind> {
    let until = Instant::now() + wait;
    let mut rest = addresses.iter();
    let mut racing: Vec<Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>> = Vec::new();
    let mut failure = Kind::Unresolved;
    loop {
        match rest.next() {
            Some(next) => racing.push(Box::pin(TcpStream::connect(*next))),
            None if racing.is_empty() => return Err(failure),
            None => {}
        }
        let turn = if rest.len() > 0 { until.min(Instant::now() + HEAD_START) } else { until };
        let first = poll_fn(|cx| {
            let ended = racing.iter_mut().enumerate().find_map(|(at, one)| match one.as_mut().poll(cx) {
                Poll::Ready(result) => Some((at, result)),
                Poll::Pending => None,
            });
            ended.map_or(Poll::Pending, Poll::Ready)
        });
        match timeout_at(turn.into(), first).await {
            Ok((_, Ok(stream))) => {
                let _ = stream.set_nodelay(true);
                let _ = watch_peer(&SockRef::from(&stream));
                return Ok(Stream::Clear(ClearStream::Tcp(stream)));
            }
            Ok((at, Err(error))) => {
                drop(racing.swap_remove(at));
                failure = kind(&error);
            }
            Err(_) if turn == until => return Err(Kind::ConnectTimeout),
            Err(_) => {}
        }
    }
}

/// As [`connect_any`], to a unix socket.
pub(crate) async fn connect_unix(path: &Path, opening: Opening, wait: Duration) -> Result<Stream, Failure> {
    let until = Instant::now() + wait;
    let stream = within(wait, UnixStream::connect(path)).await?;
    open(ClearStream::Unix(stream), &opening, until).await
}

async fn open(mut socket: ClearStream, opening: &Opening, until: Instant) -> Result<Stream, Failure> {
    if !opening.announced.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        within(left, announce(&mut socket, &opening.announced)).await?;
    }
    match opening.greeting.clone() {
        Some(greeting) => greet(socket.into(), greeting, until).await,
        None => Ok(Stream::Clear(socket)),
    }
}

/// Speak TLS from now on, where the endpoint does by then.
///
/// # Errors
/// Those of TLS.
pub(crate) async fn greet(carrier: Carrier, greeting: Greeting, until: Instant) -> Result<Stream, Failure> {
    // Boxed, so that connecting in clear keeps no room for it.
    match timeout_at(until.into(), Box::pin(greeting.shake_hands(carrier))).await {
        Ok(shaken) => shaken,
        Err(_) => Err(Kind::UpstreamTlsTimeout.into()),
    }
}

async fn announce(socket: &mut ClearStream, mut header: &[u8]) -> io::Result<()> {
    poll_fn(|cx| {
        while !header.is_empty() {
            let count = ready!(socket.poll_write(cx, header))?;
            header = header.get(count..).unwrap_or_default();
        }
        Poll::Ready(Ok(()))
    })
    .await
}

async fn within<T>(wait: Duration, connecting: impl Future<Output = io::Result<T>>) -> Result<T, Kind> {
    match timeout(wait, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(kind(&error)),
        Err(_) => Err(Kind::ConnectTimeout),
    }
}

fn kind(error: &io::Error) -> Kind {
    match error.kind() {
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)) => {
            Kind::Exhausted
        }
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Kind::ConnectRefused,
        io::ErrorKind::TimedOut => Kind::ConnectTimeout,
        _ => Kind::ConnectFailed,
    }
}
