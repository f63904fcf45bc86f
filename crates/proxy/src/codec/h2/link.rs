//! What lies between a socket and HTTP/2 on it, and what the streams of one connection share. Where an endpoint is at the other end,
//! and so the `h2` crate at ours, frames are counted on their way: an endpoint that sends what costs more than it is worth is stopped.

use super::account::Account;
use crate::clock::{Clock, NEVER, Tick};
use crate::stream::Stream;
use crate::worker::Worker;
use penstock_rules::error::Kind;
use penstock_rules::http::frames::{Conduct, FrameScan, PREFACE_LENGTH};
use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read in one turn of a connection, so that what came is served before more is taken in.
const TURN: usize = 32 * 1024;
/// What is kept for a connection that waits, whatever is on it: by our codec, and by the crate.
const OURS: usize = 8 * 1024;
const THE_CRATES: usize = 32 * 1024;
/// Bytes of bodies that all streams of a connection together have ready for the peer.
const READY: usize = 1 << 20;
/// What one stream may have of them.
const MOST_READY: usize = 64 * 1024;

/// One connection, as its task and its streams see it.
pub(crate) struct Link {
    stream: RefCell<Stream>,
    /// Read before the codec was chosen, and how much of it is used.
    ahead: RefCell<(Vec<u8>, usize)>,
    worker: Rc<Worker>,
    received: RefCell<FrameScan>,
    sent: RefCell<FrameScan>,
    conduct: Cell<Conduct>,
    /// What the endpoint did too much of, until it is told; nothing is read of it from then on.
    verdict: Cell<Option<Kind>>,
    halted: Cell<bool>,
    turn: Cell<usize>,
    /// Since when the socket takes nothing.
    blocked: Cell<Tick>,
    /// Since when a head comes that is not whole.
    in_head: Cell<Tick>,
    /// Streams whose exchange runs.
    live: Cell<usize>,
    /// When something came last, and since when we have said something that nothing came after.
    heard: Cell<Tick>,
    asked: Cell<Tick>,
    /// The peer has said what it takes.
    settled: Cell<bool>,
    /// How often something came.
    reads: Cell<u64>,
    /// Pings since the last part of a message came.
    pings: Cell<u8>,
    account: Account,
}

impl Link {
    /// To a client.
    pub(crate) fn new(worker: &Rc<Worker>, stream: Stream, ahead: Vec<u8>) -> Rc<Link> {
        Rc::new(Link::with(worker, stream, ahead, OURS))
    }

    /// To an endpoint.
    pub(crate) fn to_endpoint(worker: &Rc<Worker>, stream: Stream) -> Rc<Link> {
        Rc::new(Link::with(worker, stream, Vec::new(), THE_CRATES))
    }

    fn with(worker: &Rc<Worker>, stream: Stream, ahead: Vec<u8>, codec: usize) -> Link {
        Link {
            stream: RefCell::new(stream),
            ahead: RefCell::new((ahead, 0)),
            worker: Rc::clone(worker),
            received: RefCell::new(FrameScan::new(0)),
            // Whoever asks begins with the preface.
            sent: RefCell::new(FrameScan::new(PREFACE_LENGTH)),
            conduct: Cell::new(Conduct::of_endpoint()),
            verdict: Cell::new(None),
            halted: Cell::new(false),
            turn: Cell::new(TURN),
            blocked: Cell::new(NEVER),
            in_head: Cell::new(NEVER),
            live: Cell::new(0),
            heard: Cell::new(worker.clock.now()),
            asked: Cell::new(NEVER),
            settled: Cell::new(false),
            reads: Cell::new(0),
            pings: Cell::new(0),
            account: Account::open(&worker.buffers, codec),
        }
    }

    /// Another turn of the connection begins.
    pub(crate) fn begin_turn(&self) {
        self.turn.set(TURN);
    }

    /// What the peer did too much of, told once.
    pub(crate) fn take_verdict(&self) -> Option<Kind> {
        self.verdict.take()
    }

    /// Whether the peer did too much of something.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.get()
    }

    /// Whether the peer has said what it takes.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// When something came last.
    pub(crate) fn heard_at(&self) -> Tick {
        self.heard.get()
    }

    /// How often something came.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Whether we have said something and nothing came since.
    pub(crate) fn is_unanswered(&self) -> bool {
        self.asked.get() != NEVER
    }

    /// Pings since the last part of a message came.
    pub(crate) fn pings(&self) -> &Cell<u8> {
        &self.pings
    }

    /// Look at what it runs over.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Stream) -> T) -> T {
        look(&self.stream.borrow())
    }

    /// Since when the socket takes nothing; [`NEVER`] while it does.
    pub(crate) fn blocked_since(&self) -> Tick {
        self.blocked.get()
    }

    /// Since when a head comes that is not whole; [`NEVER`] between heads.
    pub(crate) fn in_head_since(&self) -> Tick {
        self.in_head.get()
    }

    /// Streams whose exchange runs.
    pub(crate) fn live(&self) -> usize {
        self.live.get()
    }

    /// One stream more, until what is returned is dropped.
    pub(crate) fn open(self: &Rc<Self>) -> Live {
        self.live.set(self.live.get() + 1);
        Live(Rc::clone(self))
    }

    /// Bytes that a stream may have ready.
    pub(super) fn share(&self) -> usize {
        MOST_READY.min(READY / self.live.get().max(1))
    }

    /// What is kept.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Memory to stage in what is to be written, and back again.
    pub(super) fn stage(&self) -> Vec<u8> {
        self.worker.buffers.stage()
    }

    pub(super) fn give_back_stage(&self, stage: Vec<u8>) {
        self.worker.buffers.give_back_stage(stage);
    }

    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// Whether a head has begun to come and is not whole.
    pub(super) fn note_in_head(&self, in_head: bool) {
        self.in_head.set(if in_head { self.in_head.get().min(self.worker.clock.now()) } else { NEVER });
    }

    /// Let the end be a reset.
    pub(crate) fn break_off(&self) {
        self.stream.borrow_mut().break_off();
    }

    /// Say the end, then read and drop what still comes, up to `most` bytes; ready when the client's end or that limit is reached. A reset
    /// would take our last frames with it.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>, most: &mut usize) -> Poll<()> {
        let mut stream = self.stream.borrow_mut();
        let mut input = self.worker.buffers.small();
        let end = loop {
            if stream.poll_shutdown(cx).is_pending() {
                break Poll::Pending;
            }
            match stream.poll_read(cx, &mut input) {
                Poll::Ready(Ok(count)) if count > 0 && count <= *most => *most -= count,
                Poll::Ready(_) => break Poll::Ready(()),
                Poll::Pending => break Poll::Pending,
            }
        };
        self.worker.buffers.give_back(input);
        end
    }

    fn note_received(&self, mut bytes: &[u8]) {
        let (mut scan, mut conduct, now) = (self.received.borrow_mut(), self.conduct.get(), self.worker.clock.now());
        self.heard.set(now);
        self.reads.set(self.reads.get().wrapping_add(1));
        self.asked.set(NEVER);
        while let Some(frame) = scan.next(&mut bytes) {
            if frame.is_message() {
                self.pings.set(0);
            }
            self.settled.set(self.settled.get() || frame.is_settings());
            self.judge(conduct.received(frame, Clock::span(now)));
        }
        self.conduct.set(conduct);
    }

    fn note_sent(&self, mut bytes: &[u8]) {
        let (mut scan, mut conduct) = (self.sent.borrow_mut(), self.conduct.get());
        while let Some(frame) = scan.next(&mut bytes) {
            conduct.sent(frame);
            if frame.is_message() {
                self.asked.set(self.asked.get().min(self.worker.clock.now()));
            }
        }
        self.conduct.set(conduct);
    }

    fn judge(&self, verdict: Result<(), Kind>) {
        if let Err(kind) = verdict
            && !self.halted.replace(true)
        {
            self.verdict.set(Some(kind));
        }
    }

    fn poll_input(&self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let (ahead, used) = &mut *self.ahead.borrow_mut();
        let rest = ahead.get(*used..).unwrap_or_default();
        if rest.is_empty() {
            return self.stream.borrow_mut().poll_read(cx, to);
        }
        let count = rest.len().min(to.len());
        if let (Some(to), Some(rest)) = (to.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(rest);
        }
        *used += count;
        if *used == ahead.len() {
            (*ahead, *used) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(count))
    }

    /// Read some, at most `most` bytes, for `take`; 0 is the end.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        most: usize,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<usize>> {
        if self.turn.get() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut input = self.worker.buffers.small();
        let most = input.len().min(most).min(self.turn.get());
        let poll = self.poll_input(cx, input.get_mut(..most).unwrap_or_default());
        if let Poll::Ready(Ok(count)) = poll {
            let bytes = input.get(..count).unwrap_or_default();
            self.turn.set(self.turn.get().saturating_sub(count));
            take(bytes);
        }
        self.worker.buffers.give_back(input);
        poll
    }

    fn poll_received(&self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.halted.get() {
            return Poll::Pending;
        }
        let most = to.remaining();
        let take = |bytes: &[u8]| {
            self.note_received(bytes);
            self.account.received(bytes.len());
            to.put_slice(bytes);
        };
        self.poll_read(cx, most, take).map_ok(|_| ())
    }

    /// Write some.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.note_progress(self.stream.borrow_mut().poll_write(cx, bytes))
    }

    /// Write what the socket's side took and did not write yet.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.borrow_mut().poll_flush(cx)
    }

    /// Whether the socket takes anything.
    fn note_progress(&self, poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &poll {
            Poll::Ready(Ok(_)) => self.blocked.set(NEVER),
            Poll::Pending => self.blocked.set(self.blocked.get().min(self.worker.clock.now())),
            Poll::Ready(Err(_)) => {}
        }
        poll
    }

    /// Count what a write of the crate's came to.
    fn note_write(&self, poll: Poll<io::Result<usize>>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &poll {
            self.account.written(*count);
            let mut left = *count;
            for part in parts {
                let written = left.min(part.len());
                left -= written;
                self.note_sent(part.get(..written).unwrap_or_default());
            }
        }
        self.note_progress(poll)
    }
}

/// A stream whose exchange runs.
pub(crate) struct Live(Rc<Link>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.set(self.0.live.get().saturating_sub(1));
    }
}

/// The link to an endpoint as the crate sees it.
pub(crate) struct Io(pub(crate) Rc<Link>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_received(cx, to)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = self.0.stream.borrow_mut().poll_write(cx, bytes);
        self.0.note_write(poll, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = self.0.stream.borrow_mut().poll_write_vectored(cx, parts);
        self.0.note_write(poll, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.stream.borrow_mut().poll_shutdown(cx)
    }
}
