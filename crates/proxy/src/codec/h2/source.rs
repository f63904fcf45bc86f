//! The body that comes in on a stream. What is not yet used is not yet given back to the sender's window.

use super::{H2, Inbound, Side};
use crate::clock::{Clock, NEVER, Tick};
use crate::codec::h1::Faults;
use crate::codec::{Chunk, Incoming};
use bytes::{Buf, Bytes};
use penstock_rules::error::Kind;
use penstock_rules::http::h2::Cut;
use penstock_rules::http::{Fields, chunked};
use penstock_rules::pace::LeastRate;
use std::task::{Context, Poll, ready};

pub(super) struct Source<I> {
    /// Nothing before the head came that it is behind.
    recv: Option<I>,
    chunk: Bytes,
    ended: bool,
    /// Nothing is read of it for now.
    held: bool,
    trailers: Option<Fields>,
    received: u64,
    /// Most bytes that may come.
    limit: u64,
    rate: LeastRate,
    since: Tick,
    read_by: Tick,
}

impl<I: Inbound> Source<I> {
    /// Nothing comes yet.
    pub(super) fn new() -> Source<I> {
        Source {
            recv: None,
            chunk: Bytes::new(),
            ended: true,
            held: false,
            trailers: None,
            received: 0,
            limit: u64::MAX,
            rate: LeastRate::NONE,
            since: 0,
            read_by: NEVER,
        }
    }

    /// A head came, and this is what is behind it. `ended`: nothing.
    pub(super) fn begin(&mut self, recv: I, ended: bool) {
        (self.recv, self.ended) = (Some(recv), ended);
    }

    /// Whether the stream ended with its head.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    pub(super) fn expect_body(&mut self, limit: Option<u64>, rate: LeastRate, (since, read_by): (Tick, Tick)) {
        self.held = false;
        (self.limit, self.rate) = (limit.unwrap_or(u64::MAX), rate);
        (self.since, self.read_by) = (since, read_by);
    }

    /// Let there seem to be no body, until one is expected.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// What comes is nothing to anybody.
    pub(super) fn close(&mut self) {
        (self.recv, self.ended) = (None, true);
    }

    pub(super) fn limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// What came and is not used.
    pub(super) fn said(&self) -> &[u8] {
        &self.chunk
    }

    /// Take more in behind what came and is not used; false: no more comes. Whoever looks ahead says how far.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Cut>> {
        let Some(recv) = self.recv.as_mut().filter(|_| !self.ended) else { return Poll::Ready(Ok(false)) };
        let Some(bytes) = ready!(recv.poll_data(cx))? else { return Poll::Ready(Ok(false)) };
        self.received += bytes.len() as u64;
        self.chunk = if self.chunk.is_empty() { bytes } else { [&self.chunk[..], &bytes[..]].concat().into() };
        Poll::Ready(Ok(true))
    }

    fn take(&mut self, bytes: Bytes, now: Tick) -> Result<(), Kind> {
        self.received += bytes.len() as u64;
        self.chunk = bytes;
        if self.received > self.limit {
            return Err(Kind::BodyTooLarge);
        }
        let waited = Clock::span(now.saturating_sub(self.since));
        if self.rate.is_missed(self.received, waited) { Err(Kind::BodyTooSlow) } else { Ok(()) }
    }
}

impl<S: Side> Incoming for H2<S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        loop {
            if !self.source.chunk.is_empty() {
                return Poll::Ready(Ok(Chunk::Bytes));
            }
            if self.source.ended || self.source.held {
                return Poll::Ready(Ok(Chunk::End));
            }
            let clock = self.alarm.clock();
            let Some(recv) = &mut self.source.recv else { return Poll::Ready(Err(S::FAULTS.cut)) };
            match recv.poll_data(cx) {
                Poll::Ready(Ok(Some(bytes))) => {
                    self.source.read_by = clock.after(self.waits.body);
                    self.source.take(bytes, clock.now())?;
                    continue;
                }
                Poll::Ready(Err(cut)) => return Poll::Ready(Err(name(&S::FAULTS, cut))),
                Poll::Ready(Ok(None)) => match recv.poll_trailers(cx) {
                    Poll::Ready(Ok(trailers)) => {
                        (self.source.trailers, self.source.ended) = (trailers, true);
                        continue;
                    }
                    Poll::Ready(Err(cut)) => return Poll::Ready(Err(name(&S::FAULTS, cut))),
                    Poll::Pending => {}
                },
                Poll::Pending => {}
            }
            if clock.now() >= self.source.read_by {
                return Poll::Ready(Err(S::FAULTS.body_timeout));
            }
            self.alarm.lower(self.source.read_by);
            return Poll::Pending;
        }
    }

    fn chunk(&self) -> &[u8] {
        &self.source.chunk
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.source.chunk.len());
        self.source.chunk.advance(count);
        if let Some(recv) = &mut self.source.recv {
            recv.used_up(count);
        }
    }

    fn trailers(&self) -> Option<Fields> {
        let mut fields = Fields::default();
        for field in self.source.trailers.iter().flat_map(Fields::iter) {
            if std::str::from_utf8(field.name).is_ok_and(chunked::is_allowed) {
                fields.push(field.name, field.value);
            }
        }
        Some(fields).filter(|fields| !fields.is_empty())
    }

    fn is_ended(&self) -> bool {
        self.source.held || (self.source.ended && self.source.chunk.is_empty())
    }

    fn received(&self) -> u64 {
        self.source.received
    }

    fn excuse(&mut self, ticks: u64) {
        self.source.since = self.source.since.saturating_add(ticks);
        self.source.read_by = self.alarm.clock().after(self.waits.body);
    }
}

/// Why a body ends before its end.
fn name(faults: &Faults, cut: Cut) -> Kind {
    match cut {
        Cut::Malformed => faults.malformed,
        Cut::Broken => faults.cut,
    }
}
