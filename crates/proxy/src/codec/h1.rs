//! HTTP/1.1 and 1.0 on one socket, either side.

use super::{Chunk, Downstream, Incoming, Outgoing, Tunnel};
use crate::clock::{Alarm, NEVER, Tick};
use crate::wire::Wire;
use penstock_rules::error::Kind;
use penstock_rules::http::{
    BodyFraming, Fields, HeadLimits, HeadScan, Length, Persistence, RequestHead, ResponseHead, ResponseLines, Scanned,
    Version, chunked, write_response,
};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Pieces up to this size are copied behind what is staged; larger ones are written from where they are.
const COPIED: usize = 8 * 1024;
/// With more than this staged, nothing further is staged before it is written.
const STAGED: usize = 32 * 1024;
/// A body longer than this is read with large buffers.
const BULK: u64 = 64 * 1024;
/// A slow body is not judged before it has taken so long (safety.md 113).
const RATE_GRACE: Duration = Duration::from_secs(10);

/// What goes wrong on this side is named so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// The peer closed in the middle of a body, or the connection broke.
    pub(crate) cut: Kind,
    /// No bytes of a body came in time.
    pub(crate) body_timeout: Kind,
    /// The peer took no bytes in time.
    pub(crate) write_timeout: Kind,
    /// The peer took no bytes because it was gone.
    pub(crate) write: Kind,
    /// A malformed body.
    pub(crate) malformed: Kind,
}

/// Faults of a client.
pub(crate) const CLIENT: Faults = Faults {
    cut: Kind::ClientClosed,
    body_timeout: Kind::BodyTimeout,
    write_timeout: Kind::ClientWriteTimeout,
    write: Kind::ClientClosed,
    malformed: Kind::BadChunk,
};

/// Faults of an endpoint.
pub(crate) const ENDPOINT: Faults = Faults {
    cut: Kind::UpstreamCut,
    body_timeout: Kind::UpstreamBodyTimeout,
    write_timeout: Kind::UpstreamWriteTimeout,
    write: Kind::UpstreamClosed,
    malformed: Kind::BadResponse,
};

/// How long the peer is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    /// The next bytes of a body.
    pub(crate) body: Duration,
    /// Room to write.
    pub(crate) write: Duration,
}

/// One HTTP/1 connection: a wire, the body that comes in and the body that goes out.
pub(crate) struct H1 {
    pub(crate) wire: Wire,
    pub(crate) alarm: Rc<Alarm>,
    faults: Faults,
    pub(crate) waits: Waits,
    scan: HeadScan,
    source: Source,
    sink: Sink,
    write_by: Tick,
    /// The client's version, and whether it asked for HEAD.
    peer: Version,
    to_head: bool,
    /// Whether the connection goes on behind this message.
    pub(crate) persistent: bool,
    half_closed: bool,
    /// The peer said `TE: trailers` (RFC 9110 §6.5.1); no origin does.
    takes_trailers: bool,
    /// Where in all that was ever written the response head begins.
    head_at: Option<u64>,
}

/// The body that comes in.
struct Source {
    coding: Coding,
    /// Bytes at the begin of the input that belong to the body.
    ready: usize,
    ended: bool,
    received: u64,
    /// Most bytes that may come.
    limit: u64,
    /// Least bytes a second; 0: none.
    rate: u32,
    since: Tick,
    read_by: Tick,
}

enum Coding {
    None,
    /// So many bytes are still to be seen.
    Bytes(u64),
    Chunked(Box<chunked::Decoder>),
    UntilClose,
}

/// The body that goes out.
#[derive(Default)]
struct Sink {
    chunked: bool,
    /// A body that may not be sent (HEAD, 204, 304).
    silent: bool,
    /// Bytes of the open chunk that are still to be written.
    owed: usize,
    sent: u64,
}

impl H1 {
    pub(crate) fn new(wire: Wire, alarm: Rc<Alarm>, faults: Faults, waits: Waits) -> H1 {
        let source = Source {
            coding: Coding::None,
            ready: 0,
            ended: true,
            received: 0,
            limit: u64::MAX,
            rate: 0,
            since: 0,
            read_by: NEVER,
        };
        H1 {
            wire,
            alarm,
            faults,
            waits,
            scan: HeadScan::default(),
            source,
            sink: Sink::default(),
            write_by: NEVER,
            peer: Version::Http11,
            to_head: false,
            persistent: true,
            half_closed: false,
            takes_trailers: false,
            head_at: None,
        }
    }

    /// Wait for a request head. `Ok(None)`: the peer closed before its first byte.
    pub(crate) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead,
        limits: &HeadLimits,
    ) -> Poll<Result<Option<()>, Kind>> {
        let Some((start, end)) = ready!(self.poll_head(cx, limits))? else { return Poll::Ready(Ok(None)) };
        let bytes = self.wire.input().get(start..end).unwrap_or_default();
        let parsed = head.parse(bytes, limits);
        self.scan = HeadScan::default();
        self.wire.consume(end);
        parsed?;
        self.peer = head.version;
        self.to_head = head.method() == "HEAD";
        self.takes_trailers = head.options.te_trailers;
        self.persistent = head.options.keep_alive;
        Poll::Ready(Ok(Some(())))
    }

    /// Wait for a response head. `Ok(None)`: the peer closed before its first byte.
    pub(crate) fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        limits: &HeadLimits,
        to_head: bool,
    ) -> Poll<Result<Option<()>, Kind>> {
        let whole = ready!(self.poll_head(cx, limits)).map_err(|kind| match kind {
            Kind::HeadTooLarge | Kind::UriTooLong => Kind::ResponseTooLarge,
            Kind::ClientClosed => Kind::UpstreamClosed,
            _ => Kind::BadResponse,
        })?;
        let Some((start, end)) = whole else { return Poll::Ready(Ok(None)) };
        let bytes = self.wire.input().get(start..end).unwrap_or_default();
        let parsed = head.parse(bytes, limits, to_head);
        self.scan = HeadScan::default();
        self.wire.consume(end);
        parsed?;
        self.persistent = head.options.keep_alive && head.length != Length::UntilClose;
        Poll::Ready(Ok(Some(())))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, limits: &HeadLimits) -> Poll<Result<Option<(usize, usize)>, Kind>> {
        loop {
            let input = self.wire.input();
            if !input.is_empty() {
                match self.scan.advance(input)? {
                    Scanned::Head { start, end } if end - start <= limits.bytes => {
                        return Poll::Ready(Ok(Some((start, end))));
                    }
                    Scanned::Head { .. } => return Poll::Ready(Err(Kind::HeadTooLarge)),
                    Scanned::Partial => self.judge_partial(limits)?,
                }
            }
            let had = self.wire.input().len();
            match ready!(self.wire.poll_fill(cx, limits.bytes + 1, false)) {
                Ok(0) if had == 0 => return Poll::Ready(Ok(None)),
                Ok(0) => return Poll::Ready(Err(Kind::ClientClosed)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                    return Poll::Ready(Err(self.too_large(limits)));
                }
                Err(_) if had == 0 => return Poll::Ready(Ok(None)),
                Err(_) => return Poll::Ready(Err(Kind::ClientClosed)),
            }
        }
    }

    /// Refuse early what can only become wrong: no later byte changes it.
    fn judge_partial(&self, limits: &HeadLimits) -> Result<(), Kind> {
        let input = self.wire.input();
        let first = input.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
        // A start line begins with a token (RFC 9110 §5.6.2); a TLS record or a binary protocol does not.
        if first.is_some_and(|byte| !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(byte)) {
            return Err(Kind::BadHead);
        }
        if input.len() > limits.bytes { Err(self.too_large(limits)) } else { Ok(()) }
    }

    fn too_large(&self, limits: &HeadLimits) -> Kind {
        if limits.uri > 0 && !self.scan.past_start_line() {
            // One endless line: an endless method is no request, an endless target is one that is too long.
            let method = self.wire.input().iter().position(|&byte| byte == b' ');
            return if method.is_some() { Kind::UriTooLong } else { Kind::BadHead };
        }
        Kind::HeadTooLarge
    }

    /// A body of this length comes next.
    pub(crate) fn expect_body(&mut self, length: Length, limit: Option<u64>, rate: u32) {
        let clock = self.alarm.clock();
        self.source = Source {
            coding: match length {
                Length::None | Length::Bytes(0) => Coding::None,
                Length::Bytes(bytes) => Coding::Bytes(bytes),
                Length::Chunked => Coding::Chunked(Box::default()),
                Length::UntilClose => Coding::UntilClose,
            },
            ready: 0,
            ended: matches!(length, Length::None | Length::Bytes(0)),
            received: 0,
            limit: limit.unwrap_or(u64::MAX),
            rate,
            since: clock.now(),
            read_by: clock.after(self.waits.body),
        };
    }

    /// A body framed like this goes out next.
    pub(crate) fn begin_body(&mut self, framing: BodyFraming) {
        self.sink =
            Sink { chunked: framing == BodyFraming::Chunked, silent: framing == BodyFraming::None, owed: 0, sent: 0 };
        self.write_by = NEVER;
    }

    /// Ready to carry another exchange: nothing half read, nothing half written (safety.md R3, R4).
    pub(crate) fn is_clean(&self) -> bool {
        self.source.ended && self.source.ready == 0 && self.wire.staged() == 0 && self.sink.owed == 0
    }

    /// Read on, checking patience and rate.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Kind>> {
        let bulk = match &self.source.coding {
            Coding::Bytes(left) => *left > BULK,
            _ => self.source.received > BULK,
        };
        let clock = Rc::clone(self.alarm.clock());
        match self.wire.poll_fill(cx, crate::buffers::LARGE, bulk) {
            Poll::Ready(Ok(count)) => {
                self.source.read_by = clock.after(self.waits.body);
                if self.source.is_too_slow(clock.now()) {
                    return Poll::Ready(Err(Kind::BodyTooSlow));
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.faults.cut)),
            Poll::Pending if clock.now() >= self.source.read_by => Poll::Ready(Err(self.faults.body_timeout)),
            Poll::Pending => {
                self.alarm.lower(self.source.read_by);
                Poll::Pending
            }
        }
    }

    /// While nothing can be written: check patience.
    fn wait_for_room<T>(&mut self) -> Poll<Result<T, Kind>> {
        let clock = self.alarm.clock();
        if self.write_by == NEVER {
            self.write_by = clock.after(self.waits.write);
        }
        if clock.now() >= self.write_by {
            return Poll::Ready(Err(self.faults.write_timeout));
        }
        self.alarm.lower(self.write_by);
        Poll::Pending
    }

    fn staged(&mut self, bytes: &[u8]) -> usize {
        if self.sink.chunked {
            chunked::write_size(bytes.len(), &mut self.wire.out);
        }
        self.wire.out.extend_from_slice(bytes);
        if self.sink.chunked {
            self.wire.out.extend_from_slice(b"\r\n");
        }
        self.sink.sent += bytes.len() as u64;
        bytes.len()
    }
}

impl Source {
    fn is_too_slow(&self, now: Tick) -> bool {
        let ticks = now.saturating_sub(self.since);
        let millis = u128::from(ticks) * crate::clock::TICK.as_millis();
        self.rate > 0
            && millis > RATE_GRACE.as_millis()
            && u128::from(self.received) * 1000 < u128::from(self.rate) * millis
    }
}

impl Incoming for H1 {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>> {
        loop {
            let source = &mut self.source;
            if source.ready > 0 {
                return Poll::Ready(Ok(Chunk::Bytes));
            }
            if source.ended {
                return Poll::Ready(Ok(Chunk::End));
            }
            let input = self.wire.input();
            if !input.is_empty() {
                let mut skip = 0;
                match &mut source.coding {
                    Coding::None => source.ended = true,
                    Coding::Bytes(left) => {
                        source.ready = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                        *left -= source.ready as u64;
                    }
                    Coding::UntilClose => source.ready = input.len(),
                    Coding::Chunked(decoder) => {
                        let step = decoder.step(input).map_err(|kind| match kind {
                            Kind::HeadTooLarge if self.faults.malformed == Kind::BadChunk => kind,
                            _ => self.faults.malformed,
                        })?;
                        (skip, source.ready, source.ended) = (step.skip, step.data, step.done);
                    }
                }
                source.received += source.ready as u64;
                if source.received > source.limit {
                    return Poll::Ready(Err(Kind::BodyTooLarge));
                }
                self.wire.consume(skip);
                continue;
            }
            if let Coding::Bytes(0) = source.coding {
                source.ended = true;
                continue;
            }
            if ready!(self.poll_more(cx))? == 0 {
                match self.source.coding {
                    Coding::UntilClose => self.source.ended = true,
                    _ => return Poll::Ready(Err(self.faults.cut)),
                }
            }
        }
    }

    fn chunk(&self) -> &[u8] {
        self.wire.input().get(..self.source.ready).unwrap_or_default()
    }

    fn consume(&mut self, count: usize) {
        let count = count.min(self.source.ready);
        self.source.ready -= count;
        self.wire.consume(count);
        if self.source.ready == 0
            && let Coding::Bytes(0) = self.source.coding
        {
            self.source.ended = true;
        }
    }

    fn trailers(&self) -> Option<Fields> {
        match &self.source.coding {
            Coding::Chunked(decoder) => decoder.trailers().ok().filter(|fields| !fields.is_empty()),
            _ => None,
        }
    }

    fn is_ended(&self) -> bool {
        self.source.ended && self.source.ready == 0
    }

    fn received(&self) -> u64 {
        self.source.received
    }

    fn excuse(&mut self, ticks: u64) {
        self.source.since = self.source.since.saturating_add(ticks);
        self.source.read_by = self.alarm.clock().after(self.waits.body);
    }
}

impl Outgoing for H1 {
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>> {
        if self.sink.silent {
            return Poll::Ready(Ok(bytes.len()));
        }
        if self.sink.owed == 0 && bytes.len() <= COPIED {
            if self.wire.staged() > STAGED {
                ready!(self.poll_flush(cx))?;
            }
            return Poll::Ready(Ok(self.staged(bytes)));
        }
        if self.sink.chunked && self.sink.owed == 0 {
            chunked::write_size(bytes.len(), &mut self.wire.out);
            self.sink.owed = bytes.len();
        }
        let part = match self.sink.chunked {
            true => bytes.get(..self.sink.owed.min(bytes.len())).unwrap_or_default(),
            false => bytes,
        };
        let ends = self.sink.chunked && part.len() == self.sink.owed;
        let behind: &[u8] = if ends { b"\r\n" } else { b"" };
        let written = match self.wire.poll_write_through(cx, part, behind) {
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(_)) => return Poll::Ready(Err(self.faults.write)),
            Poll::Pending => return self.wait_for_room(),
        };
        self.write_by = NEVER;
        let of_part = written.min(part.len());
        self.sink.sent += of_part as u64;
        if self.sink.chunked {
            self.sink.owed -= of_part;
            if ends && of_part == part.len() {
                // Whatever of the line end did not fit goes first with the next write.
                self.wire.out.extend_from_slice(behind.get(written - of_part..).unwrap_or_default());
            }
        }
        if of_part == 0 { self.poll_send(cx, bytes) } else { Poll::Ready(Ok(of_part)) }
    }

    fn sent(&self) -> u64 {
        self.sink.sent
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        if self.sink.chunked {
            chunked::write_end(trailers.filter(|_| self.takes_trailers), &mut self.wire.out);
            self.sink.chunked = false;
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Kind>> {
        match self.wire.poll_flush(cx) {
            Poll::Ready(Ok(())) => {
                self.write_by = NEVER;
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(_)) => Poll::Ready(Err(self.faults.write)),
            Poll::Pending => self.wait_for_room(),
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_shutdown(cx).map(|_| ())
    }
}

impl Tunnel for H1 {
    fn become_tunnel(&mut self, idle: Duration) {
        self.persistent = false;
        self.waits = Waits { body: idle, write: idle };
        self.expect_body(Length::UntilClose, None, 0);
        self.begin_body(BodyFraming::UntilClose);
    }
}

impl Downstream for H1 {
    fn accept_body(&mut self, head: &RequestHead, limit: Option<u64>, rate: u32) {
        self.expect_body(head.length, limit, rate);
    }

    fn retract(&mut self) -> bool {
        let unsent = self.head_at.is_some_and(|at| self.wire.unstage(at));
        self.head_at = None;
        unsent
    }

    fn written(&self) -> u64 {
        self.wire.bytes_out + self.wire.staged() as u64
    }

    fn alarm(&self) -> &Rc<Alarm> {
        &self.alarm
    }

    fn respond(&mut self, head: &ResponseHead, via: bool) {
        let bodiless = self.to_head || head.status < 200 || head.status == 204 || head.status == 304;
        let framing = match head.length {
            _ if bodiless => BodyFraming::None,
            Length::None => BodyFraming::Bytes(0),
            Length::Bytes(bytes) => BodyFraming::Bytes(bytes),
            Length::Chunked | Length::UntilClose if self.peer == Version::Http11 => BodyFraming::Chunked,
            Length::Chunked | Length::UntilClose => BodyFraming::UntilClose,
        };
        if framing == BodyFraming::UntilClose {
            self.persistent = false;
        }
        let persistence = match (head.status, self.persistent, self.peer) {
            (101, ..) => Persistence::Upgrade,
            (_, false, _) => Persistence::Close,
            (_, true, Version::Http10) => Persistence::KeptAloud,
            (_, true, Version::Http11) => Persistence::Kept,
        };
        // HEAD and 304 name the length that they do not have; 1xx and 204 may not (RFC 9110 §8.6).
        let named = match (framing, head.declared) {
            (BodyFraming::None, Some(bytes)) if head.status >= 200 && head.status != 204 => BodyFraming::Bytes(bytes),
            (BodyFraming::Bytes(bytes), _) => BodyFraming::Bytes(bytes),
            (framing, _) => framing,
        };
        self.head_at = Some(self.wire.bytes_out + self.wire.staged() as u64);
        write_response(head, &ResponseLines { framing: named, persistence, via }, &mut self.wire.out);
        self.begin_body(framing);
    }

    fn interim(&mut self, head: &ResponseHead) {
        // RFC 9110 §15.2: never to a 1.0 client.
        if self.peer == Version::Http11 {
            let lines = ResponseLines { framing: BodyFraming::None, persistence: Persistence::Kept, via: false };
            write_response(head, &lines, &mut self.wire.out);
        }
    }

    fn close_after(&mut self) {
        self.persistent = false;
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Bytes of a next request stay where they are; what is behind them cannot be seen.
        if self.half_closed || !self.wire.input().is_empty() {
            return Poll::Pending;
        }
        match ready!(self.wire.poll_fill(cx, crate::buffers::SMALL, false)) {
            Ok(0) => {
                // A client may stop sending and still wait for its answer (safety.md 170).
                self.half_closed = true;
                Poll::Pending
            }
            Ok(_) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        }
    }
}
