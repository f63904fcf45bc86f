//! Heads of the client: those that begin a stream, and those behind a body.

use super::super::flow::{Inward, Outward};
use super::super::frame::{self, FrameHead};
use super::super::head::Head;
use super::super::stream::{Key, Stream};
use super::super::{Fault, Reason};
use super::{Block, Leaving, Opened, SLACK, SPARE, Server, is_on};

impl Server {
    pub(super) fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream.is_multiple_of(2) {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        let broken = Fault::of(Reason::PROTOCOL_ERROR);
        let (padding, mut block) = match payload.split_first() {
            Some((padding, rest)) if head.has(frame::PADDED) => (usize::from(*padding), rest),
            _ => (0, payload),
        };
        block = block.get(..block.len().checked_sub(padding).ok_or(broken)?).unwrap_or_default();
        let mut on_itself = false;
        if head.has(frame::PRIORITIZED) {
            let (on, rest) = block.split_first_chunk::<4>().ok_or(Fault::of(Reason::FRAME_SIZE_ERROR))?;
            on_itself = is_on(*on, head.stream);
            block = rest.get(1..).ok_or(Fault::of(Reason::FRAME_SIZE_ERROR))?;
        }
        if on_itself {
            return Err(broken);
        }
        if head.has(frame::END_HEADERS) {
            return self.head(head.stream, head.flags, block);
        }
        self.block = Some(Block { stream: head.stream, flags: head.flags, bytes: block.to_vec() });
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.block.take() else { return Err(Fault::of(Reason::PROTOCOL_ERROR)) };
        block.bytes.extend_from_slice(payload);
        if block.bytes.len() > self.limits.head as usize + SLACK {
            return Err(Fault::flood());
        }
        if head.has(frame::END_HEADERS) {
            return self.head(block.stream, block.flags, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole head. It is unpacked in any case: those that follow refer to what is in it.
    pub(super) fn head(&mut self, number: u32, flags: u8, block: &[u8]) -> Result<(), Fault> {
        let mut head = self.spare.pop().unwrap_or_default();
        head.ends = flags & frame::END_STREAM != 0;
        let (most, mut named) = (self.limits.head as usize, true);
        let unpacked = self.decoder.decode(block, |name, value| named &= head.add(name, value, most));
        if unpacked.is_err() {
            return Err(Fault::of(Reason::COMPRESSION_ERROR));
        }
        if !named {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        if number > self.last {
            return self.open(number, head);
        }
        let outcome = match self.table.find(number) {
            Some(key) => self.trailers(key, &head),
            None if self.is_forgiven(number) => Ok(()),
            None => Err(Fault::of(Reason::STREAM_CLOSED)),
        };
        self.give_back(head);
        outcome
    }

    pub(super) fn open(&mut self, number: u32, head: Head) -> Result<(), Fault> {
        self.last = number;
        if matches!(self.leaving, Leaving::Told(last) if number > last) {
            // The client knows that it was not served.
            self.give_back(head);
            return Ok(());
        }
        // Those that were reset and whose exchange has not noticed are part of it (safety.md 88).
        if self.open >= self.limits.streams || self.table.len() >= 2 * self.limits.streams as usize {
            self.give_back(head);
            self.forgive(number);
            self.refuse(number, Reason::REFUSED_STREAM);
            return Ok(());
        }
        let (inward, outward) = (Inward::new(self.limits.stream_window), Outward::new(self.initial_window));
        let mut stream = Stream::new(number, !head.ends, inward, outward);
        stream.expected = head.length();
        self.open += 1;
        let key = self.table.insert(stream);
        self.opened.push_back(Opened { key, head });
        Ok(())
    }

    pub(super) fn trailers(&mut self, key: Key, head: &Head) -> Result<(), Fault> {
        let Some(stream) = self.table.get(key) else { return Ok(()) };
        if stream.cut.is_some() {
            return Ok(());
        }
        if !stream.receiving {
            return Err(Fault::of(Reason::STREAM_CLOSED));
        }
        match head.as_trailers() {
            Some(trailers) if head.ends => {
                stream.trailers = Some(trailers).filter(|trailers| !trailers.is_empty());
                self.receive_end(key);
            }
            _ => self.fail(key, Reason::PROTOCOL_ERROR),
        }
        Ok(())
    }

    /// A head is used no more.
    pub fn give_back(&mut self, mut head: Head) {
        if self.spare.len() < SPARE {
            head.clear();
            self.spare.push(head);
        }
    }
}
