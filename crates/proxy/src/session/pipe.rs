//! One direction of a session: what is read here is written there, never faster than it is taken. No codec looks at the bytes, and
//! while nothing moves no buffer is held, which is why this is not `relay.rs`.

use crate::buffers::{Buffers, SMALL};
use crate::stream::Stream;
use std::io;
use std::task::{Context, Poll, ready};

/// What one direction moves in one turn, in pieces: then it is the turn of other sessions.
const TURN: usize = 16;

/// One direction.
#[derive(Default)]
pub(super) struct Pipe {
    state: State,
    /// What was read and not yet written: `held[start..end]`.
    held: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    /// Whether a small buffer was full at the last read: more is to be expected.
    bulk: bool,
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
        buffers: &Buffers,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            if self.held.is_some() {
                ready!(self.poll_write(cx, buffers, to)).map_err(|_| Broken::Receiver)?;
                continue;
            }
            match self.state {
                State::Moving => match self.poll_read(cx, buffers, from).map_err(|_| Broken::Source)? {
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

    /// Read into a buffer that is taken when there is something to read.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffers: &Buffers, from: &mut Stream) -> Poll<io::Result<usize>> {
        ready!(from.poll_readable(cx))?;
        let mut buffer = if self.bulk { buffers.bulk() } else { buffers.small() };
        match from.poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.bulk = count >= SMALL;
                (self.held, self.start, self.end) = (Some(buffer), 0, count);
                Poll::Ready(Ok(count))
            }
            other => {
                self.bulk = false;
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
            self.let_go(buffers);
        }
        Poll::Ready(Ok(()))
    }

    /// Give the buffer back, with what is in it.
    pub(super) fn let_go(&mut self, buffers: &Buffers) {
        if let Some(buffer) = self.held.take() {
            buffers.give_back(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_session_begins_with_is_lent_until_it_is_let_go() {
        let buffers = Buffers::new();
        let other = buffers.small();
        let mut pipe = Pipe::beginning_with(b"hello", &buffers);
        assert_eq!(buffers.lent(), SMALL as u64 + 5);
        pipe.let_go(&buffers);
        assert_eq!(buffers.lent(), SMALL as u64);
        let mut empty = Pipe::beginning_with(b"", &buffers);
        empty.let_go(&buffers);
        assert_eq!(buffers.lent(), SMALL as u64);
        buffers.give_back(other);
        assert_eq!(buffers.lent(), 0);
    }
}
