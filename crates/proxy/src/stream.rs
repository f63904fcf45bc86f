//! A byte stream to a client or an endpoint, in clear or with TLS.

use crate::clear::ClearStream;
use crate::tls::TlsStream;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use tokio::net::TcpStream;

/// One connection. What is said of sockets holds for each of these, see [`ClearStream`].
pub(crate) enum Stream {
    Clear(ClearStream),
    Tls(Box<TlsStream>),
}

impl fmt::Debug for Stream {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stream::Clear(socket) => socket.fmt(to),
            // Keys are shown nowhere.
            Stream::Tls(stream) => to.debug_tuple("Tls").field(&stream.socket()).finish(),
        }
    }
}

impl Stream {
    /// In the place of one that somebody else has for now: not connected.
    pub(crate) fn nothing() -> Stream {
        Stream::Clear(ClearStream::Fresh(None))
    }

    /// The TCP socket, where what goes through it is in clear.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Stream::Clear(socket) => socket.tcp(),
            Stream::Tls(_) => None,
        }
    }

    /// Whether it can be read at once, without the event loop.
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, Stream::Clear(socket) if socket.is_fresh())
    }

    pub(crate) fn join(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(socket) => socket.join(),
            Stream::Tls(stream) => stream.join(),
        }
    }

    /// Read from a fresh socket what is there already; `None`: nothing is, or the socket is not fresh.
    #[inline]
    pub(crate) fn read_at_once(&mut self, to: &mut [u8]) -> Option<io::Result<usize>> {
        match self {
            Stream::Clear(socket) => socket.read_at_once(to),
            Stream::Tls(_) => None,
        }
    }

    /// Read some; 0 is the end.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Clear(socket) => socket.poll_read(cx, to),
            Stream::Tls(stream) => stream.poll_read(cx, to),
        }
    }

    /// Read what [`Self::poll_readable`] has just told of.
    #[inline(always)]
    pub(crate) fn read_ready(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Stream::Clear(socket) = self {
            match socket.read_ready(to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
        self.poll_read(cx, to)
    }

    #[inline]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Stream::Clear(socket) => socket.poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Stream::Clear(socket) => socket.poll_write_vectored(cx, parts),
            Stream::Tls(stream) => stream.poll_write_vectored(cx, parts),
        }
    }

    /// Write what was taken and did not go yet: nothing, in clear.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Clear(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => stream.poll_flush(cx),
        }
    }

    /// Say that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Clear(socket) => socket.poll_shutdown(cx),
            Stream::Tls(stream) => stream.poll_shutdown(cx),
        }
    }

    /// Ready when there is something to read, the end included.
    #[inline]
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Clear(socket) => socket.poll_readable(cx),
            Stream::Tls(stream) => stream.poll_readable(cx),
        }
    }

    /// Whether something came since the last read, as far as the event loop knows.
    #[inline]
    pub(crate) fn is_disturbed(&self) -> bool {
        match self {
            Stream::Clear(socket) => socket.is_disturbed(),
            Stream::Tls(stream) => stream.is_disturbed(),
        }
    }

    /// Whether the peer has said its last, read or not, or is gone. Asks the system; where the socket is others', too, that says nothing
    /// of this.
    pub(crate) fn has_ended(&self) -> bool {
        self.socket().is_some_and(ClearStream::has_ended)
    }

    /// Whether there are bytes to read. Asks the system.
    pub(crate) fn has_bytes(&self) -> bool {
        match self {
            Stream::Clear(socket) => socket.has_bytes(),
            Stream::Tls(stream) => stream.has_bytes(),
        }
    }

    /// Whether the connection is gone. Asks the system.
    pub(crate) fn is_broken(&self) -> bool {
        self.socket().is_some_and(ClearStream::is_broken)
    }

    /// Bytes written that our system has not taken yet.
    #[inline]
    pub(crate) fn staged(&self) -> usize {
        match self {
            Stream::Clear(_) => 0,
            Stream::Tls(stream) => stream.staged(),
        }
    }

    /// Bytes written that the peer's system has not taken yet; none where the system does not tell.
    pub(crate) fn untaken(&self) -> usize {
        self.staged() + self.socket().map_or(0, ClearStream::untaken)
    }

    /// Who is at the other end, where that is told by an address.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.socket()?.peer()
    }

    /// Whether both ends agreed on HTTP/2 when they shook hands; `None`: in clear nobody asks.
    pub(crate) fn agreed_on_http2(&self) -> Option<bool> {
        match self {
            Stream::Clear(_) => None,
            Stream::Tls(stream) => Some(stream.agreed().alpn_protocol() == Some(b"h2")),
        }
    }

    /// Why TLS broke, if it did.
    pub(crate) fn failure(&self) -> Option<&str> {
        match self {
            Stream::Clear(_) => None,
            Stream::Tls(stream) => stream.failure(),
        }
    }

    /// Let the end be a reset: what was sent cannot be taken for the whole.
    pub(crate) fn break_off(&mut self) {
        match self {
            Stream::Clear(socket) => socket.break_off(),
            Stream::Tls(stream) => stream.break_off(),
        }
    }

    /// Write what goes at once of the last bytes to this peer.
    pub(crate) fn send_at_once(&mut self, bytes: &[u8]) {
        match self {
            Stream::Clear(socket) => socket.send_at_once(bytes),
            Stream::Tls(stream) => stream.send_at_once(bytes),
        }
    }

    /// Nothing is under way: give back what an idle connection needs not.
    pub(crate) fn rest(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.rest();
        }
    }

    /// The socket below; `None` where that is others', too.
    pub(crate) fn socket(&self) -> Option<&ClearStream> {
        match self {
            Stream::Clear(socket) => Some(socket),
            Stream::Tls(stream) => stream.socket(),
        }
    }
}
