//! HTTP/2, either side: one stream is one exchange. Frames, windows and HPACK are the `h2` crate's; here its messages become those
//! of the exchange, and what waits is bounded.

mod account;
mod client;
mod link;
mod sink;
mod source;
mod tunnelled;

pub(crate) use link::{Io, Link, Live};
pub(crate) use tunnelled::Tunnelled;

use super::h1::{CLIENT, Faults, Waits};
use super::{Downstream, Tunnel};
use crate::clock::{Alarm, NEVER, Tick};
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use penstock_rules::error::Kind;
use penstock_rules::http::{HeadLimits, Known, Length, Pseudo, RequestHead, ResponseHead, Target, Version, passed_on};
use penstock_rules::pace::{LeastRate, Pace};
use sink::Sink;
use source::Source;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// One stream. `S`: which side we are.
pub(crate) struct H2<S: Side = Server> {
    link: Rc<Link>,
    alarm: Rc<Alarm>,
    waits: Waits,
    source: Source,
    sink: Sink<S::Head>,
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
    /// What goes wrong on the other side is named so.
    const FAULTS: Faults;

    /// Let the head go; where its body goes.
    fn begin(&mut self, head: Self::Head, ends: bool) -> Result<SendStream<Bytes>, Kind>;
}

/// We answer.
pub(crate) struct Server {
    respond: SendResponse<Bytes>,
    /// It asked for HEAD.
    to_head: bool,
    /// It asked for another protocol on its stream, or for a tunnel.
    to_switch: bool,
}

impl Side for Server {
    type Head = Response<()>;
    const FAULTS: Faults = Faults { malformed: Kind::BadFrame, ..CLIENT };

    fn begin(&mut self, head: Response<()>, ends: bool) -> Result<SendStream<Bytes>, Kind> {
        self.respond.send_response(head, ends).map_err(|_| Kind::ClientClosed)
    }
}

impl<S: Side> H2<S> {
    fn on(link: Rc<Link>, alarm: Rc<Alarm>, waits: Waits, side: S) -> H2<S> {
        let (source, sink, pace) = (Source::new(), Sink::new(), Pace::default());
        H2 { link, alarm, waits, source, sink, write_by: NEVER, write_mark: 0, pace, side }
    }
}

impl H2 {
    pub(crate) fn new(
        link: Rc<Link>,
        alarm: Rc<Alarm>,
        waits: Waits,
        (recv, respond): (RecvStream, SendResponse<Bytes>),
    ) -> H2 {
        let mut stream = H2::on(link, alarm, waits, Server { respond, to_head: false, to_switch: false });
        stream.source.begin(recv);
        stream
    }

    /// Read the head that this stream began with. `nonce`: for the key of a WebSocket; `elsewhere`: a forward proxy is asked.
    ///
    /// # Errors
    /// As [`RequestHead::assemble`].
    pub(crate) fn read_head(
        &mut self,
        parts: &Parts,
        head: &mut RequestHead,
        (limits, elsewhere): (&HeadLimits, bool),
        nonce: [u8; 16],
    ) -> Result<(), Kind> {
        let pseudo = Pseudo {
            method: parts.method.as_str(),
            scheme: parts.uri.scheme_str(),
            authority: parts.uri.authority().map(|authority| authority.as_str()),
            path: parts.uri.path_and_query().map_or("", |path| path.as_str()),
            protocol: parts.extensions.get::<Protocol>().map(Protocol::as_str),
            elsewhere,
        };
        self.side.to_head = pseudo.method == "HEAD";
        let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        head.assemble(&pseudo, fields, self.source.is_over(), limits)?;
        if head.is_extended_connect() {
            head.set_websocket_key(nonce);
        }
        self.side.to_switch = head.is_extended_connect() || head.target == Target::Tunnel;
        Ok(())
    }

    /// End the stream without an answer, because of a fault of the client's.
    pub(crate) fn refuse(&mut self) {
        self.link.refuse();
        self.side.respond.send_reset(Reason::PROTOCOL_ERROR);
    }

    /// Add what every final response has.
    fn sign(&self, response: &mut Response<()>, head: &ResponseHead, via: bool) {
        if via {
            let via = match head.version {
                Version::Http10 => "1.0 penstock",
                Version::Http11 => "1.1 penstock",
                Version::Http2 => "2.0 penstock",
            };
            response.headers_mut().append(http::header::VIA, HeaderValue::from_static(via));
        }
        if response.status().as_u16() >= 200
            && head.fields.known(Known::Date).is_none()
            && let Ok(date) = HeaderValue::from_bytes(&self.alarm.clock().date())
        {
            response.headers_mut().insert(http::header::DATE, date);
        }
    }

    /// Whether the client has given the stream up.
    pub(crate) fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll_gone(cx).is_ready()
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
        let head = self.sink.retract();
        if let Some(head) = &head {
            self.sink.written -= size(head.headers());
        }
        head.is_some()
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
        let mut response = message(head);
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove("sec-websocket-accept");
        self.sign(&mut response, head, true);
        let size = size(response.headers());
        self.sink.stage(response, size, false, None);
        StatusCode::OK.as_u16()
    }

    fn respond_connected(&mut self) -> bool {
        self.sink.stage(Response::new(()), 0, false, None);
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
        let mut response = message(head);
        self.sign(&mut response, head, via);
        if let Some(bytes) = named {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, bytes.into());
        }
        let size = size(response.headers());
        self.sink.stage(response, size, bodiless || length == Some(0), length);
    }

    fn interim(&mut self, head: &ResponseHead) {
        let response = message(head);
        self.sink.written += size(response.headers());
        // Whoever reset the stream is noticed elsewhere.
        let _ = self.side.respond.send_informational(response);
    }

    fn close_after(&mut self) {
        // Other streams go on: what is still sent of this one is refused when it ends (RFC 9113 §8.1).
    }

    fn abort(&mut self) {
        self.side.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sink.send {
            None => self.side.respond.poll_reset(cx).map(|_| ()),
            Some(send) => send.poll_reset(cx).map(|_| ()),
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_gone(cx)
    }

    fn tell_broken(&mut self) {
        self.side.respond.send_reset(Reason::CONNECT_ERROR);
    }
}

/// A head as the crate wants it, without what tells a length.
fn message(head: &ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    // With those that are added, and at once.
    fields.reserve(head.fields.len() + 3);
    for field in passed_on(head) {
        let name = match field.known {
            Known::ContentType => Ok(http::header::CONTENT_TYPE),
            Known::Date => Ok(http::header::DATE),
            Known::Via => Ok(http::header::VIA),
            _ => HeaderName::from_bytes(field.name),
        };
        // Both were checked when the head was read; what could not be said is not.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            let _ = fields.try_append(name, value);
        }
    }
    response
}

/// Bytes of a head before it is packed.
fn size(fields: &HeaderMap) -> u64 {
    fields.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}
