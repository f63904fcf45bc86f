//! Connections of HTTP/2 to one endpoint, each shared by requests of one worker.

mod dial;
mod drive;

pub(crate) use dial::{Dial, adopt, dial};

use super::circuit::Taken;
use crate::clock::{Clock, NEVER, Tick};
use crate::codec::h2::{Link, Live};
use bytes::Bytes;
use h2::client::SendRequest;
use penstock_plan::{Upstream, UpstreamProtocol};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A connection whose socket took nothing for so long gets no new requests.
const BLOCKED: Duration = Duration::from_secs(1);

/// An endpoint that chose HTTP/1.1 is asked again after so long.
const FALLEN_BACK: Duration = Duration::from_secs(60);

/// One connection.
pub(crate) struct Channel {
    link: Rc<Link>,
    /// `None`: it takes no more requests.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Its place among the connections that the upstream may have.
    taken: RefCell<Option<Taken>>,
    secure: bool,
    /// How long it is kept unused, and until when.
    idle: Duration,
    until: Cell<Tick>,
    /// A request was sent over it before.
    used: Cell<bool>,
    clock: Rc<Clock>,
}

impl Channel {
    /// Take no more requests. It is closed when those that are under way have ended.
    pub(crate) fn close(&self) {
        self.sender.take();
        if self.link.live() == 0 {
            self.taken.take();
        }
    }

    fn is_open(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Whether one more request may be sent over it now, where there may be so many at once.
    fn has_room(&self, most: usize) -> bool {
        let blocked_since = self.link.blocked_since();
        if blocked_since != NEVER && self.clock.now() >= blocked_since.saturating_add(Clock::ticks(BLOCKED)) {
            return false;
        }
        // One that is unused and has something to say may be about to end: it says so before it is asked again.
        if self.link.live() == 0 && self.link.look(crate::stream::Stream::is_disturbed) {
            return false;
        }
        self.is_free(most)
    }

    /// Whether it has fewer requests than it may.
    fn is_free(&self, most: usize) -> bool {
        let Some(mut sender) = self.sender.borrow().clone() else { return false };
        if let Poll::Ready(Err(_)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            // The endpoint has said that it takes no more (GOAWAY), or there are no more numbers for streams.
            drop(sender);
            self.close();
            return false;
        }
        self.link.live() < most.min(sender.current_max_send_streams())
    }

    fn is_unused(&self) -> bool {
        self.link.live() == 0
    }
}

/// A place for one request on a connection.
pub(crate) struct Lease {
    channel: Rc<Channel>,
    _live: Live,
    /// Others were sent over it before.
    pub(crate) reused: bool,
}

impl Lease {
    fn of(channel: &Rc<Channel>) -> Lease {
        Lease { channel: Rc::clone(channel), _live: channel.link.open(), reused: channel.used.replace(true) }
    }

    pub(crate) fn link(&self) -> &Rc<Link> {
        &self.channel.link
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.channel.secure
    }

    pub(crate) fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.channel.sender.borrow().clone()
    }

    /// Whether the endpoint has WebSockets on its streams (RFC 8441 §3).
    pub(crate) fn takes_websockets(&self) -> bool {
        self.sender().is_some_and(|sender| sender.is_extended_connect_protocol_enabled())
    }

    /// Close the connection if nobody else uses it.
    pub(crate) fn close_if_last(&self) {
        if self.channel.link.live() == 1 {
            self.channel.close();
            self.channel.taken.take();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.channel.link.live() == 1 {
            self.channel.until.set(self.channel.clock.after(self.channel.idle));
            if !self.channel.is_open() {
                self.channel.taken.take();
            }
        }
    }
}

/// All connections to an endpoint, and those that are being made.
#[derive(Default)]
pub(crate) struct Channels {
    open: RefCell<Vec<Rc<Channel>>>,
    dials: RefCell<Vec<Rc<Dial>>>,
    /// Until when an endpoint that chose HTTP/1.1 is taken to do so again.
    fallen_back: Cell<Tick>,
}

impl Channels {
    /// A place on a connection that is there: the oldest that has one, so that those that are not needed become unused.
    pub(crate) fn take(&self, most: usize) -> Option<Lease> {
        self.open.borrow().iter().find(|channel| channel.has_room(most)).map(Lease::of)
    }

    /// A connection that is being made, and has room for one more that waits for it.
    pub(crate) fn dialed(&self, most: usize) -> Option<Rc<Dial>> {
        self.dials.borrow().iter().find(|dial| dial.waiting() < most).cloned()
    }

    /// Whether there is a connection that takes requests.
    pub(crate) fn is_open(&self) -> bool {
        self.open.borrow().iter().any(|channel| channel.is_open())
    }

    /// The endpoint chose HTTP/1.1.
    pub(crate) fn fall_back(&self, clock: &Clock) {
        self.fallen_back.set(clock.after(FALLEN_BACK));
    }

    /// Whether the endpoint chose HTTP/1.1 not long ago.
    pub(crate) fn has_fallen_back(&self, now: Tick) -> bool {
        now < self.fallen_back.get()
    }

    /// Unused connections.
    pub(crate) fn idle(&self) -> usize {
        self.open.borrow().iter().filter(|channel| channel.is_unused()).count()
    }

    /// Close what is unused for too long or not `current`, and unused ones beyond `most`, the oldest first.
    pub(crate) fn sweep(&self, now: Tick, most: usize, current: impl Fn(&Link) -> bool) {
        let open = self.open.borrow();
        let mut surplus = self.idle().saturating_sub(most);
        for channel in open.iter() {
            let unused = channel.is_unused();
            if !current(&channel.link) || (unused && (surplus > 0 || channel.until.get() <= now)) {
                channel.close();
            }
            surplus = surplus.saturating_sub(usize::from(unused));
        }
    }

    /// Close the unused one that is oldest, to make room; whether there was one.
    pub(crate) fn shed_one(&self) -> bool {
        let unused = |channel: &&Rc<Channel>| channel.is_unused() && channel.is_open();
        let open = self.open.borrow();
        let found = open.iter().find(unused);
        found.inspect(|channel| channel.close()).is_some()
    }

    /// Close all unused ones; how many there were.
    pub(crate) fn shed(&self) -> usize {
        std::iter::from_fn(|| self.shed_one().then_some(())).count()
    }

    /// Close all, those in use once they are not.
    pub(crate) fn clear(&self) {
        self.open.borrow().iter().for_each(|channel| channel.close());
    }
}

/// What a plan says of connections to an upstream's endpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Requests at once.
    pub(crate) most: usize,
    /// Bytes and fields of a head.
    head: u32,
    idle: Duration,
    pub(crate) connect: Duration,
    protocol: UpstreamProtocol,
}

impl Terms {
    pub(crate) fn of(plan: &Upstream) -> Terms {
        Terms {
            most: usize::from(plan.limits.streams),
            head: plan.limits.head,
            idle: plan.timeouts.idle,
            connect: plan.timeouts.connect,
            protocol: plan.protocol,
        }
    }
}
