//! The body that goes out on an HTTP/1 connection.

use super::H1;
use crate::clock::{Clock, NEVER};
use crate::codec::Outgoing;
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, chunked};
use std::task::{Context, Poll, ready};

/// Pieces up to this size are copied behind what is staged; larger ones are written from where they are.
const COPIED: usize = 8 * 1024;
/// With more than this staged, nothing further is staged before it is written.
const STAGED: usize = 32 * 1024;

/// The body that goes out.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) chunked: bool,
    /// A body that may not be sent (HEAD, 204, 304).
    pub(super) silent: bool,
    /// Nothing but the end of the connection ends it.
    pub(super) ends_with_connection: bool,
    /// Bytes of the open chunk that are still to be written.
    pub(super) owed: usize,
    pub(super) sent: u64,
}

impl Outgoing for H1 {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        if self.sink.silent {
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.sink.owed == 0 && bytes.len() <= COPIED {
            if self.wire.staged() > STAGED {
                ready!(self.poll_flush(cx))?;
            }
            return Poll::Ready(Ok(self.staged(bytes)));
        }
        if self.sink.chunked && self.sink.owed == 0 {
            chunked::write_size(bytes.len(), &mut self.wire.out);
            self.sink.owed = bytes.len();
        }
        let part = match self.sink.chunked {
            true => bytes.get(..self.sink.owed.min(bytes.len())).unwrap_or_default(),
            false => bytes,
        };
        let ends = self.sink.chunked && part.len() == self.sink.owed;
        let behind: &[u8] = if ends { b"\r\n" } else { b"" };
        let written = match self.wire.poll_write_through(cx, part, behind) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(self.faults.write)),
            Poll::Pending => return self.wait_for_room(),
        };
        self.go_on();
        let of_part = written.min(part.len());
        self.sink.sent += of_part as u64;
        if self.sink.chunked {
            self.sink.owed -= of_part;
            if ends && of_part == part.len() {
                // Whatever of the line end did not fit goes first with the next write.
                self.wire.out.extend_from_slice(behind.get(written - of_part..).unwrap_or_default());
            }
        }
        if of_part == 0 { self.poll_send(cx, bytes) } else { Poll::Ready(Ok(of_part)) }
    }

    fn sent(&self) -> u64 {
        self.sink.sent
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        if self.sink.chunked {
            chunked::write_end(trailers.filter(|_| self.takes_trailers), &mut self.wire.out);
            self.sink.chunked = false;
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        match self.wire.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.go_on();
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.faults.write)),
            Poll::Pending => self.wait_for_room(),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_shutdown(cx).map(|_| ())
    }
}

impl H1 {
    /// There is room to write.
    fn go_on(&mut self) {
        self.write_by = NEVER;
        if self.pace.is_waiting() {
            self.pace.go_on(Clock::span(self.alarm.clock().now()));
        }
    }

    /// While nothing can be written: check patience and pace.
    fn wait_for_room<T>(&mut self) -> Poll<Result<T, Kind>> {
        let clock = self.alarm.clock();
        if self.write_by == NEVER || self.write_mark != self.wire.gone() {
            self.write_mark = self.wire.gone();
            self.write_by = clock.after(self.waits.write);
        }
        let late = clock.now() >= self.write_by;
        match self.pace.wait(self.waits.rate, Clock::span(clock.now()), || self.wire.taken()) {
            Ok(look) if !late => {
                self.alarm.lower(self.write_by.min(Clock::ticks(look).saturating_add(1)));
                Poll::Pending
            }
            outcome => {
                // What the system still holds for this peer is dropped, not kept until it deigns to read.
                self.wire.break_off();
                Poll::Ready(Err(if outcome.is_err() { Kind::ClientTooSlow } else { self.faults.write_timeout }))
            }
        }
    }

    fn staged(&mut self, bytes: &[u8]) -> usize {
        if self.sink.chunked {
            chunked::write_size(bytes.len(), &mut self.wire.out);
        }
        self.wire.out.extend_from_slice(bytes);
        if self.sink.chunked {
            self.wire.out.extend_from_slice(b"\r\n");
        }
        self.sink.sent += bytes.len() as u64;
        bytes.len()
    }
}
