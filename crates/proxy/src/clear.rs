//! A socket to a client or an endpoint: TCP or unix.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

/// One socket.
#[derive(Debug)]
pub(crate) enum ClearStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// A TCP socket that the event loop does not know yet: it is told when something must be waited for. Most connections
    /// that carry one request never get there, which spares two system calls. Empty only within `join`, and where
    /// there is none.
    Fresh(Option<std::net::TcpStream>),
}

impl ClearStream {
    #[inline]
    pub(crate) fn is_fresh(&self) -> bool {
        matches!(self, ClearStream::Fresh(_))
    }

    /// Let the event loop watch a fresh socket. One that stays longer than an exchange must be watched: the event loop also sees
    /// to it that nobody works on for ever while others wait.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        if let ClearStream::Fresh(socket) = self {
            let socket = socket.take().ok_or(ErrorKind::NotConnected)?;
            *self = ClearStream::Tcp(TcpStream::from_std(socket)?);
        }
        Ok(())
    }

    /// Do `io` on a fresh socket at once; `None`: it must be waited for, or the socket is not fresh.
    #[inline(never)]
    fn at_once(
        &mut self,
        mut io: impl FnMut(&mut std::net::TcpStream) -> io::Result<usize>,
    ) -> Option<io::Result<usize>> {
        let ClearStream::Fresh(socket) = self else { return None };
        loop {
            match socket.as_mut().map_or(Err(ErrorKind::NotConnected.into()), &mut io) {
                // As in `uninterrupted`.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.join().err().map(Err),
                outcome => return Some(outcome),
            }
        }
    }

    /// Read from a fresh socket what is there already; `None`: nothing is, or the socket is not fresh.
    pub(crate) fn read_at_once(&mut self, to: &mut [u8]) -> Option<io::Result<usize>> {
        self.at_once(|socket| socket.read(to))
    }

    /// Look at what comes without taking it; 0 is the end.
    pub(crate) fn poll_peek(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let looked = match &*self {
                ClearStream::Fresh(_) => self.receive(to, RecvFlags::PEEK),
                ClearStream::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || self.receive(to, RecvFlags::PEEK))
                }
                ClearStream::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_io(Interest::READABLE, || self.receive(to, RecvFlags::PEEK))
                }
            };
            match looked {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.join()?,
                looked => return Poll::Ready(looked),
            }
        }
    }

    /// Take bytes that are known to be there: without the event loop, which lets a task do only so much in a turn.
    pub(crate) fn take_at_once(&self, to: &mut [u8]) -> io::Result<usize> {
        self.receive(to, RecvFlags::empty())
    }

    #[inline]
    fn receive(&self, to: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let open = self.descriptor().ok_or(ErrorKind::NotConnected)?;
        loop {
            match rustix::net::recv(open, &mut *to, flags) {
                // As in `uninterrupted`.
                Err(Errno::INTR) => {}
                received => return Ok(received.map(|(count, _)| count)?),
            }
        }
    }

    /// Read some; 0 is the end.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_fresh()
            && let Some(outcome) = self.read_at_once(to)
        {
            return Poll::Ready(outcome);
        }
        loop {
            // Asked first, because this also counts what a task does in its turn.
            ready!(self.poll_readable(cx))?;
            match self.read_ready(to) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// Read from a socket that the event loop watches, if it knows of something there: what follows [`Self::poll_readable`].
    ///
    /// # Errors
    /// `WouldBlock`: nothing is there.
    #[inline]
    pub(crate) fn read_ready(&self, to: &mut [u8]) -> io::Result<usize> {
        let room = to.len();
        self.at_most(Interest::READABLE, room, || self.receive(to, RecvFlags::empty()))
    }

    /// Write some. This counts as nothing that the task does in its turn: what is written was read by somebody before.
    #[inline]
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_fresh()
            && let Some(outcome) = self.at_once(|socket| socket.write(bytes))
        {
            return Poll::Ready(outcome);
        }
        loop {
            match self.at_most(Interest::WRITABLE, bytes.len(), || self.transmit(bytes)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
            ready!(match self {
                ClearStream::Fresh(_) => Poll::Pending,
                ClearStream::Tcp(stream) => stream.poll_write_ready(cx),
                ClearStream::Unix(stream) => stream.poll_write_ready(cx),
            })?;
        }
    }

    /// Do `io`, which moves up to `most` bytes, if the event loop knows the socket to be ready. Where it moved fewer, that was all: the
    /// event loop is told so, which spares the call that would only learn it.
    #[inline(always)]
    fn at_most(&self, interest: Interest, most: usize, io: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let mut moved = Err(ErrorKind::WouldBlock.into());
        let once = || {
            moved = io();
            match &moved {
                Ok(count) if *count > 0 && *count < most => Err(ErrorKind::WouldBlock.into()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        };
        // Whatever it says, `moved` says more.
        let _ = match self {
            ClearStream::Fresh(_) => Ok(()),
            ClearStream::Tcp(stream) => stream.try_io(interest, once),
            ClearStream::Unix(stream) => stream.try_io(interest, once),
        };
        moved
    }

    #[inline]
    fn transmit(&self, bytes: &[u8]) -> io::Result<usize> {
        let open = self.descriptor().ok_or(ErrorKind::NotConnected)?;
        loop {
            match rustix::net::send(open, bytes, SendFlags::NOSIGNAL) {
                // As in `uninterrupted`.
                Err(Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_fresh()
            && let Some(outcome) = self.at_once(|socket| socket.write_vectored(parts))
        {
            return Poll::Ready(outcome);
        }
        uninterrupted(|| match self {
            ClearStream::Fresh(_) => Poll::Pending,
            ClearStream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            ClearStream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        })
    }

    /// Say that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            ClearStream::Fresh(socket) => {
                Poll::Ready(socket.as_ref().map_or(Ok(()), |socket| socket.shutdown(Shutdown::Write)))
            }
            ClearStream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            ClearStream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    /// Ready when there is something to read, the end included.
    #[inline]
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.join()?;
        match self {
            ClearStream::Fresh(_) => Poll::Pending,
            ClearStream::Tcp(stream) => stream.poll_read_ready(cx),
            ClearStream::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Whether something came since the last read, as far as the event loop knows: no system call. Not a poll: a task that has
    /// used up its turn is told "not ready" whatever came, and a poisoned connection would look quiet.
    pub(crate) fn is_disturbed(&self) -> bool {
        match self {
            // Nobody else would know: the system is asked.
            ClearStream::Fresh(_) => self.has_bytes(),
            ClearStream::Tcp(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
            ClearStream::Unix(stream) => stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
        }
    }

    /// Whether the peer has said its last, read or not, or is gone. Asks the system, which knows what the event loop has yet to tell.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(open) = self.descriptor() else { return true };
        let mut asked = [PollFd::new(&open, PollFlags::RDHUP)];
        match poll(&mut asked, Some(&Timespec::default())) {
            Ok(told) => told > 0,
            // It is met then.
            Err(_) => false,
        }
    }

    /// Whether there are bytes to read. Asks the system, for the rare case that the event loop has not looked yet.
    pub(crate) fn has_bytes(&self) -> bool {
        let mut one = [MaybeUninit::uninit(); 1];
        self.descriptor().is_some_and(|open| SockRef::from(&open).peek(&mut one).is_ok_and(|count| count > 0))
    }

    /// Whether the connection is gone: the peer reset it, or it was given up. Asks the system.
    pub(crate) fn is_broken(&self) -> bool {
        self.descriptor().is_none_or(|open| !matches!(SockRef::from(&open).take_error(), Ok(None)))
    }

    /// Write what goes at once, and say that nothing more will come. Asks the system: the event loop does not know the socket yet.
    pub(crate) fn say_last(&self, bytes: &[u8]) {
        self.send_at_once(bytes);
        if let Some(open) = self.descriptor() {
            let _ = SockRef::from(&open).shutdown(Shutdown::Write);
        }
    }

    /// Write what goes at once of the last bytes to this peer. Asks the system.
    pub(crate) fn send_at_once(&self, bytes: &[u8]) {
        if let Some(open) = self.descriptor() {
            // Whether the peer still hears it is its own affair.
            let _ = SockRef::from(&open).send(bytes);
        }
    }

    /// Bytes written that the peer's system has not taken yet; none where the system does not tell.
    pub(crate) fn untaken(&self) -> usize {
        self.descriptor().and_then(|open| penstock_system::untaken(open).ok()).unwrap_or_default()
    }

    /// Who is at the other end, where that is told by an address.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            ClearStream::Tcp(stream) => stream.peer_addr().ok(),
            ClearStream::Unix(_) | ClearStream::Fresh(_) => None,
        }
    }

    /// What the other end has connected to.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getsockname(self.descriptor()?).ok()?).ok()
    }

    /// Let the end be a reset: what was sent cannot be taken for the whole.
    pub(crate) fn break_off(&self) {
        if !matches!(self, ClearStream::Unix(_))
            && let Some(open) = self.descriptor()
        {
            // Where the option is refused, the end is an ordinary one.
            let _ = SockRef::from(&open).set_linger(Some(Duration::ZERO));
        }
    }

    /// The TCP socket, where the event loop knows it.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            ClearStream::Tcp(stream) => Some(stream),
            ClearStream::Unix(_) | ClearStream::Fresh(_) => None,
        }
    }

    #[inline]
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            ClearStream::Tcp(stream) => Some(stream.as_fd()),
            ClearStream::Unix(stream) => Some(stream.as_fd()),
            ClearStream::Fresh(socket) => socket.as_ref().map(AsFd::as_fd),
        }
    }
}

/// Do it again for as long as a signal interrupts it: neither the standard library nor the runtime does (safety.md 177).
fn uninterrupted<T>(mut attempt: impl FnMut() -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
    loop {
        match attempt() {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
