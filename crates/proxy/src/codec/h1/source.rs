//! The body that comes in on an HTTP/1 connection.

use super::H1;
use crate::buffers::LARGE;
use crate::clock::{Clock, Tick};
use crate::codec::{Chunk, Incoming};
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, chunked};
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A body longer than this is read with large buffers.
const BULK: u64 = 64 * 1024;

/// The body that comes in.
pub(super) struct Source {
    pub(super) coding: Coding,
    /// Bytes at the begin of the input that belong to the body.
    pub(super) ready: usize,
    pub(super) ended: bool,
    pub(super) received: u64,
    /// Most bytes that may come.
    pub(super) limit: u64,
    /// How fast it must at least come.
    pub(super) rate: LeastRate,
    pub(super) since: Tick,
    pub(super) read_by: Tick,
}

pub(super) enum Coding {
    None,
    /// So many bytes are still to be seen.
    Bytes(u64),
    Chunked(Box<chunked::Decoder>),
    UntilClose,
}

impl Source {
    fn is_too_slow(&self, now: Tick, just_came: u64) -> bool {
        self.rate.is_missed(self.received + just_came, Clock::span(now.saturating_sub(self.since)))
    }
}

impl H1 {
    /// Read on, checking patience and rate.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Kind>> {
        let bulk = match &self.source.coding {
            Coding::Bytes(left) => *left > BULK,
            _ => self.source.received > BULK,
        };
        let clock = Rc::clone(self.alarm.clock());
        match self.wire.poll_fill(cx, LARGE, bulk) {
            Poll::Ready(Ok(count)) => {
                self.source.read_by = clock.after(self.waits.body);
                if self.source.is_too_slow(clock.now(), count as u64) {
                    return Poll::Ready(Err(Kind::BodyTooSlow));
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.faults.cut)),
            Poll::Pending if clock.now() >= self.source.read_by => Poll::Ready(Err(self.faults.body_timeout)),
            Poll::Pending => {
                self.alarm.lower(self.source.read_by);
                Poll::Pending
            }
        }
    }

    /// The next chunk, when there is none yet.
    #[inline(always)]
    fn poll_decode(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        loop {
            let source = &mut self.source;
            if source.ready > 0 {
                return Poll::Ready(Ok(Chunk::Bytes));
            }
            if source.ended {
                return Poll::Ready(Ok(Chunk::End));
            }
            let input = self.wire.input();
            if !input.is_empty() {
                let mut skip = 0;
                match &mut source.coding {
                    Coding::None => source.ended = true,
                    Coding::Bytes(left) => {
                        source.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                        *left -= source.ready as u64;
                    }
                    Coding::UntilClose => source.ready = input.len(),
                    Coding::Chunked(decoder) => {
                        let step = decoder.step(input).map_err(|kind| match kind {
                            Kind::HeadTooLarge if self.faults.malformed == Kind::BadChunk => kind,
                            _ => self.faults.malformed,
                        })?;
                        (skip, source.ready, source.ended) = (step.skip, step.data, step.done);
                    }
                }
                source.received += source.ready as u64;
                if source.received > source.limit {
                    return Poll::Ready(Err(Kind::BodyTooLarge));
                }
                self.wire.consume(skip);
                continue;
            }
            if let Coding::Bytes(0) = source.coding {
                source.ended = true;
                continue;
            }
            if ready!(self.poll_more(cx))? == 0 {
                match self.source.coding {
                    Coding::UntilClose => self.source.ended = true,
                    _ => return Poll::Ready(Err(self.faults.cut)),
                }
            }
        }
    }
}

impl Incoming for H1 {
    #[inline]
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        if self.source.ready > 0 { Poll::Ready(Ok(Chunk::Bytes)) } else { self.poll_decode(cx) }
    }

    fn chunk(&self) -> &[u8] {
        self.wire.input().get(..self.source.ready).unwrap_or_default()
    }

    #[inline]
    fn consume(&mut self, count: usize) {
        let count = count.min(self.source.ready);
        self.source.ready -= count;
        self.wire.consume(count);
        if self.source.ready == 0
            && let Coding::Bytes(0) = self.source.coding
        {
            self.source.ended = true;
        }
    }

    fn trailers(&self) -> Option<Fields> {
        match &self.source.coding {
            Coding::Chunked(decoder) => decoder.trailers().ok().filter(|fields| !fields.is_empty()),
            _ => None,
        }
    }

    fn is_ended(&self) -> bool {
        self.source.ended && self.source.ready == 0
    }

    fn received(&self) -> u64 {
        self.source.received
    }

    fn excuse(&mut self, ticks: u64) {
        self.source.since = self.source.since.saturating_add(ticks);
        self.source.read_by = self.alarm.clock().after(self.waits.body);
    }
}
