//! Frames of the client: put together where they come in pieces, and judged.

use super::super::flow::LARGEST as LARGEST_WINDOW;
use super::super::frame::{self, FrameHead, HEAD};
use super::super::stream::{Cut, Key};
use super::super::{Fault, Reason};
use super::{FAREWELL, Leaving, PREFACE, Server, Stage, is_on};
use crate::http::frames::Frame;

impl Server {
    pub(super) fn take_preface<'a>(&mut self, seen: usize, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let wanted = PREFACE.get(seen..).unwrap_or_default();
        let count = wanted.len().min(bytes.len());
        if wanted.get(..count) != bytes.get(..count) {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        self.stage = if count == wanted.len() { Stage::Settings } else { Stage::Preface(seen + count) };
        Ok(bytes.get(count..).unwrap_or_default())
    }

    /// Take a frame from where it came, if it is there whole.
    #[inline]
    pub(super) fn take_frame<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return self.collect(bytes) };
        let head = FrameHead::read(head);
        self.admit(head)?;
        let wanted = if head.kind == frame::DATA { head.prefix() } else { head.length };
        let Some((payload, rest)) = rest.split_at_checked(wanted) else { return self.collect(bytes) };
        self.frame(head, payload)?;
        Ok(rest)
    }

    /// Put together what came in pieces.
    pub(super) fn collect<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        bytes = self.fill(HEAD, bytes);
        let Some(head) = self.partial.first_chunk::<HEAD>().map(FrameHead::read) else { return Ok(bytes) };
        self.admit(head)?;
        let whole = HEAD + if head.kind == frame::DATA { head.prefix() } else { head.length };
        bytes = self.fill(whole, bytes);
        if self.partial.len() < whole {
            return Ok(bytes);
        }
        let partial = std::mem::take(&mut self.partial);
        self.frame(head, partial.get(HEAD..).unwrap_or_default())?;
        Ok(bytes)
    }

    pub(super) fn fill<'a>(&mut self, wanted: usize, bytes: &'a [u8]) -> &'a [u8] {
        let missing = wanted.saturating_sub(self.partial.len()).min(bytes.len());
        let (part, rest) = bytes.split_at_checked(missing).unwrap_or_default();
        self.partial.extend_from_slice(part);
        rest
    }

    /// Whether a frame may have this head, whatever is in it.
    pub(super) fn admit(&self, head: FrameHead) -> Result<(), Fault> {
        if head.length > frame::LARGEST || head.length < head.prefix() {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        let in_order = match &self.block {
            // Nothing may come between the parts of a head (RFC 9113 §6.10).
            Some(block) => head.kind == frame::CONTINUATION && head.stream == block.stream,
            None => self.stage == Stage::Open || head.kind == frame::SETTINGS,
        };
        if in_order { Ok(()) } else { Err(Fault::of(Reason::PROTOCOL_ERROR)) }
    }

    /// One frame; of a body only what stands before it.
    pub(super) fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let counted = Frame::new(head.kind, head.flags, head.length as u32);
        self.conduct.received(counted, self.now).map_err(|_| Fault::flood())?;
        match head.kind {
            frame::DATA => self.data(head, payload.first().copied()),
            frame::HEADERS => self.headers(head, payload),
            frame::PRIORITY => self.priority(head, payload),
            frame::RST_STREAM => self.reset_by_client(head, payload),
            frame::SETTINGS => self.settings(head, payload),
            frame::PING => self.ping(head, payload),
            frame::GOAWAY => self.goaway(head, payload),
            frame::WINDOW_UPDATE => self.window_update(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            // No client pushes (RFC 9113 §8.4).
            frame::PUSH_PROMISE => Err(Fault::of(Reason::PROTOCOL_ERROR)),
            // RFC 9113 §5.5: extensions that we do not know.
            _ => Ok(()),
        }
    }

    pub(super) fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() || (head.has(frame::ACK) && !payload.is_empty()) {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        if head.has(frame::ACK) {
            // What it takes has to be said first.
            return if self.stage == Stage::Open { Ok(()) } else { Err(Fault::of(Reason::PROTOCOL_ERROR)) };
        }
        for &[n0, n1, v0, v1, v2, v3] in settings {
            self.set(u16::from_be_bytes([n0, n1]), u32::from_be_bytes([v0, v1, v2, v3]))?;
        }
        self.stage = Stage::Open;
        frame::write_head(&mut self.out, 0, frame::SETTINGS, frame::ACK, 0);
        Ok(())
    }

    pub(super) fn set(&mut self, name: u16, value: u32) -> Result<(), Fault> {
        match name {
            frame::HEADER_TABLE_SIZE => self.encoder.limit(value as usize),
            frame::ENABLE_PUSH if value > 1 => return Err(Fault::of(Reason::PROTOCOL_ERROR)),
            frame::INITIAL_WINDOW_SIZE => return self.set_window(value),
            frame::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                return Err(Fault::of(Reason::PROTOCOL_ERROR));
            }
            // Larger ones gain nothing, and keep others waiting.
            frame::MAX_FRAME_SIZE => self.largest_frame = (value as usize).min(frame::LARGEST),
            _ => {}
        }
        Ok(())
    }

    /// It changes the windows of all streams that there are (RFC 9113 §6.9.2).
    pub(super) fn set_window(&mut self, size: u32) -> Result<(), Fault> {
        let by = i64::from(size) - i64::from(self.initial_window);
        if i64::from(size) > LARGEST_WINDOW {
            return Err(Fault::of(Reason::FLOW_CONTROL_ERROR));
        }
        self.initial_window = size;
        for stream in self.table.each() {
            if !stream.outward.change(by) {
                return Err(Fault::of(Reason::FLOW_CONTROL_ERROR));
            }
            stream.wake_writer();
        }
        Ok(())
    }

    pub(super) fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        if payload.len() != FAREWELL.len() {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        if !head.has(frame::ACK) {
            frame::write_head(&mut self.out, payload.len(), frame::PING, frame::ACK, 0);
            self.out.extend_from_slice(payload);
        } else if payload == FAREWELL && self.leaving == Leaving::Warned {
            self.leaving = Leaving::Told(self.last);
            frame::write_goaway(&mut self.out, self.last, Reason::NO_ERROR);
        }
        Ok(())
    }

    pub(super) fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        if payload.len() < 8 {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        self.left = true;
        Ok(())
    }

    pub(super) fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let more = frame::number(payload).ok_or(Fault::of(Reason::FRAME_SIZE_ERROR))? & LARGEST_WINDOW as u32;
        if head.stream == 0 {
            if more == 0 {
                return Err(Fault::of(Reason::PROTOCOL_ERROR));
            }
            if !self.outward.change(i64::from(more)) {
                return Err(Fault::of(Reason::FLOW_CONTROL_ERROR));
            }
            self.wake_queue();
            return Ok(());
        }
        let Some(key) = self.begun(head.stream)? else { return Ok(()) };
        let Some(stream) = self.table.get(key) else { return Ok(()) };
        if more == 0 {
            self.fail(key, Reason::PROTOCOL_ERROR);
        } else if stream.outward.change(i64::from(more)) {
            stream.wake_writer();
        } else {
            self.fail(key, Reason::FLOW_CONTROL_ERROR);
        }
        Ok(())
    }

    pub(super) fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        let Some((on, [_])) = payload.split_first_chunk::<4>() else {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        };
        // Nothing is done with it, but what is impossible is refused (RFC 7540 §5.3.1).
        if is_on(*on, head.stream)
            && let Some(key) = self.begun(head.stream)?
        {
            self.fail(key, Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    pub(super) fn reset_by_client(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if frame::number(payload).is_none() {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        if let Some(key) = self.begun(head.stream)? {
            self.close(key, Cut::Broken);
        }
        Ok(())
    }

    /// The stream that a frame is of, if it is still there.
    pub(super) fn begun(&self, number: u32) -> Result<Option<Key>, Fault> {
        // Streams of clients are odd, and nothing can be said of one that did not begin (RFC 9113 §5.1).
        if number.is_multiple_of(2) || number > self.last {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        Ok(self.table.find(number))
    }
}
