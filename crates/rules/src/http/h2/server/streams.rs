//! What is done with one stream by whoever looks at it: read, answer, let go.

use super::super::Reason;
use super::super::frame::{self, FrameHead, HEAD};
use super::super::stream::{Cut, Key};
use super::{READY, Server};
use crate::http::Fields;
use crate::http::frames::Frame;
use crate::http::hpack::Encoder;
use std::task::{Context, Poll};

impl Server {
    /// Nobody looks at the stream any more.
    pub fn let_go(&mut self, key: Key) {
        let Some(stream) = self.table.remove(key) else { return };
        self.held -= stream.held;
        if stream.is_open() {
            self.open -= 1;
            if stream.sending {
                self.refuse(key.number, Reason::CANCEL);
            } else if stream.expected != Some(0) {
                // RFC 9113 §8.1: the answer is whole, and the rest of the request is not needed. Where only its end is missing the
                // client is about to say it, and some take a reset for a failure.
                self.refuse(key.number, Reason::NO_ERROR);
            }
            self.forgive(key.number);
        } else if stream.cut.is_some() {
            self.forgive(key.number);
        }
        self.credit(stream.held);
        if self.is_over() {
            self.wake_task();
        }
    }

    /// End a stream now, whatever is still to come of it.
    pub fn reset(&mut self, key: Key, reason: Reason) {
        if self.close(key, Cut::Broken) {
            self.refuse(key.number, reason);
        }
    }

    /// Why the stream is cut, if it is.
    pub fn cut(&mut self, key: Key) -> Option<Cut> {
        self.table.get(key).map_or(Some(Cut::Broken), |stream| stream.cut)
    }

    /// Ready when the stream is cut.
    pub fn poll_cut(&mut self, key: Key, cx: &Context<'_>) -> Poll<Cut> {
        let Some(stream) = self.table.get(key) else { return Poll::Ready(Cut::Broken) };
        match stream.cut {
            Some(cut) => Poll::Ready(cut),
            None => {
                stream.await_room(cx);
                Poll::Pending
            }
        }
    }

    /// Take what came of the body; `None`: that was all. It is to be told when it is used up: [`Self::used_up`].
    ///
    /// # Errors
    /// It ends before its end.
    pub fn poll_data(&mut self, key: Key, cx: &Context<'_>) -> Poll<Result<Option<Vec<u8>>, Cut>> {
        let Some(stream) = self.table.get(key) else { return Poll::Ready(Err(Cut::Broken)) };
        if !stream.came.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut stream.came))));
        }
        match stream.cut {
            Some(cut) => Poll::Ready(Err(cut)),
            None if !stream.receiving => Poll::Ready(Ok(None)),
            None => {
                stream.await_input(cx);
                Poll::Pending
            }
        }
    }

    /// What came behind the body, once it ended.
    pub fn take_trailers(&mut self, key: Key) -> Option<Fields> {
        self.table.get(key)?.trailers.take()
    }

    /// So much of what was taken is used up: the client may send as much again.
    pub fn used_up(&mut self, key: Key, bytes: usize) {
        let Some(stream) = self.table.get(key) else { return };
        let bytes = bytes.min(stream.held);
        stream.held -= bytes;
        self.held -= bytes;
        self.credit(bytes);
        self.credit_stream(key, bytes);
    }

    /// Send a head. Nothing is sent on a stream that is cut.
    pub fn send_head<'f>(
        &mut self,
        key: Key,
        status: u16,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        ends: bool,
    ) -> Result<(), Cut> {
        self.sendable(key)?;
        self.write_block(key.number, ends, |encoder, out| {
            encoder.status(status, out);
            fields.for_each(|(name, value)| encoder.field(name, value, is_constant(name), out));
        });
        if ends {
            self.send_end(key);
        }
        Ok(())
    }

    /// Send what stands behind a body, and end the stream.
    pub fn send_trailers(&mut self, key: Key, trailers: &Fields) -> Result<(), Cut> {
        self.sendable(key)?;
        self.write_block(key.number, true, |encoder, out| {
            trailers.iter().for_each(|field| encoder.field(field.name, field.value, false, out));
        });
        self.send_end(key);
        Ok(())
    }

    /// How much of a body may be sent now, of so much.
    pub fn room(&mut self, key: Key, wanted: usize) -> usize {
        let shared = if self.output().len() < READY { self.outward.left() } else { 0 };
        self.table.get(key).map_or(0, |stream| stream.outward.left().min(shared).min(wanted))
    }

    /// Ready when some of a body may be sent.
    ///
    /// # Errors
    /// Nothing more may.
    pub fn poll_room(&mut self, key: Key, wanted: usize, cx: &Context<'_>) -> Poll<Result<usize, Cut>> {
        let room = self.room(key, wanted);
        let Some(stream) = self.table.get(key) else { return Poll::Ready(Err(Cut::Broken)) };
        if let Some(cut) = stream.cut {
            return Poll::Ready(Err(cut));
        }
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        stream.await_room(cx);
        // Those that wait for what they share get it in turn. One whose own window is closed hears of that alone: it must cost nothing
        // while others go on.
        if !stream.queued && stream.outward.left() > 0 {
            stream.queued = true;
            self.queue.push_back(key);
        }
        Poll::Pending
    }

    /// Send some of a body, for which there is room.
    pub fn send_data(&mut self, key: Key, mut bytes: &[u8], ends: bool) -> Result<(), Cut> {
        self.sendable(key)?;
        if let Some(stream) = self.table.get(key) {
            stream.outward.take(bytes.len());
        }
        self.outward.take(bytes.len());
        loop {
            let (part, rest) = bytes.split_at_checked(self.largest_frame.min(bytes.len())).unwrap_or_default();
            let flags = if ends && rest.is_empty() { frame::END_STREAM } else { 0 };
            self.conduct.sent(Frame::new(frame::DATA, flags, part.len() as u32));
            frame::write_head(&mut self.out, part.len(), frame::DATA, flags, key.number);
            self.out.extend_from_slice(part);
            bytes = rest;
            if bytes.is_empty() {
                break;
            }
        }
        if ends {
            self.send_end(key);
        }
        self.wake_task();
        Ok(())
    }

    fn sendable(&mut self, key: Key) -> Result<(), Cut> {
        let Some(stream) = self.table.get(key) else { return Err(Cut::Broken) };
        match stream.cut {
            Some(cut) => Err(cut),
            None if stream.sending => Ok(()),
            None => Err(Cut::Broken),
        }
    }

    /// Our side of the stream is over.
    fn send_end(&mut self, key: Key) {
        let Some(stream) = self.table.get(key).filter(|stream| stream.sending) else { return };
        stream.sending = false;
        let closed = !stream.receiving;
        self.open -= u32::from(closed);
    }

    /// Append a head, in as many frames as it takes (RFC 9113 §4.3).
    fn write_block(&mut self, number: u32, ends: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) {
        let at = self.out.len();
        frame::write_head(&mut self.out, 0, frame::HEADERS, 0, number);
        self.encoder.begin(&mut self.out);
        write(&mut self.encoder, &mut self.out);
        let length = self.out.len() - at - HEAD;
        let end = if ends { frame::END_STREAM } else { 0 };
        self.conduct.sent(Frame::new(frame::HEADERS, end, length as u32));
        if length <= self.largest_frame {
            patch(&mut self.out, at, length, frame::HEADERS, end | frame::END_HEADERS, number);
        } else {
            self.split_block(at, end, number);
        }
        self.wake_task();
    }

    fn split_block(&mut self, at: usize, end: u8, number: u32) {
        let block = self.out.split_off(at + HEAD);
        self.out.truncate(at);
        let (mut kind, mut flags, count) = (frame::HEADERS, end, block.len().div_ceil(self.largest_frame));
        for (index, part) in block.chunks(self.largest_frame).enumerate() {
            if index + 1 == count {
                flags |= frame::END_HEADERS;
            }
            frame::write_head(&mut self.out, part.len(), kind, flags, number);
            self.out.extend_from_slice(part);
            (kind, flags) = (frame::CONTINUATION, 0);
        }
    }
}

/// Write the head of a frame that is known only behind what is in it.
fn patch(out: &mut [u8], at: usize, length: usize, kind: u8, flags: u8, number: u32) {
    if let Some(place) = out.get_mut(at..).and_then(|out| out.first_chunk_mut::<HEAD>()) {
        *place = FrameHead { length, kind, flags, stream: number }.bytes();
    }
}

/// Fields that an origin says in the same way again and again.
fn is_constant(name: &[u8]) -> bool {
    let names: &[&[u8]] = match name.len() {
        3 => &[b"via"],
        4 => &[b"date", b"vary"],
        6 => &[b"server"],
        7 => &[b"alt-svc"],
        12 => &[b"content-type", b"x-powered-by"],
        13 => &[b"cache-control", b"accept-ranges"],
        15 => &[b"referrer-policy", b"x-frame-options"],
        16 => &[b"content-encoding"],
        18 => &[b"permissions-policy"],
        22 => &[b"x-content-type-options"],
        23 => &[b"content-security-policy"],
        25 => &[b"strict-transport-security"],
        27 => &[b"access-control-allow-origin"],
        28 => &[b"access-control-allow-methods", b"access-control-allow-headers"],
        29 => &[b"access-control-expose-headers"],
        32 => &[b"access-control-allow-credentials"],
        _ => &[],
    };
    names.iter().any(|constant| constant.eq_ignore_ascii_case(name))
}
