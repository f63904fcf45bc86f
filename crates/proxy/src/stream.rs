//! A byte stream to a client or an endpoint, whatever it runs over.

use socket2::SockRef;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// One socket.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Read some; 0 is the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut to = ReadBuf::new(to);
        let poll = match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, &mut to),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, &mut to),
        };
        poll.map_ok(|()| to.filled().len())
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    /// Say that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Ready when there is something to read, the end included.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether something came since the last read, as far as the event loop knows: no system call. Not a poll: a task that has
    /// used up its turn is told "not ready" whatever came, and a poisoned connection would look quiet.
    pub(crate) fn is_disturbed(&self) -> bool {
        match self {
            Stream::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            Stream::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
        }
    }

    /// Whether there are bytes to read. Asks the system, for the rare case that the event loop has not looked yet.
    pub(crate) fn has_bytes(&self) -> bool {
        let mut one = [MaybeUninit::uninit(); 1];
        let peeked = match self {
            Stream::Tcp(stream) => SockRef::from(stream).peek(&mut one),
            Stream::Unix(stream) => SockRef::from(stream).peek(&mut one),
        };
        peeked.is_ok_and(|count| count > 0)
    }

    /// Write what goes at once, and say that nothing more will come. Asks the system: the event loop does not know the socket yet.
    pub(crate) fn say_last(&self, bytes: &[u8]) {
        let socket = match self {
            Stream::Tcp(stream) => SockRef::from(stream),
            Stream::Unix(stream) => SockRef::from(stream),
        };
        // Whether the peer still hears it is its own affair.
        let _ = socket.send(bytes).and_then(|_| socket.shutdown(Shutdown::Write));
    }

    /// Bytes written that the peer's system has not taken yet; none where the system does not tell.
    pub(crate) fn untaken(&self) -> usize {
        let socket = match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        };
        penstock_system::untaken(socket).unwrap_or_default()
    }

    /// Let the end be a reset: what was sent cannot be taken for the whole.
    pub(crate) fn break_off(&self) {
        // Where the option is refused, the end is an ordinary one.
        let _ = match self {
            Stream::Tcp(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Stream::Unix(_) => Ok(()),
        };
    }
}
