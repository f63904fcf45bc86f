//! What carries the bytes of a TLS stream: a connection; or, for a tunnel that was asked for over TLS and is opened, a connection with
//! TLS of its own, or a stream of HTTP/2.

use crate::clear::ClearStream;
use crate::codec::h2::Tunnelled;
use crate::stream::Stream;
use std::fmt;
use std::io;
use std::task::{Context, Poll};

/// What is said of sockets holds for each of these, see [`ClearStream`].
pub(crate) enum Carrier {
    Stream(Stream),
    Http2(Box<Tunnelled>),
}

impl From<Stream> for Carrier {
    fn from(stream: Stream) -> Carrier {
        Carrier::Stream(stream)
    }
}

impl From<ClearStream> for Carrier {
    fn from(socket: ClearStream) -> Carrier {
        Carrier::Stream(Stream::Clear(socket))
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carrier::Stream(stream) => stream.fmt(to),
            Carrier::Http2(_) => to.write_str("Http2"),
        }
    }
}

impl Carrier {
    /// The socket below; `None` where that is others', too.
    pub(crate) fn socket(&self) -> Option<&ClearStream> {
        match self {
            Carrier::Stream(stream) => stream.socket(),
            Carrier::Http2(_) => None,
        }
    }

    pub(super) fn is_fresh(&self) -> bool {
        matches!(self, Carrier::Stream(stream) if stream.is_fresh())
    }

    pub(super) fn join(&mut self) -> io::Result<()> {
        match self {
            Carrier::Stream(stream) => stream.join(),
            Carrier::Http2(_) => Ok(()),
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Carrier::Stream(stream) => stream.poll_read(cx, to),
            Carrier::Http2(stream) => stream.poll_read(cx, to),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Carrier::Stream(stream) => stream.poll_write(cx, bytes),
            Carrier::Http2(stream) => stream.poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Carrier::Stream(stream) => stream.poll_flush(cx),
            // What was taken is its connection's affair.
            Carrier::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Carrier::Stream(stream) => stream.poll_shutdown(cx),
            Carrier::Http2(stream) => {
                stream.finish();
                Poll::Ready(Ok(()))
            }
        }
    }

    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Carrier::Stream(stream) => stream.poll_readable(cx),
            Carrier::Http2(stream) => stream.poll_readable(cx),
        }
    }

    pub(super) fn is_disturbed(&self) -> bool {
        match self {
            Carrier::Stream(stream) => stream.is_disturbed(),
            Carrier::Http2(stream) => stream.has_bytes(),
        }
    }

    pub(super) fn has_bytes(&self) -> bool {
        match self {
            Carrier::Stream(stream) => stream.has_bytes(),
            Carrier::Http2(stream) => stream.has_bytes(),
        }
    }

    pub(super) fn staged(&self) -> usize {
        match self {
            Carrier::Stream(stream) => stream.staged(),
            Carrier::Http2(_) => 0,
        }
    }

    pub(super) fn send_at_once(&mut self, bytes: &[u8]) {
        match self {
            Carrier::Stream(stream) => stream.send_at_once(bytes),
            Carrier::Http2(stream) => stream.send_at_once(bytes),
        }
    }

    pub(super) fn break_off(&mut self) {
        match self {
            Carrier::Stream(stream) => stream.break_off(),
            Carrier::Http2(stream) => stream.break_off(),
        }
    }

    pub(super) fn rest(&mut self) {
        if let Carrier::Stream(stream) = self {
            stream.rest();
        }
    }
}
