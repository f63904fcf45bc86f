//! The client of a copied request: it has sent all it will, takes every answer and looks at none.

use crate::clock::Alarm;
use crate::codec::{Chunk, Downstream, Incoming, Outgoing, Tunnel};
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, RequestHead, ResponseHead};
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes of an answer that are taken, so that its connection can be used again. One with more is closed.
const MOST_TAKEN: u64 = 1 << 20;

pub(super) struct Nobody {
    alarm: Rc<Alarm>,
    body: Vec<u8>,
    /// How much of it was sent.
    at: usize,
    taken: u64,
}

impl Nobody {
    pub(super) fn new(alarm: Rc<Alarm>, body: Vec<u8>) -> Nobody {
        Nobody { alarm, body, at: 0, taken: 0 }
    }
}

impl Incoming for Nobody {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        Poll::Ready(Ok(if self.is_ended() { Chunk::End } else { Chunk::Bytes }))
    }

    fn chunk(&self) -> &[u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.body.len());
    }

    fn trailers(&self) -> Option<Fields> {
        None
    }

    fn is_ended(&self) -> bool {
        self.at == self.body.len()
    }

    fn received(&self) -> u64 {
        self.at as u64
    }

    fn excuse(&mut self, _: u64) {}
}

impl Outgoing for Nobody {
    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        self.taken += bytes.len() as u64;
        Poll::Ready(if self.taken > MOST_TAKEN { Err(Kind::ClientClosed) } else { Ok(bytes.len()) })
    }

    fn sent(&self) -> u64 {
        self.taken
    }

    fn finish(&mut self, _: Option<&Fields>) {}

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Tunnel for Nobody {
    fn become_tunnel(&mut self, _: Duration) {}
}

impl Downstream for Nobody {
    fn accept_body(&mut self, _: &RequestHead, _: Option<u64>, _: LeastRate) {}

    fn limit_body(&mut self, _: u64) {}

    fn retract(&mut self) -> bool {
        true
    }

    fn take_back(&mut self, _: u64) -> bool {
        true
    }

    fn written(&self) -> u64 {
        0
    }

    fn alarm(&self) -> &Rc<Alarm> {
        &self.alarm
    }

    fn respond(&mut self, _: &ResponseHead, _: bool) {}

    fn interim(&mut self, _: &ResponseHead) {}

    fn close_after(&mut self) {}

    fn abort(&mut self) {}

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Woke};

    #[test]
    fn an_answer_is_taken_up_to_a_limit() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut nobody = Nobody::new(Rc::new(Clock::new(Woke::default()).alarm()), b"ab".to_vec());
        let piece = vec![0; 1 << 19];
        assert_eq!(nobody.poll_send(&mut cx, &piece), Poll::Ready(Ok(1 << 19)));
        assert_eq!(nobody.poll_send(&mut cx, &piece), Poll::Ready(Ok(1 << 19)));
        assert_eq!(nobody.poll_send(&mut cx, b"x"), Poll::Ready(Err(Kind::ClientClosed)));
    }

    #[test]
    fn its_body_is_sent_once() {
        let mut nobody = Nobody::new(Rc::new(Clock::new(Woke::default()).alarm()), b"ab".to_vec());
        assert_eq!((nobody.chunk(), nobody.is_ended()), (&b"ab"[..], false));
        nobody.consume(1);
        assert_eq!(nobody.chunk(), b"b");
        nobody.consume(9);
        assert!(nobody.is_ended() && nobody.chunk().is_empty());
    }
}
