//! Between bytes and messages. A codec knows how a message looks on its wire; the rest of the proxy sees heads and bodies
//! through these traits, and is the same for every version.

pub(crate) mod h1;
pub(crate) mod h2;

use crate::clock::Alarm;
use crate::exchange::Story;
use penstock_rules::error::Kind;
use penstock_rules::http::{Fields, HeadLimits, RequestHead, RequestLines, ResponseHead};
use penstock_rules::pace::LeastRate;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a body has next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Bytes, to be seen with [`Incoming::chunk`].
    Bytes,
    /// Nothing more.
    End,
}

/// A body as it comes in.
pub(crate) trait Incoming {
    /// Wait for bytes or the end. Fails by itself when the peer keeps it waiting too long.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Chunk, Kind>>;
    /// The bytes that are here now.
    fn chunk(&self) -> &[u8];
    /// Use up the first `count` of them.
    fn consume(&mut self, count: usize);
    /// Fields behind the body that may be forwarded.
    fn trailers(&self) -> Option<Fields>;
    /// Whether all of the body was consumed.
    fn is_ended(&self) -> bool;
    /// Bytes of the body that were seen so far.
    fn received(&self) -> u64;
    /// Do not blame the peer for so many ticks: the other side could not take more.
    fn excuse(&mut self, ticks: u64);
}

/// A body as it goes out.
pub(crate) trait Outgoing {
    /// Take some of `bytes`, which are not empty; how many. May hold small ones back until [`Self::poll_flush`].
    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Kind>>;
    /// Bytes of the body that were taken so far.
    fn sent(&self) -> u64;
    /// The body ends here. Staged: flush after it. Trailers go out only to a peer that takes them.
    fn finish(&mut self, trailers: Option<&Fields>);
    /// Write out what is held back.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Kind>>;
    /// Nothing more goes out; said to the peer, where its version can.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A stream whose bytes are passed on as they are, behind an upgrade.
pub(crate) trait Tunnel: Incoming + Outgoing {
    /// From now on bytes are passed as they are, both ways; `idle` is how long they may stay away.
    fn become_tunnel(&mut self, idle: Duration);
}

/// The client's side of an exchange.
pub(crate) trait Downstream: Tunnel {
    /// Take in the body that `head` announces, up to `limit` bytes and no slower than `rate`.
    fn accept_body(&mut self, head: &RequestHead, limit: Option<u64>, rate: LeastRate);
    /// Let the body have at most `limit` bytes, those included that came.
    fn limit_body(&mut self, limit: u64);
    /// Take back a response head that was staged but not written; false if some of it was.
    fn retract(&mut self) -> bool;
    /// Take back all that was staged since so many bytes were written or staged; false if some of it was written.
    fn take_back(&mut self, before: u64) -> bool;
    /// Bytes written to the client on this connection, those included that are staged.
    fn written(&self) -> u64;
    /// Whoever wakes the task of this exchange.
    fn alarm(&self) -> &Rc<Alarm>;
    /// Whether a final response of this status can be told of: where it would mean that the protocol was switched, it cannot.
    fn takes(&self, _status: u16) -> bool {
        true
    }
    /// Stage the head of the final response. `via`: it came from an origin.
    fn respond(&mut self, head: &ResponseHead, via: bool);
    /// Stage the head that says that the endpoint switched protocols; the status that the client sees.
    fn respond_switched(&mut self, head: &ResponseHead) -> u16 {
        self.respond(head, true);
        head.status
    }
    /// Stage the head that says that a tunnel is open, which the client asked for with `CONNECT`; false where it cannot have.
    fn respond_connected(&mut self) -> bool {
        false
    }
    /// The connection, where a tunnel may have it whole: nothing but this exchange is on it, and nobody looks on.
    fn whole_connection(&mut self) -> Option<&mut h1::H1> {
        None
    }
    /// What the client says first in its tunnel, as far as it is here; it stays where it is. Ready when there is more of it than
    /// `seen` bytes, or the client says no more.
    fn poll_ahead(&mut self, _cx: &mut Context<'_>, _seen: usize) -> Poll<Result<&[u8], Kind>> {
        Poll::Ready(Err(Kind::MethodNotAllowed))
    }
    /// Stage an interim response.
    fn interim(&mut self, head: &ResponseHead);
    /// Close behind this exchange.
    fn close_after(&mut self);
    /// End now what the connection was: it goes on as something else.
    fn hand_over(&mut self) {}
    /// Close now, so that the client cannot take what it got of the response for the whole (safety.md 85).
    fn abort(&mut self);
    /// Ready only when the client is gone for good; a client that only stopped sending is still there.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Ready when the client has broken its tunnel, where that is said otherwise than by closing a connection.
    fn poll_broken(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    /// The other end of its tunnel broke: say so, where that can be said otherwise than by closing a connection.
    fn tell_broken(&mut self) {}
    /// The exchange has ended and is recorded: for whoever only looks on.
    fn ended(&mut self, _story: &Story<'_>) {}
}

/// The endpoint's side of an exchange.
pub(crate) trait Upstream: Tunnel {
    /// Stage the head of a request; it goes out with the first bytes of its body, or without any.
    fn ask(&mut self, head: &RequestHead, lines: &RequestLines<'_>);
    /// Wait for a response head. `Ok(None)`: the endpoint closed before the first byte of one.
    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        limits: &HeadLimits,
        to_head: bool,
    ) -> Poll<Result<Option<()>, Kind>>;
    /// Whether the endpoint is known to have done nothing with the request that failed.
    fn is_unprocessed(&self) -> bool;
    /// Take in the body that `head` announces.
    fn accept_answer(&mut self, head: &ResponseHead);
    /// The connection carries nothing behind this exchange, if it is this exchange's alone.
    fn spoil(&mut self);
    /// Let the end be a reset, because the client has broken its tunnel.
    fn break_off(&mut self) {}
    /// Why TLS broke, if it did.
    fn failure(&self) -> Option<Box<str>>;
}
