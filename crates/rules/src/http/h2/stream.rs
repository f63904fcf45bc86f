//! One stream (RFC 9113 §5.1): what came of it and is not used, what may be sent, and who waits for either.

use super::flow::{Inward, Outward};
use crate::http::Fields;
use std::task::{Context, Waker};

/// Names a stream of one connection, and no other that comes into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub(super) place: u32,
    pub(super) number: u32,
}

/// Why nothing more comes of a stream that did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The client reset it, or its connection is gone, or we ended it.
    Broken,
    /// What it sent is no message (RFC 9113 §8.1.1).
    Malformed,
}

pub(super) struct Stream {
    pub(super) number: u32,
    /// The client may still send.
    pub(super) receiving: bool,
    /// We may still send.
    pub(super) sending: bool,
    pub(super) cut: Option<Cut>,
    /// Its body, as far as it came and was not taken.
    pub(super) came: Vec<u8>,
    /// Bytes of the body that came and were not used up, taken or not.
    pub(super) held: usize,
    pub(super) trailers: Option<Fields>,
    /// What is still to come of a body whose length was told.
    pub(super) expected: Option<u64>,
    pub(super) inward: Inward,
    pub(super) outward: Outward,
    /// It is in the queue of those that wait for room.
    pub(super) queued: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Stream {
    pub(super) fn new(number: u32, receiving: bool, inward: Inward, outward: Outward) -> Stream {
        Stream {
            number,
            receiving,
            sending: true,
            cut: None,
            came: Vec::new(),
            held: 0,
            trailers: None,
            expected: None,
            inward,
            outward,
            queued: false,
            reader: None,
            writer: None,
        }
    }

    /// Whether it counts among those that the client may have (RFC 9113 §5.1.2).
    pub(super) fn is_open(&self) -> bool {
        self.cut.is_none() && (self.receiving || self.sending)
    }

    /// Nothing more goes either way.
    pub(super) fn break_off(&mut self, cut: Cut) {
        self.cut = self.cut.or(Some(cut));
        (self.receiving, self.sending) = (false, false);
        self.wake();
    }

    pub(super) fn wake(&self) {
        self.wake_reader();
        self.wake_writer();
    }

    pub(super) fn wake_reader(&self) {
        self.reader.iter().for_each(Waker::wake_by_ref);
    }

    pub(super) fn wake_writer(&self) {
        self.writer.iter().for_each(Waker::wake_by_ref);
    }

    pub(super) fn await_input(&mut self, cx: &Context<'_>) {
        remember(&mut self.reader, cx);
    }

    pub(super) fn await_room(&mut self, cx: &Context<'_>) {
        remember(&mut self.writer, cx);
    }
}

/// Whoever asked last is woken; the same one is not written down anew.
pub(super) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}
