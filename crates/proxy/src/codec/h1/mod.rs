//! HTTP/1.1 and 1.0 on one socket, either side.

mod sink;
mod source;
mod upstream;

use super::{Downstream, Tunnel};
use crate::clock::{Alarm, NEVER, Tick};

use crate::wire::Wire;
use penstock_rules::error::Kind;
use penstock_rules::forward::socks::Socks;
use penstock_rules::http::{
    BodyFraming, HeadLimits, HeadScan, LONGEST_METHOD, Length, Persistence, RequestHead, ResponseHead, ResponseLines,
    Scanned, Version, write_response,
};
use penstock_rules::pace::{LeastRate, Pace};
use penstock_rules::tls as hello;
use sink::Sink;
use source::{Coding, Source};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

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
    /// How fast the peer must at least take what is written.
    pub(crate) rate: LeastRate,
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
    /// Bytes that were written when `write_by` was set.
    write_mark: u64,
    pace: Pace,
    /// The client's version, and whether it asked for HEAD.
    peer: Version,
    to_head: bool,
    /// The peer speaks SOCKS, and is answered in that.
    socks: Option<Socks>,
    /// Whether the connection goes on behind this message.
    pub(crate) persistent: bool,
    half_closed: bool,
    /// The response was cut, or the connection is something else from now on: there is nothing to hang up politely for.
    pub(crate) aborted: bool,
    /// The peer said `TE: trailers` (RFC 9110 §6.5.1); no origin does.
    takes_trailers: bool,
    /// Where in all that was ever written the response head begins.
    head_at: Option<u64>,
    /// Until then a peer that the event loop does not know is not looked after.
    unwatched_until: Tick,
}

impl H1 {
    #[inline]
    pub(crate) fn new(wire: Wire, alarm: Rc<Alarm>, faults: Faults, waits: Waits) -> H1 {
        let source = Source {
            coding: Coding::None,
            ready: 0,
            ended: true,
            received: 0,
            limit: u64::MAX,
            rate: LeastRate::NONE,
            since: 0,
            read_by: NEVER,
        };
        let unwatched_until = alarm.clock().after(Duration::ZERO);
        H1 {
            wire,
            alarm,
            faults,
            waits,
            scan: HeadScan::default(),
            source,
            sink: Sink::default(),
            write_by: NEVER,
            write_mark: 0,
            pace: Pace::default(),
            peer: Version::Http11,
            to_head: false,
            socks: None,
            persistent: true,
            half_closed: false,
            aborted: false,
            takes_trailers: false,
            head_at: None,
            unwatched_until,
        }
    }

    /// Wait for a request head. `Ok(None)`: the peer closed before its first byte.
    pub(crate) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut RequestHead,
        limits: &HeadLimits,
    ) -> Poll<Result<Option<()>, Kind>> {
        // What the request before said holds no longer, not even for a refusal.
        (self.peer, self.to_head) = (Version::Http11, false);
        let Some((start, end)) = ready!(self.poll_head(cx, limits))? else { return Poll::Ready(Ok(None)) };
        let bytes = self.wire.input().get(start..end).unwrap_or_default();
        let parsed = head.parse(bytes, limits);
        self.scan = HeadScan::default();
        self.wire.consume(end);
        parsed?;
        self.peer = head.version;
        self.to_head = head.is_head();
        self.takes_trailers = head.options.te_trailers;
        self.persistent = head.options.keep_alive;
        Poll::Ready(Ok(Some(())))
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, limits: &HeadLimits) -> Poll<Result<Option<(usize, usize)>, Kind>> {
        loop {
            let input = self.wire.input();
            if !input.is_empty() {
                // What lies beyond the limit is not looked at, so that the verdict does not depend on how much came at once.
                let most = limits.bytes + if input.starts_with(b"\r\n") { 2 } else { 0 };
                let scanned = self.scan.advance(input.get(..most).unwrap_or(input));
                match scanned.map_err(|kind| named(kind, input))? {
                    Scanned::Head { start, end } if end - start <= limits.bytes => {
                        return Poll::Ready(Ok(Some((start, end))));
                    }
                    Scanned::Head { .. } => return Poll::Ready(Err(Kind::HeadTooLarge)),
                    Scanned::Partial => self.judge_partial(limits, most)?,
                }
            }
            let had = self.wire.input().len();
            match ready!(self.wire.poll_fill(cx, limits.bytes + 3, false)) {
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
    fn judge_partial(&self, limits: &HeadLimits, most: usize) -> Result<(), Kind> {
        let input = self.wire.input();
        let first = input.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
        // A start line begins with a token (RFC 9110 §5.6.2); a TLS record or a binary protocol does not.
        if first.is_some_and(|byte| !byte.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~".contains(byte)) {
            return Err(named(Kind::BadHead, input));
        }
        if input.len() > most { Err(self.too_large(limits)) } else { Ok(()) }
    }

    fn too_large(&self, limits: &HeadLimits) -> Kind {
        if limits.uri > 0 && !self.scan.past_start_line() {
            // One endless line: an endless method is no request, an endless target is one that is too long.
            let method = self.wire.input().iter().take(LONGEST_METHOD + 3).any(|&byte| byte == b' ');
            return if method { Kind::UriTooLong } else { Kind::BadHead };
        }
        Kind::HeadTooLarge
    }

    /// A body of this length comes next.
    pub(crate) fn expect_body(&mut self, length: Length, limit: Option<u64>, rate: LeastRate) {
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
        self.sink = Sink {
            chunked: framing == BodyFraming::Chunked,
            silent: framing == BodyFraming::None,
            ends_with_connection: framing == BodyFraming::UntilClose,
            owed: 0,
            sent: 0,
        };
        self.write_by = NEVER;
    }

    /// The client speaks SOCKS: it takes one answer, which has no body.
    pub(crate) fn speak_socks(&mut self, version: Socks) {
        (self.socks, self.to_head, self.persistent) = (Some(version), true, false);
    }

    /// Its tunnel has ended, of which so many bytes came and went past it.
    pub(crate) fn end_tunnel(&mut self, came: u64, went: u64) {
        self.source.ended = true;
        self.source.received += came;
        self.sink.sent += went;
        self.wire.bytes_out += went;
    }

    /// Ready to carry another exchange: nothing half read, nothing half written (safety.md R3, R4).
    pub(crate) fn is_clean(&self) -> bool {
        self.source.ended && self.source.ready == 0 && self.wire.staged() == 0 && self.sink.owed == 0
    }
}

/// A client that speaks TLS where nobody does is told so.
fn named(kind: Kind, input: &[u8]) -> Kind {
    if input.starts_with(&[crate::tls::HANDSHAKE]) { Kind::TlsOnPlain } else { kind }
}

impl Tunnel for H1 {
    fn become_tunnel(&mut self, idle: Duration) {
        self.persistent = false;
        self.waits = Waits { body: idle, write: idle, rate: LeastRate::NONE };
        self.expect_body(Length::UntilClose, None, LeastRate::NONE);
        self.begin_body(BodyFraming::UntilClose);
    }
}

impl Downstream for H1 {
    fn accept_body(&mut self, head: &RequestHead, limit: Option<u64>, rate: LeastRate) {
        self.expect_body(head.length, limit, rate);
    }

    fn limit_body(&mut self, limit: u64) {
        self.source.limit = limit;
    }

    fn retract(&mut self) -> bool {
        let unsent = self.head_at.is_some_and(|at| self.wire.unstage(at));
        self.head_at = None;
        unsent
    }

    fn take_back(&mut self, before: u64) -> bool {
        self.wire.unstage(before)
    }

    fn written(&self) -> u64 {
        self.wire.bytes_out + self.wire.staged() as u64
    }

    fn alarm(&self) -> &Rc<Alarm> {
        &self.alarm
    }

    fn respond(&mut self, head: &ResponseHead, via: bool) {
        let bodiless = self.to_head || head.status < 200 || head.status == 204 || head.status == 304;
        if bodiless && let Some(version) = self.socks {
            self.wire.out.extend_from_slice(version.refused(head.status));
            return self.begin_body(BodyFraming::None);
        }
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
            (_, true, Version::Http11 | Version::Http2) => Persistence::Kept,
        };
        // HEAD and 304 name the length that they do not have; 1xx and 204 may not (RFC 9110 §8.6).
        let named = match (framing, head.declared) {
            (BodyFraming::None, Some(bytes)) if head.status >= 200 && head.status != 204 => BodyFraming::Bytes(bytes),
            (BodyFraming::Bytes(bytes), _) => BodyFraming::Bytes(bytes),
            (framing, _) => framing,
        };
        let date = (head.status >= 200).then(|| self.alarm.clock().date());
        self.head_at = Some(self.wire.bytes_out + self.wire.staged() as u64);
        write_response(head, &ResponseLines { framing: named, persistence, via, date }, &mut self.wire.out);
        self.begin_body(framing);
    }

    fn respond_connected(&mut self) -> bool {
        // No field that frames a body may stand here (RFC 9110 §9.3.6).
        let granted = self.socks.map_or(&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], Socks::granted);
        self.wire.out.extend_from_slice(granted);
        true
    }

    fn whole_connection(&mut self) -> Option<&mut H1> {
        Some(self)
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, seen: usize) -> Poll<Result<&[u8], Kind>> {
        while self.wire.input().len() <= seen {
            match ready!(self.wire.poll_fill(cx, hello::LONGEST, false)) {
                Ok(1..) => {}
                Ok(0) => break,
                Err(_) => return Poll::Ready(Err(Kind::ClientClosed)),
            }
        }
        Poll::Ready(Ok(self.wire.input()))
    }

    fn hand_over(&mut self) {
        // Nobody is told anything: see `burst`.
        (self.persistent, self.aborted) = (false, true);
    }

    fn interim(&mut self, head: &ResponseHead) {
        // RFC 9110 §15.2: never to a 1.0 client.
        if self.peer == Version::Http11 {
            let lines =
                ResponseLines { framing: BodyFraming::None, persistence: Persistence::Kept, via: false, date: None };
            write_response(head, &lines, &mut self.wire.out);
        }
    }

    fn close_after(&mut self) {
        self.persistent = false;
    }

    fn abort(&mut self) {
        self.persistent = false;
        self.aborted = true;
        if self.sink.ends_with_connection {
            self.wire.break_off();
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Bytes of a next request stay where they are; what is behind them cannot be seen.
        if self.half_closed || !self.wire.input().is_empty() {
            return Poll::Pending;
        }
        if self.wire.stream().is_fresh() && self.alarm.clock().now() < self.unwatched_until {
            // Most answers come before it would be worth the calls to watch.
            self.alarm.lower(self.unwatched_until);
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
