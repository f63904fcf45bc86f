//! Both directions between a client and an endpoint, and how they end: of a session, and of a tunnel whose connections carry nothing
//! else.

use super::pipe::{Broken, Lenders, Pipe};
use crate::buffers::Buffers;
use crate::clock::{Alarm, Clock, Tick};
use crate::stream::Stream;
use penstock_rules::session::End;
use std::task::{Context, Poll};
use std::time::Duration;

/// Both directions.
pub(crate) struct Duplex {
    /// From the client to the endpoint, and back.
    up: Pipe,
    down: Pipe,
    /// The side that ended first, if one has.
    first: Option<End>,
    /// How long nothing may move, since when nothing did, and when that is looked at.
    idle: Duration,
    moved_at: Tick,
    look_at: Tick,
}

impl Duplex {
    /// One that begins with what the client said already. Whoever runs it is woken by `alarm`.
    pub(crate) fn beginning_with(said: &[u8], buffers: &Buffers, idle: Duration, alarm: &Alarm) -> Duplex {
        let clock = alarm.clock();
        let look_at = clock.after(idle);
        alarm.clear();
        alarm.lower(look_at);
        let up = Pipe::beginning_with(said, buffers);
        Duplex { up, down: Pipe::default(), first: None, idle, moved_at: clock.now(), look_at }
    }

    /// Bytes that went to the endpoint, and to the client.
    pub(crate) fn moved(&self) -> [u64; 2] {
        [self.up.moved, self.down.moved]
    }

    /// Move what can be moved; ready when both sides have ended, or one is broken. An end is passed on in its own direction only
    /// (safety.md 170).
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        lenders: Lenders<'_>,
        clock: &Clock,
        (client, endpoint): (&mut Stream, &mut Stream),
    ) -> Poll<End> {
        let before = self.moved();
        let up = self.up.poll(cx, lenders, client, endpoint);
        let down = self.down.poll(cx, lenders, endpoint, client);
        self.note_end(self.up.is_ending(), End::ClientClosed);
        self.note_end(self.down.is_ending(), End::EndpointClosed);
        if self.moved() != before {
            self.moved_at = clock.now();
        }
        match (up, down) {
            (Poll::Ready(Err(Broken::Source)), _) | (_, Poll::Ready(Err(Broken::Receiver))) => {
                Poll::Ready(self.broken(End::ClientClosed, End::ClientReset))
            }
            (Poll::Ready(Err(Broken::Receiver)), _) | (_, Poll::Ready(Err(Broken::Source))) => {
                Poll::Ready(self.broken(End::EndpointClosed, End::EndpointReset))
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(self.first.unwrap_or(End::ClientClosed)),
            _ => Poll::Pending,
        }
    }

    fn note_end(&mut self, ending: bool, end: End) {
        if ending {
            self.first.get_or_insert(end);
        }
    }

    /// A side that had ended before has closed; one that had not is broken. Either way the other side is not told of an end in
    /// order: what it got may not be all.
    fn broken(&self, closed: End, reset: End) -> End {
        if self.first == Some(closed) { closed } else { reset }
    }

    /// Ready when nothing has moved for too long: silence is judged over both directions. The alarm stays where it is while bytes
    /// move; it is looked at when it rings, which it also does by `leave_at`.
    pub(crate) fn poll_idle(&mut self, alarm: &Alarm, leave_at: Tick) -> Poll<End> {
        let clock = alarm.clock();
        if clock.now() >= self.look_at {
            let left = self.idle.saturating_sub(Clock::span(clock.now().saturating_sub(self.moved_at)));
            if left.is_zero() {
                return Poll::Ready(End::Idle);
            }
            self.look_at = clock.after(left);
            alarm.lower(self.look_at.min(leave_at));
        }
        Poll::Pending
    }

    /// Give back what is borrowed, with what is in it.
    pub(crate) fn let_go(&mut self, lenders: Lenders<'_>) {
        self.up.let_go(lenders);
        self.down.let_go(lenders);
    }
}
