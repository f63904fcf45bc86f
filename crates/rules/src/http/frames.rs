//! What a peer's frames cost beyond the messages they carry (RFC 9113 §10.5; safety.md 88-90, 94).
//!
//! The codec judges each frame by itself; here they are counted. Nothing of a frame is looked at but its head.

use crate::error::Kind;
use std::time::Duration;

/// The connection preface of a client (RFC 9113 §3.4).
pub const PREFACE_LENGTH: usize = 24;
/// What is counted is counted anew after so long.
const WINDOW: Duration = Duration::from_secs(30);
/// Streams that a client resets, or makes us reset, in that time. An endpoint resets what we asked for: it cannot do so more often.
pub const MOST_RESETS: u32 = 200;
/// Frames that ask for nothing and carry nothing, beyond one for each request and each piece of a body, either way: libraries of gRPC
/// measure the way with a `PING` for what they have read.
const MOST_IDLE: i32 = 1000;
/// Frames that go on with one head, and bytes in them, beyond what the head may have.
const MOST_CONTINUATIONS: u32 = 16;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_HEAD: usize = 9;

/// The head of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    kind: u8,
    flags: u8,
    length: u32,
}

impl Frame {
    /// One that somebody else has read.
    pub(super) fn new(kind: u8, flags: u8, length: u32) -> Frame {
        Frame { kind, flags, length }
    }

    /// Whether it is part of a message: a head, or a body that is not empty.
    pub fn is_message(self) -> bool {
        self.kind == HEADERS || (self.kind == DATA && self.length > 0)
    }

    /// Whether the peer says with it what it takes.
    pub fn is_settings(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK == 0
    }
}

/// Finds frames in bytes as they come, in one direction.
#[derive(Clone, Copy, Debug)]
pub struct FrameScan {
    head: [u8; FRAME_HEAD],
    have: usize,
    /// Bytes that belong to what was seen already.
    skip: usize,
}

impl FrameScan {
    /// Begin behind `skip` bytes that are no frames.
    pub fn new(skip: usize) -> FrameScan {
        FrameScan { head: [0; FRAME_HEAD], have: 0, skip }
    }

    /// The next frame in `bytes`, which are cut down to what is behind its head; `None`: they are used up.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = bytes.get(skipped..).unwrap_or_default();
        // Nearly all come whole.
        if self.have == 0
            && let Some((whole, rest)) = bytes.split_first_chunk::<FRAME_HEAD>()
        {
            self.head = *whole;
            (self.have, *bytes) = (FRAME_HEAD, rest);
        }
        loop {
            if self.have >= FRAME_HEAD {
                let [l0, l1, l2, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, l0, l1, l2]);
                (self.skip, self.have) = (length as usize, 0);
                return Some(Frame { kind, flags, length });
            }
            let (&byte, rest) = bytes.split_first()?;
            if let Some(to) = self.head.get_mut(self.have) {
                *to = byte;
            }
            self.have += 1;
            *bytes = rest;
        }
    }
}

/// What one peer has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conduct {
    /// It answers, and does not ask.
    endpoint: bool,
    window: Duration,
    resets: u32,
    idle: i32,
    continuations: u32,
    in_head: bool,
}

impl Conduct {
    /// That of an endpoint.
    pub fn of_endpoint() -> Conduct {
        Conduct { endpoint: true, ..Conduct::default() }
    }

    /// The peer sent this frame. `now` is whatever the caller counts from.
    ///
    /// # Errors
    /// `FrameFlood`.
    pub fn received(&mut self, frame: Frame, now: Duration) -> Result<(), Kind> {
        self.turn(now);
        match frame.kind {
            HEADERS => {
                self.continuations = 0;
                self.in_head = frame.flags & END_HEADERS == 0;
                // Those of a client ask. One of an endpoint answers what was asked, unless it comes again and again (1xx).
                self.charge(if self.endpoint { 1 } else { -1 });
            }
            CONTINUATION => {
                self.continuations += 1;
                self.in_head = frame.flags & END_HEADERS == 0;
            }
            RST_STREAM if !self.endpoint => self.resets += 1,
            DATA if frame.length > 0 => self.charge(-1),
            DATA if frame.flags & END_STREAM != 0 => {}
            WINDOW_UPDATE => {}
            _ => self.charge(1),
        }
        self.judge()
    }

    /// We sent this frame.
    pub fn sent(&mut self, frame: Frame) {
        match frame.kind {
            // An answer may have a head, trailers and a reset.
            HEADERS if self.endpoint => self.charge(-3),
            DATA if frame.length > 0 => self.charge(-1),
            _ => {}
        }
    }

    /// We reset a stream for a fault of the client's.
    ///
    /// # Errors
    /// `FrameFlood`: the client makes us reset streams (MadeYouReset).
    pub fn refused(&mut self, now: Duration) -> Result<(), Kind> {
        self.turn(now);
        self.resets += 1;
        self.judge()
    }

    /// Whether a head has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.in_head
    }

    fn charge(&mut self, count: i32) {
        // What an endpoint was asked for it may take its time to answer; a client's credit is not kept.
        let least = if self.endpoint { -MOST_IDLE } else { 0 };
        self.idle = self.idle.saturating_add(count).max(least);
    }

    fn turn(&mut self, now: Duration) {
        if now.saturating_sub(self.window) >= WINDOW {
            let Conduct { endpoint, continuations, in_head, .. } = *self;
            *self = Conduct { endpoint, window: now, continuations, in_head, ..Conduct::default() };
        }
    }

    fn judge(&self) -> Result<(), Kind> {
        let within = self.resets <= MOST_RESETS && self.idle <= MOST_IDLE && self.continuations <= MOST_CONTINUATIONS;
        if within { Ok(()) } else { Err(Kind::FrameFlood) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        bytes.extend_from_slice(payload);
        bytes
    }

    fn scan(pieces: &[&[u8]], skip: usize) -> Vec<Frame> {
        let (mut scan, mut found) = (FrameScan::new(skip), Vec::new());
        for piece in pieces {
            let mut bytes = *piece;
            while let Some(frame) = scan.next(&mut bytes) {
                found.push(frame);
            }
            assert!(bytes.is_empty());
        }
        found
    }

    fn seen(kind: u8, flags: u8) -> Frame {
        Frame { kind, flags, length: 0 }
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_frames(lengths in prop::collection::vec((0u8..10, 0usize..40), 0..8), cut in 0usize..400) {
            let mut bytes = vec![b'P'; PREFACE_LENGTH];
            for (kind, length) in &lengths {
                bytes.extend(frame(*kind, 4, &vec![7; *length]));
            }
            let whole = scan(&[&bytes], PREFACE_LENGTH);
            prop_assert_eq!(whole.len(), lengths.len());
            let cut = cut.min(bytes.len());
            prop_assert_eq!(&scan(&[&bytes[..cut], &bytes[cut..]], PREFACE_LENGTH), &whole);
            prop_assert_eq!(&scan(&bytes.chunks(1).collect::<Vec<_>>(), PREFACE_LENGTH), &whole);
        }
    }

    #[test]
    fn resets_of_either_side_share_a_budget_that_time_renews() {
        let (mut conduct, now) = (Conduct::default(), Duration::from_secs(100));
        for _ in 0..MOST_RESETS / 2 {
            assert_eq!(conduct.received(seen(RST_STREAM, 0), now), Ok(()));
            assert_eq!(conduct.refused(now), Ok(()));
        }
        let mut later = conduct;
        assert_eq!(conduct.refused(now), Err(Kind::FrameFlood));
        assert_eq!(later.received(seen(RST_STREAM, 0), now + WINDOW), Ok(()));
    }

    #[test]
    fn frames_that_ask_for_nothing_are_counted() {
        for (kind, flags) in [(DATA, 0), (2, 0), (4, 0), (6, 0), (99, 0)] {
            let mut conduct = Conduct::default();
            for _ in 0..MOST_IDLE {
                assert_eq!(conduct.received(seen(kind, flags), WINDOW), Ok(()));
            }
            let mut fair = conduct;
            assert_eq!(conduct.received(seen(kind, flags), WINDOW), Err(Kind::FrameFlood), "{kind}");
            // One for each request is what some clients send.
            assert_eq!(fair.received(seen(HEADERS, END_HEADERS), WINDOW), Ok(()));
            assert_eq!(fair.received(seen(kind, flags), WINDOW), Ok(()));
        }
        let mut conduct = Conduct::default();
        for _ in 0..2 * MOST_IDLE {
            assert_eq!(conduct.received(seen(DATA, END_STREAM), WINDOW), Ok(()));
            assert_eq!(conduct.received(seen(WINDOW_UPDATE, 0), WINDOW), Ok(()));
        }
    }

    #[test]
    fn bodies_give_credit_in_both_directions() {
        let body = Frame { kind: DATA, flags: 0, length: 1 };
        let mut conduct = Conduct::default();
        for _ in 0..2 * MOST_IDLE {
            assert_eq!(conduct.received(seen(PING, 0), WINDOW), Ok(()));
            assert_eq!(conduct.received(body, WINDOW), Ok(()));
            assert_eq!(conduct.received(seen(PING, 0), WINDOW), Ok(()));
            conduct.sent(body);
        }
        // None is kept for later.
        assert!((0..=MOST_IDLE).any(|_| conduct.received(seen(PING, 0), WINDOW).is_err()));
    }

    #[test]
    fn an_endpoint_may_say_what_it_was_asked_for() {
        let (mut conduct, head, reset) = (Conduct::of_endpoint(), seen(HEADERS, END_HEADERS), seen(RST_STREAM, 0));
        for _ in 0..2 * MOST_IDLE {
            conduct.sent(head);
            for frame in [head, head, reset] {
                assert_eq!(conduct.received(frame, WINDOW), Ok(()));
            }
        }
        for frame in [head, reset, seen(PING, 0)] {
            let mut flooding = conduct;
            assert!((0..=MOST_IDLE).any(|_| flooding.received(frame, WINDOW).is_err()), "{frame:?}");
        }
    }

    #[test]
    fn a_head_comes_in_few_pieces() {
        let mut conduct = Conduct::default();
        assert_eq!(conduct.received(seen(HEADERS, 0), WINDOW), Ok(()));
        for _ in 0..MOST_CONTINUATIONS {
            assert!(conduct.is_in_head());
            assert_eq!(conduct.received(seen(CONTINUATION, 0), WINDOW), Ok(()));
        }
        let mut ended = conduct;
        assert_eq!(conduct.received(seen(CONTINUATION, 0), WINDOW), Err(Kind::FrameFlood));
        assert_eq!(ended.received(seen(HEADERS, END_HEADERS), WINDOW), Ok(()));
        assert!(!ended.is_in_head());
    }
}
