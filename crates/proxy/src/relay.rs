//! Moving bytes from one side to the other: the only loop that does for messages of any version. Sessions of layer 4 and tunnels
//! between whole connections, which have none, have `session/pipe.rs`.

use crate::clock::{Alarm, Clock, Tick};
use crate::codec::{Chunk, Downstream, Incoming, Outgoing, Upstream};
use penstock_rules::error::{Kind, Side};
use penstock_rules::http::websocket::{Frames, GOING_AWAY};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// One direction of an exchange: what comes in here goes out there, never faster than it can.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    state: State,
    /// Since when the receiver takes nothing.
    blocked: Option<Tick>,
    /// Frames that are passed on, where the stream is a WebSocket.
    frames: Option<Frames>,
    /// Nothing but the rest of a frame is passed on, and a close frame behind it.
    leaving: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Moving,
    /// The end is staged.
    Flushing,
    Done,
}

/// Which side of a pump failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Source(Kind),
    Sink(Kind),
}

impl Failure {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Failure::Source(kind) | Failure::Sink(kind) => kind,
        }
    }
}

impl Pump {
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Nothing more goes this way.
    pub(crate) fn stop(&mut self) {
        self.state = State::Done;
    }

    /// What of `chunk` is still passed on.
    fn due<'c>(&self, chunk: &'c [u8]) -> &'c [u8] {
        match &self.frames {
            Some(frames) if self.leaving && !frames.is_closed() => {
                chunk.get(..frames.rest_of_frame(chunk)).unwrap_or(chunk)
            }
            _ => chunk,
        }
    }

    /// Move what can be moved; ready when the end went out.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        clock: &Clock,
        source: &mut impl Incoming,
        sink: &mut impl Outgoing,
    ) -> Poll<Result<(), Failure>> {
        ready!(self.poll_source(cx, clock, source, sink))?;
        self.poll_end(cx, sink).map_err(Failure::Sink)
    }

    /// Move what can be moved; ready when the source is used up, of which the last bytes may still be staged.
    #[inline(always)]
    pub(crate) fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
        clock: &Clock,
        source: &mut impl Incoming,
        sink: &mut impl Outgoing,
    ) -> Poll<Result<(), Failure>> {
        while self.state == State::Moving {
            if self.leaving && self.frames.as_ref().is_some_and(Frames::takes_frame) {
                // Small enough to be staged whole.
                ready!(sink.poll_send(cx, &GOING_AWAY)).map_err(Failure::Sink)?;
                self.state = State::Flushing;
                break;
            }
            if source.chunk().is_empty() {
                match source.poll_chunk(cx).map_err(Failure::Source)? {
                    Poll::Ready(Chunk::Bytes) => {}
                    Poll::Ready(Chunk::End) => {
                        sink.finish(source.trailers().as_ref());
                        self.state = State::Flushing;
                        break;
                    }
                    Poll::Pending => {
                        ready!(sink.poll_flush(cx)).map_err(Failure::Sink)?;
                        return Poll::Pending;
                    }
                }
            }
            let chunk = self.due(source.chunk());
            match sink.poll_send(cx, chunk).map_err(Failure::Sink)? {
                Poll::Ready(count) => {
                    if let Some(frames) = &mut self.frames {
                        frames.advance(source.chunk().get(..count).unwrap_or_default());
                    }
                    if let Some(since) = self.blocked.take() {
                        source.excuse(clock.now().saturating_sub(since));
                    }
                    source.consume(count);
                }
                Poll::Pending => {
                    self.blocked.get_or_insert(clock.now());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Let the last bytes out, once the source is used up.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>, sink: &mut impl Outgoing) -> Poll<Result<(), Kind>> {
        if self.state == State::Flushing {
            ready!(sink.poll_flush(cx))?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }
}

/// How long the client of a WebSocket that is told to go away may take to answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// Until when a tunnel may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// For as long as its ends like.
    Open,
    /// Until then: the client of a WebSocket is told to go away, and a moment later the tunnel is cut.
    Until(Tick),
    /// The process ends, and the tunnel with it: the client of a WebSocket is told.
    Leaving,
}

/// Pass bytes both ways until both ends are reached, one breaks, or nothing moves for too long. An end is passed on in its own
/// direction only (safety.md 170), and so is a break, where one side can be broken without the other (RFC 9113 §8.5). `stay` says
/// whether it may go on (safety.md 159).
pub(crate) async fn tunnel(
    alarm: &Alarm,
    down: &mut impl Downstream,
    up: &mut impl Upstream,
    websocket: bool,
    mut stay: impl FnMut() -> Stay,
) -> Kind {
    let (mut request, mut response) = (Pump::default(), Pump::default());
    response.frames = websocket.then(Frames::default);
    let (mut request_shut, mut response_shut) = (false, false);
    let clock = std::rc::Rc::clone(alarm.clock());
    let mut moved = (0, clock.now());
    poll_fn(|cx| {
        alarm.clear();
        let stay = stay();
        if is_cut(alarm, stay, websocket) {
            return Poll::Ready(Kind::ClientClosed);
        }
        if down.poll_broken(cx).is_ready() {
            up.break_off();
            return Poll::Ready(Kind::ClientClosed);
        }
        response.leaving = websocket && stay.is_over(clock.now());
        let first = one_way(cx, &clock, (&mut request, &mut request_shut), down, up);
        let second = one_way(cx, &clock, (&mut response, &mut response_shut), up, down);
        let total = down.received() + up.received();
        if total != moved.0 {
            // Silence is judged over both directions: a one-way stream is not idle.
            moved = (total, clock.now());
            down.excuse(0);
            up.excuse(0);
        }
        match (first, second) {
            (Poll::Ready(Err(failure)), _) | (_, Poll::Ready(Err(failure))) => Poll::Ready(match failure.kind() {
                Kind::BodyTimeout | Kind::UpstreamBodyTimeout => Kind::TunnelIdle,
                kind => {
                    if kind.side() == Side::Upstream {
                        down.tell_broken();
                    }
                    kind
                }
            }),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(Kind::ClientClosed),
            _ => Poll::Pending,
        }
    })
    .await
}

impl Stay {
    fn is_over(self, now: Tick) -> bool {
        match self {
            Stay::Open => false,
            Stay::Until(by) => now >= by,
            Stay::Leaving => true,
        }
    }
}

/// Whether a tunnel ends now, whatever its ends say.
#[inline]
pub(crate) fn is_cut(alarm: &Alarm, stay: Stay, websocket: bool) -> bool {
    match stay {
        Stay::Until(by) => is_cut_at(alarm, by, websocket),
        Stay::Open | Stay::Leaving => false,
    }
}

#[cold]
fn is_cut_at(alarm: &Alarm, by: Tick, websocket: bool) -> bool {
    let now = alarm.clock().now();
    let cut_by = if websocket { by.saturating_add(Clock::ticks(FAREWELL)) } else { by };
    alarm.lower(if now < by { by } else { cut_by });
    now >= cut_by
}

fn one_way(
    cx: &mut Context<'_>,
    clock: &Clock,
    (pump, shut): (&mut Pump, &mut bool),
    from: &mut impl Incoming,
    to: &mut impl Outgoing,
) -> Poll<Result<(), Failure>> {
    ready!(pump.poll(cx, clock, from, to))?;
    if !*shut {
        ready!(to.poll_shutdown(cx));
        *shut = true;
    }
    Poll::Ready(Ok(()))
}
