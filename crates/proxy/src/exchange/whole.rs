//! In the client's place, where an endpoint is asked something for ourselves: keeps the body of its answer, up to a limit. There is
//! no body to send, and nothing is written to the client; only that it is gone ends the asking.

use crate::clock::Alarm;
use crate::codec::{Chunk, Downstream, Incoming, Outgoing, Tunnel};
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, RequestHead, ResponseHead};
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// The answer, as far as it is here; its head is where the exchange has it.
pub(super) struct Whole<'d, D> {
    client: &'d mut D,
    pub(super) body: Vec<u8>,
    most: usize,
}

impl<'d, D: Downstream> Whole<'d, D> {
    pub(super) fn new(client: &'d mut D, most: usize) -> Whole<'d, D> {
        Whole { client, body: Vec::new(), most }
    }
}

impl<D: Downstream> Incoming for Whole<'_, D> {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        Poll::Ready(Ok(Chunk::End))
    }

    fn chunk(&self) -> &[u8] {
        &[]
    }

    fn consume(&mut self, _: usize) {}

    fn trailers(&self) -> Option<Fields> {
        None
    }

    fn is_ended(&self) -> bool {
        true
    }

    fn received(&self) -> u64 {
        0
    }

    fn excuse(&mut self, ticks: u64) {
        self.client.excuse(ticks);
    }
}

impl<D: Downstream> Outgoing for Whole<'_, D> {
    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        if self.body.len() + bytes.len() > self.most {
            return Poll::Ready(Err(Kind::ResponseTooLarge));
        }
        self.body.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn sent(&self) -> u64 {
        self.body.len() as u64
    }

    fn finish(&mut self, _: Option<&Fields>) {}

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl<D: Downstream> Tunnel for Whole<'_, D> {
    fn become_tunnel(&mut self, _: Duration) {}
}

impl<D: Downstream> Downstream for Whole<'_, D> {
    fn accept_body(&mut self, _: &RequestHead, _: Option<u64>, _: LeastRate) {}

    fn limit_body(&mut self, _: u64) {}

    fn retract(&mut self) -> bool {
        true
    }

    fn take_back(&mut self, _: u64) -> bool {
        false
    }

    fn written(&self) -> u64 {
        0
    }

    fn alarm(&self) -> &Rc<Alarm> {
        self.client.alarm()
    }

    fn respond(&mut self, _: &ResponseHead, _: bool) {}

    fn interim(&mut self, _: &ResponseHead) {}

    fn close_after(&mut self) {}

    fn abort(&mut self) {}

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Before the end of a body its bytes stand in the way of the client's end.
        if self.client.is_ended() { self.client.poll_gone(cx) } else { Poll::Pending }
    }
}
