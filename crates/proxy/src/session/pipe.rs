//! One direction of a session: what is read here is written there, never faster than it is taken. No codec looks at the bytes, and
//! while nothing moves no buffer is held, which is why this is not `relay.rs`. Messages go through a buffer; bulk between two sockets
//! in clear is left to the system (`pipes.rs`), as long as there is a pipe for it.

use crate::buffers::Buffers;
use crate::pipes::{SystemPipe, SystemPipes, is_unsupported};
use crate::stream::Stream;
use penstock_rules::session::{Flow, Way};
use std::io;
use std::task::{Context, Poll, ready};

/// What one direction moves in one turn, in pieces: then it is the turn of other sessions.
const TURN: usize = 16;

/// What both directions of all sessions of a worker borrow from.
pub(crate) type Lenders<'w> = (&'w Buffers, &'w SystemPipes);

/// One direction.
#[derive(Default)]
pub(super) struct Pipe {
    state: State,
    /// What was read and not yet written: `held[start..end]`.
    held: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// The same of bulk, in the system's hands.
    spliced: Option<SystemPipe>,
    flow: Flow,
    /// The system does not splice these sockets.
    unspliced: bool,
    /// Bytes that were passed on.
    pub(super) moved: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Moving,
    /// The source has ended; the receiver is yet to be told.
    Ending,
    Done,
}

/// Which connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    Source,
    Receiver,
}

impl Pipe {
    /// One that begins with what was read already.
    pub(super) fn beginning_with(said: &[u8], buffers: &Buffers) -> Pipe {
        // Lent like any other buffer, because it is given back like any other.
        let held = (!said.is_empty()).then(|| {
            let mut held = buffers.grown(said.len());
            held.copy_from_slice(said);
            held
        });
        Pipe { held, end: said.len(), ..Pipe::default() }
    }

    /// Whether the source has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.state != State::Moving
    }

    /// Move what can be moved; ready when the source's end was passed on.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        lenders: Lenders<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            if self.held.is_some() {
                ready!(self.poll_write(cx, lenders.0, to)).map_err(|_| Broken::Receiver)?;
                continue;
            }
            if self.spliced.is_some() {
                ready!(self.poll_empty(cx, lenders.1, to)).map_err(|_| Broken::Receiver)?;
                continue;
            }
            match self.state {
                State::Moving => match self.poll_take(cx, lenders, from, to).map_err(|_| Broken::Source)? {
                    Poll::Ready(0) => self.state = State::Ending,
                    Poll::Ready(_) => {}
                    Poll::Pending => {
                        ready!(to.poll_flush(cx)).map_err(|_| Broken::Receiver)?;
                        return Poll::Pending;
                    }
                },
                State::Ending => {
                    ready!(to.poll_flush(cx)).map_err(|_| Broken::Receiver)?;
                    // One that is gone needs not be told.
                    let _ = ready!(to.poll_shutdown(cx));
                    self.state = State::Done;
                }
                State::Done => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Take in what has come, by the way that suits it; 0 is the end.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        (buffers, pipes): Lenders<'_>,
        from: &mut Stream,
        to: &Stream,
    ) -> Poll<io::Result<usize>> {
        let spliced = self.flow.way() == Way::Splice && !self.unspliced && to.tcp().is_some();
        if spliced && let Some(count) = ready!(self.poll_fill(cx, pipes, from))? {
            return Poll::Ready(Ok(count));
        }
        self.poll_read(cx, buffers, from)
    }

    /// Let the system take it in; `None`: it does not.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipes: &SystemPipes,
        from: &Stream,
    ) -> Poll<io::Result<Option<usize>>> {
        let Some(from) = from.tcp() else { return Poll::Ready(Ok(None)) };
        loop {
            // Waiting needs no pipe.
            ready!(from.poll_read_ready(cx))?;
            let Some(mut pipe) = pipes.lend() else { return Poll::Ready(Ok(None)) };
            let filled = pipe.fill(from);
            if let Ok(count @ 1..) = filled {
                self.flow.came(count);
                self.spliced = Some(pipe);
                return Poll::Ready(Ok(Some(count)));
            }
            pipes.give_back(pipe);
            match filled {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if is_unsupported(&error) => {
                    self.unspliced = true;
                    return Poll::Ready(Ok(None));
                }
                filled => return Poll::Ready(filled.map(Some)),
            }
        }
    }

    /// Let the system pass on what it took in.
    fn poll_empty(&mut self, cx: &mut Context<'_>, pipes: &SystemPipes, to: &Stream) -> Poll<io::Result<()>> {
        let (Some(pipe), Some(to)) = (&mut self.spliced, to.tcp()) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while pipe.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            match pipe.empty(to) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.moved += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        self.spliced.take().into_iter().for_each(|pipe| pipes.give_back(pipe));
        Poll::Ready(Ok(()))
    }

    /// Read into a buffer that is taken when there is something to read.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffers: &Buffers, from: &mut Stream) -> Poll<io::Result<usize>> {
        ready!(from.poll_readable(cx))?;
        let mut buffer = if self.flow.way() == Way::Small { buffers.small() } else { buffers.bulk() };
        match from.poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.flow.came(count);
                (self.held, self.start, self.end) = (Some(buffer), 0, count);
                Poll::Ready(Ok(count))
            }
            other => {
                buffers.give_back(buffer);
                other
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buffers: &Buffers, to: &mut Stream) -> Poll<io::Result<()>> {
        let rest = self.held.as_deref().and_then(|held| held.get(self.start..self.end)).unwrap_or_default();
        let count = ready!(to.poll_write(cx, rest))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.start += count;
        self.moved += count as u64;
        if self.start >= self.end {
            self.held.take().into_iter().for_each(|buffer| buffers.give_back(buffer));
        }
        Poll::Ready(Ok(()))
    }

    /// Give back what is borrowed, with what is in it.
    pub(super) fn let_go(&mut self, (buffers, pipes): Lenders<'_>) {
        self.held.take().into_iter().for_each(|buffer| buffers.give_back(buffer));
        self.spliced.take().into_iter().for_each(|pipe| pipes.give_back(pipe));
    }
}

#[cfg(test)]
mod tests;
