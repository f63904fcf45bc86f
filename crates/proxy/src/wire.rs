//! A stream with what was read of it and not yet used, and what is to be written to it.

use crate::buffers::{Buffers, LARGE, Loan, SMALL, STAGE, has_room};
use crate::stream::Stream;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// One socket and its bytes. Holds a read buffer only while there is something in it.
pub(crate) struct Wire {
    stream: Stream,
    input: Loan,
    start: usize,
    end: usize,
    /// The event loop said that there is something to read, and nothing was read since.
    readable: bool,
    /// Staged for writing; `out[sent..]` is still to go.
    pub(crate) out: Vec<u8>,
    sent: usize,
    /// Counts, for the log.
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What came along with a fresh socket.
pub(crate) struct Ahead {
    input: Box<[u8]>,
    count: usize,
}

impl Ahead {
    /// Read it; `None`: nothing did that can be used, and whoever waits for the stream is told more.
    pub(crate) fn read(stream: &mut Stream, buffers: &Buffers) -> Option<Ahead> {
        if !stream.is_fresh() {
            return None;
        }
        let mut input = buffers.small();
        match stream.read_at_once(&mut input) {
            Some(Ok(count @ 1..)) => Some(Ahead { input, count }),
            _ => {
                buffers.give_back(input);
                None
            }
        }
    }
}

impl Wire {
    pub(crate) fn new(stream: Stream, buffers: Rc<Buffers>) -> Wire {
        let out = buffers.stage();
        Wire {
            stream,
            input: Loan::new(buffers),
            start: 0,
            end: 0,
            readable: false,
            out,
            sent: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The socket alone, at rest; whatever was read and not used is lost.
    pub(crate) fn into_stream(mut self) -> Stream {
        self.input.home().give_back_stage(self.out);
        self.stream.rest();
        self.stream
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// For a tunnel, whose bytes go past this.
    pub(crate) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Let the end be a reset.
    pub(crate) fn break_off(&mut self) {
        self.stream.break_off();
    }

    /// Bytes that our system has taken, of all that were written.
    pub(crate) fn gone(&self) -> u64 {
        self.bytes_out.saturating_sub(self.stream.staged() as u64)
    }

    /// Let the event loop watch the socket, if it does not yet.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        self.stream.join()
    }

    /// Ready when there is something to read, the end included.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let readable = self.stream.poll_readable(cx);
        self.readable = readable.is_ready();
        readable
    }

    /// What was read and not yet used.
    pub(crate) fn input(&self) -> &[u8] {
        self.input.buffer.as_deref().and_then(|input| input.get(self.start..self.end)).unwrap_or_default()
    }

    /// Use up the first `count` bytes of the input.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            self.release();
        }
    }

    /// Give the read buffer back, with all that is in it.
    pub(crate) fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        self.input.end();
    }

    /// Read more behind what is there; 0 is the end. `bulk`: much more is expected.
    ///
    /// With a full buffer this grows up to `most` bytes, then fails with `OutOfMemory`.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, most: usize, bulk: bool) -> Poll<io::Result<usize>> {
        let mut readable = std::mem::take(&mut self.readable);
        if self.input.buffer.is_none() {
            // Waiting needs no buffer; a fresh socket is not known to have to be waited for.
            if !readable && !self.stream.is_fresh() {
                ready!(self.stream.poll_readable(cx))?;
                readable = true;
            }
            let home = self.input.home();
            self.input.buffer = Some(if bulk { home.bulk() } else { home.small() });
        }
        self.make_room(most)?;
        let Some(input) = self.input.buffer.as_mut() else { return Poll::Pending };
        let room = input.get_mut(self.end..).unwrap_or_default();
        let poll = if readable { self.stream.read_ready(cx, room) } else { self.stream.poll_read(cx, room) };
        match poll {
            Poll::Ready(Ok(count)) => {
                self.end += count;
                self.bytes_in += count as u64;
                if self.start == self.end {
                    self.release();
                }
            }
            _ if self.start == self.end => self.release(),
            _ => {}
        }
        poll
    }

    /// A wire whose input begins with what was read ahead.
    pub(crate) fn begun(stream: Stream, buffers: Rc<Buffers>, ahead: Option<Ahead>) -> Wire {
        let mut wire = Wire::new(stream, buffers);
        if let Some(Ahead { input, count }) = ahead {
            wire.input.buffer = Some(input);
            wire.end = count;
            wire.bytes_in = count as u64;
        }
        wire
    }

    fn make_room(&mut self, most: usize) -> io::Result<()> {
        let Some(input) = self.input.buffer.as_mut() else { return Ok(()) };
        if has_room(input, &mut self.start, &mut self.end) {
            return Ok(());
        }
        if input.len() >= most {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let length = input.len();
        let mut larger = match length {
            SMALL => self.input.home().large(),
            _ => self.input.home().grown((length * 2).max(LARGE)),
        };
        if let (Some(room), Some(old)) = (larger.get_mut(..length), self.input.buffer.as_ref()) {
            room.copy_from_slice(old);
        }
        self.input.end();
        self.input.buffer = Some(larger);
        Ok(())
    }

    /// Bytes staged and not yet written.
    pub(crate) fn staged(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Bytes that the peer's system has taken, of all that were written.
    pub(crate) fn taken(&self) -> u64 {
        self.bytes_out.saturating_sub(self.stream.untaken() as u64)
    }

    /// Take back what was staged behind the first `at` bytes ever written or staged; false if some of it was written.
    pub(crate) fn unstage(&mut self, at: u64) -> bool {
        match at.checked_sub(self.bytes_out).and_then(|ahead| usize::try_from(ahead).ok()) {
            Some(ahead) => {
                self.out.truncate(self.sent + ahead);
                true
            }
            None => false,
        }
    }

    /// Write all that is staged.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            let count = ready!(self.stream.poll_write(cx, rest))?;
            self.advance(count)?;
        }
        self.stream.poll_flush(cx)
    }

    /// Write what is staged and `bytes` and `behind` after it in one go; how many of `bytes` and `behind` were written.
    pub(crate) fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        behind: &[u8],
    ) -> Poll<io::Result<usize>> {
        let staged = self.out.get(self.sent..).unwrap_or_default();
        let before = staged.len();
        let parts = [IoSlice::new(staged), IoSlice::new(bytes), IoSlice::new(behind)];
        let parts = if before == 0 { parts.get(1..) } else { parts.get(..) };
        let count = ready!(self.stream.poll_write_vectored(cx, parts.unwrap_or_default()))?;
        let of_staged = count.min(before);
        if count == 0 || of_staged > 0 {
            self.advance(of_staged)?;
        }
        self.bytes_out += (count - of_staged) as u64;
        Poll::Ready(Ok(count - of_staged))
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.stream.poll_shutdown(cx)
    }

    fn advance(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes_out += count as u64;
        self.sent += count;
        if self.sent >= self.out.len() {
            self.sent = 0;
            self.out.clear();
            // One that a long body made long goes back to the system.
            if self.out.capacity() > STAGE {
                self.out = Vec::new();
            }
        }
        Ok(())
    }
}
