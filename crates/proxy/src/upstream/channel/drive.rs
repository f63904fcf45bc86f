//! What moves a connection of HTTP/2 to an endpoint, and notices that it is dead.

use super::Channel;
use crate::clock::{Alarm, Clock, NEVER, Tick};
use crate::codec::h2::Io;
use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Nothing was heard for so long while something is awaited: the endpoint is asked whether it is there, and has so long to say so.
const QUIET: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(5);
/// Pings between two parts of messages. Servers of gRPC take a third for a flood, and end the connection.
const MOST_PINGS: u8 = 2;

pub(super) struct Drive {
    pub(super) channel: Rc<Channel>,
    connection: Connection<Io, Bytes>,
    ping: Option<PingPong>,
    alarm: Alarm,
    /// Until when something must be heard, once that was asked.
    pong_by: Tick,
    /// What [`crate::codec::h2::Link::reads`] was then.
    before: u64,
}

impl Drive {
    pub(super) fn new(channel: Rc<Channel>, mut connection: Connection<Io, Bytes>) -> Drive {
        let (ping, alarm) = (connection.ping_pong(), channel.clock.alarm());
        Drive { channel, connection, ping, alarm, pong_by: NEVER, before: 0 }
    }

    /// Wait until the endpoint has said what it takes; false if it ends before.
    pub(super) async fn settle(&mut self) -> bool {
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending if self.channel.link.is_settled() => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Serve the connection until it is over.
    pub(super) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let link = &self.channel.link;
        self.alarm.register(cx);
        self.alarm.clear();
        link.begin_turn();
        let over = Pin::new(&mut self.connection).poll(cx).is_ready();
        // The requests under way are told by what they meet.
        if over || link.take_verdict().is_some() || self.is_dead(cx) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the endpoint owes us a sign of life.
    fn is_dead(&mut self, cx: &mut Context<'_>) -> bool {
        let (link, now) = (&self.channel.link, self.channel.clock.now());
        let Some(ping) = &mut self.ping else { return false };
        let _ = ping.poll_pong(cx);
        if self.pong_by != NEVER && link.reads() != self.before {
            self.pong_by = NEVER;
        }
        if self.pong_by == NEVER && link.is_unanswered() && link.pings().get() < MOST_PINGS {
            let at = link.heard_at().saturating_add(Clock::ticks(QUIET));
            if now < at {
                self.alarm.lower(at);
            } else if ping.send_ping(Ping::opaque()).is_ok() {
                link.pings().set(link.pings().get() + 1);
                (self.before, self.pong_by) = (link.reads(), self.channel.clock.after(PATIENCE));
                // It is still to be written.
                cx.waker().wake_by_ref();
            }
        }
        self.alarm.lower(self.pong_by);
        now >= self.pong_by
    }
}
