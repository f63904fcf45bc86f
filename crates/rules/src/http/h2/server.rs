//! The connection: frames of the client as they come, and what the streams on it do.

use super::flow::{Inward, LARGEST as LARGEST_WINDOW, Outward};
use super::frame::{self, FrameHead, HEAD};
use super::head::Head;
use super::stream::{Cut, Key, Stream, remember};
use super::table::Table;
use super::{Fault, Reason};
use crate::http::Fields;
use crate::http::frames::{Conduct, Frame};
use crate::http::hpack::{Decoder, Encoder};
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What a client begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of the table that heads refer to (RFC 7541 §4.2), in either direction.
const TABLE: usize = 4096;
/// Bytes that are ready for the client before bodies wait for it to take some.
const READY: usize = 128 * 1024;
/// Bytes that are ready for it before nothing more is read of it: it has to take in what it asked for.
const FULL: usize = 256 * 1024;
/// Memory of what is written that is larger than this is not kept.
const KEPT: usize = 32 * 1024;
/// How much longer than a head may be it may come packed.
const SLACK: usize = 16 * 1024;
/// Streams that were ended before the client said its last, and of which something may still come.
const FORGIVEN: usize = 256;
/// Heads that are kept for the next ones.
const SPARE: usize = 16;
/// What our `PING` carries by which we see that the client was told to go.
const FAREWELL: &[u8; 8] = b"farewell";

/// What a connection may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams at once. As many more may wait to be let go by those who look at them.
    pub streams: u32,
    /// Bytes of a head, as RFC 9113 §6.5.2 counts them.
    pub head: u32,
    /// Bytes that the client may send on a stream before it is told that they were taken; at least 65 535.
    pub stream_window: u32,
    /// The same on all streams together.
    pub connection_window: u32,
}

/// A stream that began.
#[derive(Debug)]
pub struct Opened {
    /// To look at it with. Whoever has it lets it go: [`Server::let_go`].
    pub key: Key,
    /// What it began with, to be given back: [`Server::give_back`].
    pub head: Head,
}

/// How far a client has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So much of its preface came.
    Preface(usize),
    /// It has to say first what it takes.
    Settings,
    Open,
}

/// How far it was told to go away (RFC 9113 §6.8).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// It may not know yet: what it begins is still served.
    Warned,
    /// Nothing above this stream is.
    Told(u32),
}

/// A body's frame of which more is to come.
struct Body {
    /// Nobody, if what comes is thrown away.
    key: Option<Key>,
    left: usize,
    padding: usize,
    ends: bool,
}

/// A head of which more is to come.
struct Block {
    stream: u32,
    flags: u8,
    bytes: Vec<u8>,
}

/// One connection.
pub struct Server {
    limits: Limits,
    decoder: Decoder,
    encoder: Encoder,
    conduct: Conduct,
    now: Duration,
    stage: Stage,
    /// The begin of a frame that is not whole.
    partial: Vec<u8>,
    body: Option<Body>,
    block: Option<Block>,
    table: Table,
    /// Streams that count among those that the client may have.
    open: u32,
    /// The last stream that it began.
    last: u32,
    opened: VecDeque<Opened>,
    forgiven: VecDeque<u32>,
    spare: Vec<Head>,
    inward: Inward,
    outward: Outward,
    /// What a new stream may be sent, and what may be in one frame.
    initial_window: u32,
    largest_frame: usize,
    out: Vec<u8>,
    written: usize,
    /// Streams that wait for room that all of them share.
    queue: VecDeque<Key>,
    /// Bytes of bodies that came and were not used up.
    held: usize,
    leaving: Leaving,
    /// The client begins nothing more.
    left: bool,
    ended: bool,
    verdict: Option<Fault>,
    /// Whoever writes out what is ready.
    task: Option<Waker>,
}

impl Server {
    /// A connection of which nothing came yet.
    pub fn new(limits: Limits) -> Server {
        let mut server = Server {
            limits,
            decoder: Decoder::new(TABLE),
            encoder: Encoder::new(),
            conduct: Conduct::default(),
            now: Duration::ZERO,
            stage: Stage::Preface(0),
            partial: Vec::new(),
            body: None,
            block: None,
            table: Table::default(),
            open: 0,
            last: 0,
            opened: VecDeque::new(),
            forgiven: VecDeque::new(),
            spare: Vec::new(),
            inward: Inward::new(limits.connection_window),
            outward: Outward::new(u32::from(u16::MAX)),
            initial_window: u32::from(u16::MAX),
            largest_frame: frame::LARGEST,
            out: Vec::new(),
            written: 0,
            queue: VecDeque::new(),
            held: 0,
            leaving: Leaving::No,
            left: false,
            ended: false,
            verdict: None,
            task: None,
        };
        server.begin();
        server
    }

    /// Say what we take (RFC 9113 §3.4). WebSockets may have streams (RFC 8441 §3).
    fn begin(&mut self) {
        frame::write_settings(
            &mut self.out,
            &[
                (frame::MAX_CONCURRENT_STREAMS, self.limits.streams),
                (frame::INITIAL_WINDOW_SIZE, self.limits.stream_window),
                (frame::MAX_HEADER_LIST_SIZE, self.limits.head),
                (frame::ENABLE_CONNECT_PROTOCOL, 1),
            ],
        );
        if let Some(more) = self.limits.connection_window.checked_sub(u32::from(u16::MAX)).filter(|more| *more > 0) {
            frame::write_number(&mut self.out, frame::WINDOW_UPDATE, 0, more);
        }
    }
}

/// What the socket's side needs.
impl Server {
    /// Take in what came. `now`: whatever the caller counts from.
    ///
    /// # Errors
    /// What the client did wrong: [`Self::abort`] the connection.
    pub fn take(&mut self, mut bytes: &[u8], now: Duration) -> Result<(), Fault> {
        self.now = now;
        while !bytes.is_empty() && !self.ended {
            bytes = match (self.stage, &self.body) {
                (Stage::Preface(seen), _) => self.take_preface(seen, bytes)?,
                (_, Some(_)) => self.take_body(bytes)?,
                _ if self.partial.is_empty() => self.take_frame(bytes)?,
                _ => self.collect(bytes)?,
            };
        }
        self.verdict()
    }

    /// What the client did too much of, meanwhile.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn verdict(&mut self) -> Result<(), Fault> {
        self.verdict.take().map_or(Ok(()), Err)
    }

    /// A stream that began and that nobody looks at yet.
    pub fn next_opened(&mut self) -> Option<Opened> {
        self.opened.pop_front()
    }

    /// What is to be written.
    pub fn output(&self) -> &[u8] {
        self.out.get(self.written..).unwrap_or_default()
    }

    /// So much of it was.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        if self.written >= self.out.len() {
            self.out.clear();
            self.written = 0;
            if self.out.capacity() > KEPT || self.table.len() == 0 {
                self.out = Vec::new();
            }
        } else if self.written >= KEPT {
            // It may never be written out whole.
            self.out.drain(..self.written);
            self.written = 0;
        }
        if self.output().len() < READY / 2 {
            self.wake_queue();
        }
    }

    /// Whether nothing should be read until some of the output is written.
    pub fn is_full(&self) -> bool {
        self.ended || self.output().len() >= FULL
    }

    /// Whoever is to write what is ready.
    pub fn register(&mut self, cx: &Context<'_>) {
        remember(&mut self.task, cx);
    }

    /// Whether the client said what it takes, as it has to before anything else.
    pub fn is_settled(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether a head has begun to come and is not whole.
    pub fn is_in_head(&self) -> bool {
        self.block.is_some() || self.partial.get(3).is_some_and(|kind| *kind == frame::HEADERS)
    }

    /// Bytes of memory that bodies take, either way.
    pub fn kept(&self) -> usize {
        self.held + self.output().len()
    }

    /// Whether the connection can be closed: one side said that it ends, all streams did, and everything is written.
    pub fn is_over(&self) -> bool {
        let ends = self.ended || self.left || matches!(self.leaving, Leaving::Told(_));
        ends && self.output().is_empty() && (self.ended || self.table.len() == 0)
    }

    /// Tell the client to begin nothing more.
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No && !self.ended {
            self.leaving = Leaving::Warned;
            frame::write_goaway(&mut self.out, LARGEST_WINDOW as u32, Reason::NO_ERROR);
            frame::write_head(&mut self.out, FAREWELL.len(), frame::PING, 0, 0);
            self.out.extend_from_slice(FAREWELL);
            self.wake_task();
        }
    }

    /// End everything, and say why.
    pub fn abort(&mut self, reason: Reason) {
        if !self.ended {
            frame::write_goaway(&mut self.out, self.last, reason);
            self.end();
            self.wake_task();
        }
    }

    /// The connection is gone.
    pub fn end(&mut self) {
        self.ended = true;
        self.open = 0;
        self.table.each().for_each(|stream| stream.break_off(Cut::Broken));
    }

    fn wake_task(&self) {
        self.task.iter().for_each(Waker::wake_by_ref);
    }

    fn wake_queue(&mut self) {
        while let Some(key) = self.queue.pop_front() {
            if let Some(stream) = self.table.get(key) {
                stream.queued = false;
                stream.wake_writer();
            }
        }
    }
}

/// Frames.
impl Server {
    fn take_preface<'a>(&mut self, seen: usize, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
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
    fn take_frame<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return self.collect(bytes) };
        let head = FrameHead::read(head);
        self.admit(head)?;
        let wanted = if head.kind == frame::DATA { head.prefix() } else { head.length };
        let Some((payload, rest)) = rest.split_at_checked(wanted) else { return self.collect(bytes) };
        self.frame(head, payload)?;
        Ok(rest)
    }

    /// Put together what came in pieces.
    fn collect<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
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

    fn fill<'a>(&mut self, wanted: usize, bytes: &'a [u8]) -> &'a [u8] {
        let missing = wanted.saturating_sub(self.partial.len()).min(bytes.len());
        let (part, rest) = bytes.split_at_checked(missing).unwrap_or_default();
        self.partial.extend_from_slice(part);
        rest
    }

    /// Whether a frame may have this head, whatever is in it.
    fn admit(&self, head: FrameHead) -> Result<(), Fault> {
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
    fn frame(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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

    fn settings(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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

    fn set(&mut self, name: u16, value: u32) -> Result<(), Fault> {
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
    fn set_window(&mut self, size: u32) -> Result<(), Fault> {
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

    fn ping(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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

    fn goaway(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        if payload.len() < 8 {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        self.left = true;
        Ok(())
    }

    fn window_update(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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

    fn priority(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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

    fn reset_by_client(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
        if frame::number(payload).is_none() {
            return Err(Fault::of(Reason::FRAME_SIZE_ERROR));
        }
        if let Some(key) = self.begun(head.stream)? {
            self.close(key, Cut::Broken);
        }
        Ok(())
    }

    /// The stream that a frame is of, if it is still there.
    fn begun(&self, number: u32) -> Result<Option<Key>, Fault> {
        // Streams of clients are odd, and nothing can be said of one that did not begin (RFC 9113 §5.1).
        if number.is_multiple_of(2) || number > self.last {
            return Err(Fault::of(Reason::PROTOCOL_ERROR));
        }
        Ok(self.table.find(number))
    }
}

/// Heads.
impl Server {
    fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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

    fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Fault> {
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
    fn head(&mut self, number: u32, flags: u8, block: &[u8]) -> Result<(), Fault> {
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

    fn open(&mut self, number: u32, head: Head) -> Result<(), Fault> {
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

    fn trailers(&mut self, key: Key, head: &Head) -> Result<(), Fault> {
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

/// Bodies.
impl Server {
    /// The begin of a body's frame: all of it is taken from the windows at once (RFC 9113 §6.1, §6.9).
    fn data(&mut self, head: FrameHead, padding: Option<u8>) -> Result<(), Fault> {
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
    fn admit_data(&mut self, key: Key, length: usize, body: usize) -> Result<Option<Key>, Fault> {
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

    fn take_body<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
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
    fn end_data(&mut self) {
        if let Some(Body { key: Some(key), ends: true, .. }) = self.body.take() {
            self.receive_end(key);
        }
    }

    /// The client has sent all.
    fn receive_end(&mut self, key: Key) {
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
    fn credit(&mut self, bytes: usize) {
        if let Some(more) = self.inward.give_back(bytes)
            && !self.ended
        {
            frame::write_number(&mut self.out, frame::WINDOW_UPDATE, 0, more);
            self.wake_task();
        }
    }

    fn credit_stream(&mut self, key: Key, bytes: usize) {
        let Some(stream) = self.table.get(key).filter(|stream| stream.receiving) else { return };
        if let Some(more) = stream.inward.give_back(bytes) {
            frame::write_number(&mut self.out, frame::WINDOW_UPDATE, key.number, more);
            self.wake_task();
        }
    }
}

/// How streams end.
impl Server {
    /// The client broke the rules on a stream.
    fn fail(&mut self, key: Key, reason: Reason) {
        if self.close(key, Cut::Malformed) {
            self.refuse(key.number, reason);
        }
    }

    /// Nothing more goes on a stream, either way; whether it was open.
    fn close(&mut self, key: Key, cut: Cut) -> bool {
        let Some(stream) = self.table.get(key) else { return false };
        let open = stream.is_open();
        stream.break_off(cut);
        self.open -= u32::from(open);
        open
    }

    /// Say that a stream ends. What the client made us reset has a budget (safety.md 89).
    fn refuse(&mut self, number: u32, reason: Reason) {
        frame::write_reset(&mut self.out, number, reason);
        if reason.is_refusal() && self.conduct.refused(self.now).is_err() {
            self.verdict = self.verdict.or(Some(Fault::flood()));
        }
        self.wake_task();
    }

    /// What still comes of this stream is nothing wrong.
    fn forgive(&mut self, number: u32) {
        if self.forgiven.len() >= FORGIVEN {
            self.forgiven.pop_front();
        }
        self.forgiven.push_back(number);
    }

    fn is_forgiven(&self, number: u32) -> bool {
        self.forgiven.contains(&number)
    }
}

/// What the streams' side needs.
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

/// Whether a stream is said to depend on itself.
fn is_on([on0, on1, on2, on3]: [u8; 4], stream: u32) -> bool {
    u32::from_be_bytes([on0 & 0x7f, on1, on2, on3]) == stream
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
