//! What was taken of a request's body, kept so that the request can be sent again.

use crate::codec::{Chunk, Incoming};
use penstock_rules::error::Kind;
use penstock_rules::http::Fields;
use std::task::{Context, Poll, ready};

/// The beginning of a body.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    kept: Vec<u8>,
    /// How far the attempt that runs has come in `kept`.
    at: usize,
    limit: usize,
    /// Some of the body was taken and not kept.
    lost: bool,
}

/// A body that begins with what was kept of it.
pub(crate) struct Replayed<'a, S> {
    replay: &'a mut Replay,
    source: &'a mut S,
}

impl Replay {
    /// Keep up to `limit` bytes of what comes from now on, those included that are kept already.
    pub(crate) fn keep_up_to(&mut self, limit: usize) {
        self.limit = self.limit.max(limit);
    }

    /// Read a body before it is known where it goes; ready when it is whole (true) or longer than `most`. The first attempt begins
    /// with what was read.
    pub(crate) fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut impl Incoming,
        most: usize,
    ) -> Poll<Result<bool, Kind>> {
        loop {
            if self.kept.len() > most {
                return Poll::Ready(Ok(false));
            }
            match ready!(source.poll_chunk(cx))? {
                Chunk::End => return Poll::Ready(Ok(true)),
                Chunk::Bytes => {
                    let chunk = source.chunk();
                    self.kept.extend_from_slice(chunk);
                    let count = chunk.len();
                    source.consume(count);
                }
            }
        }
    }

    /// What is kept of the body.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Whether the body can still be sent from its beginning.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lost
    }

    /// A next attempt begins.
    pub(crate) fn rewind(&mut self) {
        self.at = 0;
    }

    /// The body of `source`, from where this attempt is.
    pub(crate) fn of<'a, S: Incoming>(&'a mut self, source: &'a mut S) -> Replayed<'a, S> {
        Replayed { replay: self, source }
    }

    fn rest(&self) -> &[u8] {
        self.kept.get(self.at..).unwrap_or_default()
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.lost || self.kept.len() + bytes.len() > self.limit {
            *self = Replay { lost: true, ..Replay::default() };
        } else {
            self.kept.extend_from_slice(bytes);
            self.at = self.kept.len();
        }
    }
}

impl<S: Incoming> Incoming for Replayed<'_, S> {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        if self.replay.rest().is_empty() { self.source.poll_chunk(cx) } else { Poll::Ready(Ok(Chunk::Bytes)) }
    }

    fn chunk(&self) -> &[u8] {
        let rest = self.replay.rest();
        if rest.is_empty() { self.source.chunk() } else { rest }
    }

    fn consume(&mut self, count: usize) {
        if !self.replay.rest().is_empty() {
            self.replay.at += count;
            return;
        }
        self.replay.keep(self.source.chunk().get(..count).unwrap_or_default());
        self.source.consume(count);
    }

    fn trailers(&self) -> Option<Fields> {
        self.source.trailers()
    }

    fn is_ended(&self) -> bool {
        self.replay.rest().is_empty() && self.source.is_ended()
    }

    fn received(&self) -> u64 {
        self.source.received()
    }

    fn excuse(&mut self, ticks: u64) {
        self.source.excuse(ticks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Body {
        bytes: Vec<u8>,
        at: usize,
    }

    impl Incoming for Body {
        fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
            Poll::Ready(Ok(if self.at < self.bytes.len() { Chunk::Bytes } else { Chunk::End }))
        }
        fn chunk(&self) -> &[u8] {
            &self.bytes[self.at..]
        }
        fn consume(&mut self, count: usize) {
            self.at += count;
        }
        fn trailers(&self) -> Option<Fields> {
            None
        }
        fn is_ended(&self) -> bool {
            self.at == self.bytes.len()
        }
        fn received(&self) -> u64 {
            self.at as u64
        }
        fn excuse(&mut self, _: u64) {}
    }

    fn take(body: &mut impl Incoming, most: usize) -> Vec<u8> {
        let taken = body.chunk()[..most.min(body.chunk().len())].to_vec();
        body.consume(taken.len());
        taken
    }

    #[test]
    fn each_attempt_sees_the_body_from_its_beginning() {
        let (mut replay, mut source) =
            (Replay { limit: 6, ..Replay::default() }, Body { bytes: b"abcdef".to_vec(), at: 0 });
        assert_eq!(take(&mut replay.of(&mut source), 2), b"ab");
        replay.rewind();
        assert_eq!(take(&mut replay.of(&mut source), 1), b"a");
        assert_eq!(take(&mut replay.of(&mut source), 4), b"b");
        assert_eq!(take(&mut replay.of(&mut source), 9), b"cdef");
        assert!(replay.of(&mut source).is_ended() && replay.is_whole());
        replay.rewind();
        assert!(!replay.of(&mut source).is_ended());
        assert_eq!(take(&mut replay.of(&mut source), 9), b"abcdef");
        assert!(replay.of(&mut source).is_ended());
    }

    #[test]
    fn what_is_longer_than_the_limit_is_not_kept_at_all() {
        let (mut replay, mut source) =
            (Replay { limit: 3, ..Replay::default() }, Body { bytes: b"abcdef".to_vec(), at: 0 });
        assert_eq!(take(&mut replay.of(&mut source), 3), b"abc");
        assert!(replay.is_whole());
        assert_eq!(take(&mut replay.of(&mut source), 1), b"d");
        assert!(!replay.is_whole() && replay.kept.is_empty());
        assert_eq!(take(&mut replay.of(&mut source), 9), b"ef");
    }

    #[test]
    fn what_was_gathered_is_sent_first() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut replay, mut source) = (Replay::default(), Body { bytes: b"abcdef".to_vec(), at: 0 });
        assert_eq!(replay.poll_gather(&mut cx, &mut source, 6), Poll::Ready(Ok(true)));
        assert_eq!(take(&mut replay.of(&mut source), 2), b"ab");
        replay.rewind();
        assert_eq!(take(&mut replay.of(&mut source), 9), b"abcdef");
        assert!(replay.of(&mut source).is_ended() && replay.is_whole());
        let (mut replay, mut source) = (Replay::default(), Body { bytes: vec![b'x'; 10], at: 0 });
        assert_eq!(replay.poll_gather(&mut cx, &mut source, 6), Poll::Ready(Ok(false)));
    }
}
