//! The body that goes out on a stream: never more than the receiver's window takes, and never so much that a connection of many
//! streams keeps much in memory.

use super::{H2, Outbound, Side};
use crate::clock::{Clock, NEVER};
use crate::codec::Outgoing;
use penstock_rules::error::Kind;
use penstock_rules::http::Fields;
use std::task::{Context, Poll};

pub(super) struct Sink<H, O> {
    /// The head, until it goes, and whether it ends the stream.
    head: Option<(H, bool)>,
    /// Where the body goes; nothing before the head went.
    pub(super) send: Option<O>,
    /// Nothing of a body goes out: there is none, or it ended.
    silent: bool,
    /// What ends is only what came before the stream becomes a tunnel.
    held: bool,
    /// What is still to go of a body whose length was told.
    left: Option<u64>,
    sent: u64,
    /// With heads.
    pub(super) written: u64,
}

impl<H, O: Outbound> Sink<H, O> {
    pub(super) fn new() -> Sink<H, O> {
        Sink { head: None, send: None, silent: false, held: false, left: None, sent: 0, written: 0 }
    }

    /// `size`: bytes of the head before it is packed.
    pub(super) fn stage(&mut self, head: H, size: u64, ends: bool, length: Option<u64>) {
        self.written += size;
        (self.head, self.silent, self.left) = (Some((head, ends)), ends, length);
    }

    /// Let the stream stay open behind its head, which has no body.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Whatever ends from now on ends the stream.
    pub(super) fn let_go(&mut self) {
        self.held = false;
    }

    /// Nothing goes out.
    pub(super) fn close(&mut self) {
        self.silent = true;
    }

    /// Take back a head that did not go; nothing if there is none.
    pub(super) fn retract(&mut self) -> Option<H> {
        self.head.take().map(|(head, _)| head)
    }
}

impl<S: Side> Outgoing for H2<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        if self.sink.silent {
            return Poll::Ready(Ok(bytes.len()));
        }
        self.begin()?;
        let Some(send) = &mut self.sink.send else { return Poll::Ready(Err(S::FAULTS.write)) };
        let wanted = bytes.len().min(self.link.share());
        let room = match send.poll_room(wanted, cx) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(S::FAULTS.write)),
            Poll::Pending => return self.wait_for_room(),
        };
        let part = bytes.get(..wanted.min(room)).unwrap_or_default();
        let count = part.len() as u64;
        let ends = self.sink.left == Some(count);
        if send.send(part, ends).is_err() {
            return Poll::Ready(Err(S::FAULTS.write));
        }
        self.sink.silent = ends;
        self.sink.left = self.sink.left.map(|left| left.saturating_sub(count));
        self.sink.sent += count;
        self.sink.written += count;
        self.go_on();
        Poll::Ready(Ok(part.len()))
    }

    fn sent(&self) -> u64 {
        self.sink.sent
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        if self.sink.silent || self.sink.held {
            return;
        }
        self.sink.silent = true;
        if trailers.is_none()
            && let Some((_, ends)) = &mut self.sink.head
        {
            *ends = true;
            return;
        }
        // Whoever reset the stream has no use for its end.
        if self.begin().is_ok()
            && let Some(send) = &mut self.sink.send
        {
            send.finish(trailers);
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        // What was taken is the connection's affair.
        Poll::Ready(self.begin())
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.finish(None);
        Poll::Ready(())
    }
}

impl<S: Side> H2<S> {
    /// Let the head go, if it is staged.
    pub(super) fn begin(&mut self) -> Result<(), Kind> {
        let Some((head, ends)) = self.sink.head.take() else { return Ok(()) };
        self.sink.send = Some(self.side.begin(head, ends)?);
        Ok(())
    }

    /// There is room to write.
    fn go_on(&mut self) {
        self.write_by = NEVER;
        if self.pace.is_waiting() {
            self.pace.go_on(Clock::span(self.alarm.clock().now()));
        }
    }

    /// While the receiver's window is closed: check patience and pace.
    fn wait_for_room<T>(&mut self) -> Poll<Result<T, Kind>> {
        let clock = self.alarm.clock();
        if self.write_by == NEVER || self.write_mark != self.sink.sent {
            self.write_mark = self.sink.sent;
            self.write_by = clock.after(self.waits.write);
        }
        let late = clock.now() >= self.write_by;
        match self.pace.wait(self.waits.rate, Clock::span(clock.now()), || self.sink.sent) {
            Ok(look) if !late => {
                self.alarm.lower(self.write_by.min(Clock::ticks(look).saturating_add(1)));
                Poll::Pending
            }
            outcome => {
                if let Some(send) = &mut self.sink.send {
                    send.cancel();
                }
                Poll::Ready(Err(if outcome.is_err() { Kind::ClientTooSlow } else { S::FAULTS.write_timeout }))
            }
        }
    }
}
