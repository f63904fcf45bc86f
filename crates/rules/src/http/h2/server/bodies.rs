//! Bodies of the client, and what it may still send of them.

use super::super::frame::{self, FrameHead};
use super::super::stream::Key;
use super::super::{Fault, Reason};
use super::{Body, Server};

impl Server {
    /// The begin of a body's frame: all of it is taken from the windows at once (RFC 9113 §6.1, §6.9).
    pub(super) fn data(&mut self, head: FrameHead, padding: Option<u8>) -> Result<(), Fault> {
        let (prefix, padding) = (head.prefix(), usize::from(padding.unwrap_or_default()));
        let left = (head.length - prefix).checked_sub(padding).ok_or(Fault::of(Reason::PROTOCOL_ERROR))?;
        let found = self.begun(head.stream)?;
        if !self.inward.take(head.length) {
            return Err(Fault::of(Reason::FLOW_CONTROL_ERROR));
        }
        let key = match found {
            Some(key) => self.admit_data(key, head.length, left)?,
            None if self.is_forgiven(head.stream) => None,
            None => return Err(Fault::of(Reason::STREAM_CLOSED)),
        };
        // What is thrown away is used up.
        self.credit(prefix + padding + if key.is_none() { left } else { 0 });
        if let Some(key) = key
            && prefix + padding > 0
        {
            self.credit_stream(key, prefix + padding);
        }
        self.body = Some(Body { key, left, padding, ends: head.has(frame::END_STREAM) });
        if left + padding == 0 {
            self.end_data();
        }
        Ok(())
    }

    /// Whose the body is, if it is still wanted.
    pub(super) fn admit_data(&mut self, key: Key, length: usize, body: usize) -> Result<Option<Key>, Fault> {
        let Some(stream) = self.table.get(key).filter(|stream| stream.cut.is_none()) else { return Ok(None) };
        if !stream.receiving {
            return Err(Fault::of(Reason::STREAM_CLOSED));
        }
        if !stream.inward.take(length) {
            self.fail(key, Reason::FLOW_CONTROL_ERROR);
            return Ok(None);
        }
        let fits = stream.expected.is_none_or(|expected| expected >= body as u64);
        stream.expected = stream.expected.map(|expected| expected.saturating_sub(body as u64));
        if !fits {
            self.fail(key, Reason::PROTOCOL_ERROR);
            return Ok(None);
        }
        Ok(Some(key))
    }

    pub(super) fn take_body<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let Some(body) = &mut self.body else { return Ok(bytes) };
        let (part, rest) = bytes.split_at_checked(body.left.min(bytes.len())).unwrap_or_default();
        body.left -= part.len();
        let (_, rest) = rest.split_at_checked(body.padding.min(rest.len())).unwrap_or_default();
        body.padding -= bytes.len() - part.len() - rest.len();
        let (key, over) = (body.key, body.left + body.padding == 0);
        match key.and_then(|key| self.table.get(key)) {
            Some(stream) if stream.cut.is_none() => {
                stream.came.extend_from_slice(part);
                stream.held += part.len();
                stream.wake_reader();
                self.held += part.len();
            }
            // It was given up within this frame.
            _ if key.is_some() => self.credit(part.len()),
            _ => {}
        }
        if over {
            self.end_data();
        }
        Ok(rest)
    }

    /// The frame is over, and its body with it, if it says so.
    pub(super) fn end_data(&mut self) {
        if let Some(Body { key: Some(key), ends: true, .. }) = self.body.take() {
            self.receive_end(key);
        }
    }

    /// The client has sent all.
    pub(super) fn receive_end(&mut self, key: Key) {
        let Some(stream) = self.table.get(key).filter(|stream| stream.receiving) else { return };
        if stream.expected.is_some_and(|left| left > 0) {
            return self.fail(key, Reason::PROTOCOL_ERROR);
        }
        stream.receiving = false;
        stream.wake_reader();
        let closed = !stream.sending;
        self.open -= u32::from(closed);
    }

    /// So much of what came on the connection is used up.
    pub(super) fn credit(&mut self, bytes: usize) {
        if let Some(more) = self.inward.give_back(bytes)
            && !self.ended
        {
            frame::write_number(&mut self.out, frame::WINDOW_UPDATE, 0, more);
            self.wake_task();
        }
    }

    pub(super) fn credit_stream(&mut self, key: Key, bytes: usize) {
        let Some(stream) = self.table.get(key).filter(|stream| stream.receiving) else { return };
        if let Some(more) = stream.inward.give_back(bytes) {
            frame::write_number(&mut self.out, frame::WINDOW_UPDATE, key.number, more);
            self.wake_task();
        }
    }
}
