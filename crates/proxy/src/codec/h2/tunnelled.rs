//! A tunnel on a stream as bytes, for whoever opens it: TLS is spoken on it as on a socket.

use super::H2;
use crate::codec::{Chunk, Downstream, Incoming, Outgoing, Tunnel};
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// The client's stream. When it is dropped the client is told the end, unless it was broken off.
pub(crate) struct Tunnelled(H2);

impl Tunnelled {
    /// What waits for whom is known to who reads and writes: here nothing is late.
    pub(crate) fn new(mut stream: H2) -> Tunnelled {
        stream.become_tunnel(Duration::MAX);
        Tunnelled(stream)
    }

    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_chunk(cx).map_ok(|_| ())
    }

    /// Read some; 0 is the end.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        if ready!(self.poll_chunk(cx))? == Chunk::End {
            return Poll::Ready(Ok(0));
        }
        let came = self.0.chunk();
        let count = came.len().min(to.len());
        if let (Some(to), Some(came)) = (to.get_mut(..count), came.get(..count)) {
            to.copy_from_slice(came);
        }
        self.0.consume(count);
        Poll::Ready(Ok(count))
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_send(cx, bytes).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    /// Write what goes at once: nobody will wait for more.
    pub(crate) fn send_at_once(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            // Whether the client still hears it is its own affair.
            let _ = self.0.poll_send(&mut Context::from_waker(Waker::noop()), bytes);
        }
    }

    pub(crate) fn has_bytes(&self) -> bool {
        !self.0.chunk().is_empty()
    }

    /// Nothing more will be written.
    pub(crate) fn finish(&mut self) {
        self.0.finish(None);
    }

    pub(crate) fn break_off(&mut self) {
        self.0.tell_broken();
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.0.poll_chunk(cx).map_err(|_| ErrorKind::ConnectionReset.into())
    }
}

impl Drop for Tunnelled {
    fn drop(&mut self) {
        self.finish();
    }
}
