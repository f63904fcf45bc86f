//! A client to and from whom no more goes than so many bytes a second, each way. Nobody else's exchange knows of it.

use crate::clock::{Alarm, Clock, Tick};
use crate::codec::{Chunk, Downstream, Incoming, Outgoing, Tunnel};
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, RequestHead, ResponseHead};
use penstock_rules::limit::throttle::Throttle;
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

// Of any version of HTTP, captured or not: an exchange over it is compiled once.
pub(super) struct Throttled<'d> {
    client: &'d mut dyn Downstream,
    upload: Throttle,
    download: Throttle,
    /// Bytes of the body that may be seen.
    seen: usize,
    /// Since when the client waits for us to read on.
    paused: Option<Tick>,
}

impl<'d> Throttled<'d> {
    pub(super) fn new(client: &'d mut dyn Downstream, rate: u64) -> Throttled<'d> {
        let throttle = Throttle::new(rate, Clock::span(client.alarm().clock().now()));
        Throttled { client, upload: throttle, download: throttle, seen: 0, paused: None }
    }

    fn now(&self) -> Tick {
        self.client.alarm().clock().now()
    }

    /// Be woken when more may pass.
    fn wait<T>(&self) -> Poll<T> {
        self.client.alarm().lower(self.now().saturating_add(1));
        Poll::Pending
    }
}

impl Incoming for Throttled<'_> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        let now = self.now();
        if let Chunk::End = ready!(self.client.poll_chunk(cx))? {
            return Poll::Ready(Ok(Chunk::End));
        }
        self.seen = usize::try_from(self.upload.left(Clock::span(now))).unwrap_or(usize::MAX);
        if self.seen == 0 {
            self.paused.get_or_insert(now);
            return self.wait();
        }
        if let Some(since) = self.paused.take() {
            self.client.excuse(now.saturating_sub(since));
        }
        Poll::Ready(Ok(Chunk::Bytes))
    }

    fn chunk(&self) -> &[u8] {
        let chunk = self.client.chunk();
        chunk.get(..self.seen).unwrap_or(chunk)
    }

    fn consume(&mut self, count: usize) {
        self.seen = self.seen.saturating_sub(count);
        self.upload.take(count as u64);
        self.client.consume(count);
    }

    fn trailers(&self) -> Option<Fields> {
        self.client.trailers()
    }

    fn is_ended(&self) -> bool {
        self.client.is_ended()
    }

    fn received(&self) -> u64 {
        self.client.received()
    }

    fn excuse(&mut self, ticks: u64) {
        self.client.excuse(ticks);
    }
}

impl Outgoing for Throttled<'_> {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        let left = self.download.left(Clock::span(self.now()));
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        if most == 0 {
            // What may go has not to wait for what may not.
            ready!(self.client.poll_flush(cx))?;
            return self.wait();
        }
        let count = ready!(self.client.poll_send(cx, bytes.get(..most).unwrap_or(bytes)))?;
        self.download.take(count as u64);
        Poll::Ready(Ok(count))
    }

    fn sent(&self) -> u64 {
        self.client.sent()
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        self.client.finish(trailers);
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        self.client.poll_flush(cx)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_shutdown(cx)
    }
}

impl Tunnel for Throttled<'_> {
    fn become_tunnel(&mut self, idle: Duration) {
        self.client.become_tunnel(idle);
    }
}

impl Downstream for Throttled<'_> {
    fn accept_body(&mut self, head: &RequestHead, limit: Option<u64>, rate: LeastRate) {
        self.client.accept_body(head, limit, rate);
    }

    fn limit_body(&mut self, limit: u64) {
        self.client.limit_body(limit);
    }

    fn retract(&mut self) -> bool {
        self.client.retract()
    }

    fn take_back(&mut self, before: u64) -> bool {
        self.client.take_back(before)
    }

    fn written(&self) -> u64 {
        self.client.written()
    }

    fn alarm(&self) -> &Rc<Alarm> {
        self.client.alarm()
    }

    fn takes(&self, status: u16) -> bool {
        self.client.takes(status)
    }

    fn respond(&mut self, head: &ResponseHead, via: bool) {
        self.client.respond(head, via);
    }

    fn respond_switched(&mut self, head: &ResponseHead) -> u16 {
        self.client.respond_switched(head)
    }

    fn respond_connected(&mut self) -> bool {
        self.client.respond_connected()
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, seen: usize) -> Poll<Result<&[u8], Kind>> {
        self.client.poll_ahead(cx, seen)
    }

    fn hand_over(&mut self) {
        self.client.hand_over();
    }

    fn interim(&mut self, head: &ResponseHead) {
        self.client.interim(head);
    }

    fn close_after(&mut self) {
        self.client.close_after();
    }

    fn abort(&mut self) {
        self.client.abort();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_gone(cx)
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_broken(cx)
    }

    fn tell_broken(&mut self) {
        self.client.tell_broken();
    }
}
