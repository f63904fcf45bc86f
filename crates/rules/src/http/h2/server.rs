//! The connection: frames of the client as they come, and what the streams on it do.

mod bodies;
mod frames;
mod heads;
mod streams;

use super::flow::{Inward, LARGEST as LARGEST_WINDOW, Outward};
use super::frame;
use super::head::Head;
use super::stream::{Cut, Key, remember};
use super::table::Table;
use super::{Fault, Reason};
use crate::http::frames::Conduct;
use crate::http::hpack::{Decoder, Encoder};
use std::collections::VecDeque;
use std::task::{Context, Waker};
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

/// Whether a stream is said to depend on itself.
fn is_on([on0, on1, on2, on3]: [u8; 4], stream: u32) -> bool {
    u32::from_be_bytes([on0 & 0x7f, on1, on2, on3]) == stream
}
