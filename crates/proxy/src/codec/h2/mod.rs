//! HTTP/2, either side: one stream is one exchange. Here its messages become those of the exchange, and what waits is bounded. Frames,
//! windows and HPACK are [`penstock_rules::http::h2`]'s where a client asks us, and the `h2` crate's where we ask an endpoint.

mod account;
mod client;
mod link;
mod served;
mod sink;
mod source;
mod staged;
mod tunnelled;

pub(crate) use link::{Io, Link, Live};
pub(crate) use served::{Next, Served};
pub(crate) use tunnelled::Tunnelled;

use super::h1::{CLIENT, Faults, Waits};
use super::{Downstream, Tunnel};
use crate::clock::{Alarm, NEVER, Tick};
use bytes::Bytes;
use penstock_rules::error::Kind;
use penstock_rules::http::h2::{Cut, Head, Opened, Reason};
use penstock_rules::http::{Fields, HeadLimits, Known, Length, RequestHead, ResponseHead, Target, Version};
use penstock_rules::pace::{LeastRate, Pace};
use served::{Handle, Port};
use sink::Sink;
use source::Source;
use staged::Staged;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// One stream. `S`: which side we are.
pub(crate) struct H2<S: Side = Server> {
    link: Rc<Link>,
    alarm: Rc<Alarm>,
    waits: Waits,
    source: Source<S::Inbound>,
    sink: Sink<S::Head, S::Outbound>,
    write_by: Tick,
    /// Bytes that were taken when `write_by` was set.
    write_mark: u64,
    pace: Pace,
    side: S,
}

/// What a side does in its own way.
pub(crate) trait Side {
    /// What our message begins with.
    type Head;
    type Inbound: Inbound;
    type Outbound: Outbound;
    /// What goes wrong on the other side is named so.
    const FAULTS: Faults;

    /// Let the head go; where its body goes.
    fn begin(&mut self, head: Self::Head, ends: bool) -> Result<Self::Outbound, Kind>;
}

/// What comes in on a stream behind a head.
pub(crate) trait Inbound {
    /// What came, or the end. It is to be told when it is used up.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>>;
    /// What came behind the end.
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Fields>, Cut>>;
    /// So much of it is used up: the sender may send as much again.
    fn used_up(&mut self, count: usize);
}

/// Where the body of our message goes.
pub(crate) trait Outbound {
    /// Ready when the receiver takes some, of so much that is wanted.
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Cut>>;
    /// Send what there is room for. `ends`: and nothing behind it.
    fn send(&mut self, bytes: &[u8], ends: bool) -> Result<(), Cut>;
    /// Send the end, and what stands behind it.
    fn finish(&mut self, trailers: Option<&Fields>);
    /// Give the stream up.
    fn cancel(&mut self);
}

/// We answer.
pub(crate) struct Server {
    handle: Handle,
    /// It asked for HEAD.
    to_head: bool,
    /// It asked for another protocol on its stream, or for a tunnel.
    to_switch: bool,
}

impl Side for Server {
    type Head = Staged;
    type Inbound = Port;
    type Outbound = Port;
    const FAULTS: Faults = Faults { malformed: Kind::BadFrame, ..CLIENT };

    fn begin(&mut self, head: Staged, ends: bool) -> Result<Port, Kind> {
        self.handle.send_head(head, ends).map_err(|_| Kind::ClientClosed)?;
        Ok(self.handle.port())
    }
}

impl<S: Side> H2<S> {
    fn on(link: Rc<Link>, alarm: Rc<Alarm>, waits: Waits, side: S) -> H2<S> {
        let (source, sink, pace) = (Source::new(), Sink::new(), Pace::default());
        H2 { link, alarm, waits, source, sink, write_by: NEVER, write_mark: 0, pace, side }
    }
}

impl H2 {
    /// A stream that began; its head.
    pub(crate) fn new(served: &Rc<Served>, alarm: Rc<Alarm>, waits: Waits, opened: Opened) -> (H2, Head) {
        let handle = Handle::new(served, opened.key);
        let port = handle.port();
        let server = Server { handle, to_head: false, to_switch: false };
        let mut stream = H2::on(Rc::clone(served.link()), alarm, waits, server);
        stream.source.begin(port, opened.head.ends());
        (stream, opened.head)
    }

    /// Read the head that this stream began with. `nonce`: for the key of a WebSocket; `elsewhere`: a forward proxy is asked.
    ///
    /// # Errors
    /// As [`Head::pseudo`] and [`RequestHead::assemble`].
    pub(crate) fn read_head(
        &mut self,
        from: &Head,
        head: &mut RequestHead,
        (limits, elsewhere): (&HeadLimits, bool),
        nonce: [u8; 16],
    ) -> Result<(), Kind> {
        self.side.to_head = from.asks_for_head();
        let pseudo = from.pseudo(elsewhere)?;
        head.assemble(&pseudo, from.fields(), self.source.is_over(), limits)?;
        if head.is_extended_connect() {
            head.set_websocket_key(nonce);
        }
        self.side.to_switch = head.is_extended_connect() || head.target == Target::Tunnel;
        Ok(())
    }

    /// End the stream without an answer, because of a fault of the client's.
    pub(crate) fn refuse(&mut self) {
        self.side.handle.reset(Reason::PROTOCOL_ERROR);
    }

    /// Why there is nobody to answer, if there is not.
    pub(crate) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Option<Kind> {
        match self.side.handle.poll_cut(cx) {
            Poll::Pending => None,
            Poll::Ready(Cut::Broken) => Some(Kind::ClientClosed),
            Poll::Ready(Cut::Malformed) => Some(Kind::BadFrame),
        }
    }

    /// The head of an answer, for [`Sink::stage`], without what tells a length.
    fn compose(&self, head: &ResponseHead, status: u16, via: bool) -> Staged {
        let mut staged = Staged::new(self.link.stage(), status);
        staged.pass_on(head);
        if via {
            let via = match head.version {
                Version::Http10 => "1.0 penstock",
                Version::Http11 => "1.1 penstock",
                Version::Http2 => "2.0 penstock",
            };
            staged.add(b"via", via.as_bytes());
        }
        if status >= 200 && head.fields.known(Known::Date).is_none() {
            staged.add(b"date", &self.alarm.clock().date());
        }
        staged
    }
}

impl<S: Side> Tunnel for H2<S> {
    fn become_tunnel(&mut self, idle: Duration) {
        self.waits = Waits { body: idle, write: idle, rate: LeastRate::NONE };
        self.sink.let_go();
        let clock = self.alarm.clock();
        self.source.expect_body(None, LeastRate::NONE, (clock.now(), clock.after(idle)));
    }
}

impl Downstream for H2 {
    fn accept_body(&mut self, _: &RequestHead, limit: Option<u64>, rate: LeastRate) {
        if self.side.to_switch {
            // Nothing that comes is content: it waits in the client's window until the endpoint has switched.
            return self.source.hold();
        }
        let clock = self.alarm.clock();
        self.source.expect_body(limit, rate, (clock.now(), clock.after(self.waits.body)));
    }

    fn limit_body(&mut self, limit: u64) {
        self.source.limit(limit);
    }

    fn retract(&mut self) -> bool {
        let Some(head) = self.sink.retract() else { return false };
        self.sink.written -= head.size();
        self.link.give_back_stage(head.into_memory());
        true
    }

    fn take_back(&mut self, _: u64) -> bool {
        self.sink.send.is_none() && {
            self.retract();
            true
        }
    }

    fn written(&self) -> u64 {
        self.sink.written
    }

    fn alarm(&self) -> &Rc<Alarm> {
        &self.alarm
    }

    fn takes(&self, status: u16) -> bool {
        // RFC 9110 §9.3.6: whatever came behind it would be read as the other protocol.
        !(self.side.to_switch && (200..300).contains(&status))
    }

    fn respond_switched(&mut self, head: &ResponseHead) -> u16 {
        const OK: u16 = 200;
        let staged = self.compose(head, OK, true);
        let size = staged.size();
        self.sink.stage(staged, size, false, None);
        OK
    }

    fn respond_connected(&mut self) -> bool {
        self.sink.stage(Staged::new(self.link.stage(), 200), 0, false, None);
        true
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, seen: usize) -> Poll<Result<&[u8], Kind>> {
        while self.source.said().len() <= seen {
            if !ready!(self.source.poll_ahead(cx)).map_err(|_| Kind::ClientClosed)? {
                break;
            }
        }
        Poll::Ready(Ok(self.source.said()))
    }

    fn respond(&mut self, head: &ResponseHead, via: bool) {
        let bodiless = self.side.to_head || head.status < 200 || head.status == 204 || head.status == 304;
        let length = match head.length {
            _ if bodiless => None,
            Length::None => Some(0),
            Length::Bytes(bytes) => Some(bytes),
            Length::Chunked | Length::UntilClose => None,
        };
        // HEAD and 304 name the length that they do not have; 1xx and 204 may not (RFC 9110 §8.6).
        let named = match head.declared {
            Some(bytes) if bodiless && head.status >= 200 && head.status != 204 => Some(bytes),
            _ => length,
        };
        let mut staged = self.compose(head, head.status, via);
        if let Some(bytes) = named {
            staged.add(b"content-length", itoa::Buffer::new().format(bytes).as_bytes());
        }
        let size = staged.size();
        self.sink.stage(staged, size, bodiless || length == Some(0), length);
    }

    fn interim(&mut self, head: &ResponseHead) {
        let staged = self.compose(head, head.status, false);
        self.sink.written += staged.size();
        // Whoever reset the stream is noticed elsewhere.
        let _ = self.side.handle.send_head(staged, false);
    }

    fn close_after(&mut self) {
        // Other streams go on: what is still sent of this one is refused when it ends (RFC 9113 §8.1).
    }

    fn abort(&mut self) {
        self.side.handle.reset(Reason::INTERNAL_ERROR);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.side.handle.poll_cut(cx).map(|_| ())
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_gone(cx)
    }

    fn tell_broken(&mut self) {
        self.side.handle.reset(Reason::CONNECT_ERROR);
    }
}
