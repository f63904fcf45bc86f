//! HTTP/2 on a client's connection: one stream is one exchange. Frames, windows and HPACK are the `h2` crate's; here its
//! messages become those of the exchange, and what waits is bounded.

mod link;
mod sink;
mod source;

pub(crate) use link::{Io, Link};

use super::h1::Waits;
use super::{Downstream, Tunnel};
use crate::clock::{Alarm, NEVER, Tick};
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use penstock_rules::error::Kind;
use penstock_rules::http::{HeadLimits, Length, Pseudo, RequestHead, ResponseHead, passed_on};
use penstock_rules::pace::{LeastRate, Pace};
use sink::Sink;
use source::Source;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// One stream of a client's connection.
pub(crate) struct H2 {
    link: Rc<Link>,
    alarm: Rc<Alarm>,
    waits: Waits,
    recv: RecvStream,
    respond: SendResponse<Bytes>,
    /// Where the body goes; nothing before the head of the answer went.
    send: Option<SendStream<Bytes>>,
    source: Source,
    sink: Sink,
    write_by: Tick,
    /// Bytes that were taken when `write_by` was set.
    write_mark: u64,
    pace: Pace,
    /// It asked for HEAD.
    to_head: bool,
    /// It asked for another protocol on its stream.
    to_switch: bool,
}

impl H2 {
    pub(crate) fn new(
        link: Rc<Link>,
        alarm: Rc<Alarm>,
        waits: Waits,
        (recv, respond): (RecvStream, SendResponse<Bytes>),
    ) -> H2 {
        let source = Source::new(recv.is_end_stream());
        let (sink, pace) = (Sink::default(), Pace::default());
        H2 {
            link,
            alarm,
            waits,
            recv,
            respond,
            send: None,
            source,
            sink,
            write_by: NEVER,
            write_mark: 0,
            pace,
            to_head: false,
            to_switch: false,
        }
    }

    /// Read the head that this stream began with. `nonce`: for the key of a WebSocket.
    ///
    /// # Errors
    /// As [`RequestHead::assemble`].
    pub(crate) fn read_head(
        &mut self,
        parts: &Parts,
        head: &mut RequestHead,
        limits: &HeadLimits,
        nonce: [u8; 16],
    ) -> Result<(), Kind> {
        let pseudo = Pseudo {
            method: parts.method.as_str(),
            scheme: parts.uri.scheme_str(),
            authority: parts.uri.authority().map(|authority| authority.as_str()),
            path: parts.uri.path_and_query().map_or("", |path| path.as_str()),
            protocol: parts.extensions.get::<Protocol>().map(Protocol::as_str),
        };
        self.to_head = pseudo.method == "HEAD";
        let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        head.assemble(&pseudo, fields, self.source.is_over(), limits)?;
        if head.is_extended_connect() {
            self.to_switch = true;
            head.set_websocket_key(nonce);
        }
        Ok(())
    }

    /// End the stream without an answer, because of a fault of the client's.
    pub(crate) fn refuse(&mut self) {
        self.link.refuse();
        self.respond.send_reset(Reason::PROTOCOL_ERROR);
    }

    /// Add what every final response has.
    fn sign(&self, response: &mut Response<()>, head: &ResponseHead, via: bool) {
        if via {
            let number = if head.version.number() == "1.0" { "1.0 penstock" } else { "1.1 penstock" };
            response.headers_mut().append(http::header::VIA, HeaderValue::from_static(number));
        }
        if response.status().as_u16() >= 200
            && !response.headers().contains_key(http::header::DATE)
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

impl Tunnel for H2 {
    fn become_tunnel(&mut self, idle: Duration) {
        self.waits = Waits { body: idle, write: idle, rate: LeastRate::NONE };
        let clock = self.alarm.clock();
        self.source.expect_body(None, LeastRate::NONE, (clock.now(), clock.after(idle)));
    }
}

impl Downstream for H2 {
    fn accept_body(&mut self, _: &RequestHead, limit: Option<u64>, rate: LeastRate) {
        if self.to_switch {
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
        self.sink.retract()
    }

    fn take_back(&mut self, _: u64) -> bool {
        self.send.is_none() && {
            self.sink.retract();
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
        !(self.to_switch && (200..300).contains(&status))
    }

    fn respond_switched(&mut self, head: &ResponseHead) -> u16 {
        let mut response = message(head);
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove("sec-websocket-accept");
        self.sign(&mut response, head, true);
        self.sink.stage(response, false, None);
        StatusCode::OK.as_u16()
    }

    fn respond(&mut self, head: &ResponseHead, via: bool) {
        let bodiless = self.to_head || head.status < 200 || head.status == 204 || head.status == 304;
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
        self.sink.stage(response, bodiless || length == Some(0), length);
    }

    fn interim(&mut self, head: &ResponseHead) {
        let response = message(head);
        self.sink.written += size(&response);
        // Whoever reset the stream is noticed elsewhere.
        let _ = self.respond.send_informational(response);
    }

    fn close_after(&mut self) {
        // Other streams go on: what is still sent of this one is refused when it ends (RFC 9113 §8.1).
    }

    fn abort(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.send {
            None => self.respond.poll_reset(cx).map(|_| ()),
            Some(send) => send.poll_reset(cx).map(|_| ()),
        }
    }
}

/// A head as the crate wants it, without what tells a length.
fn message(head: &ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let fields = response.headers_mut();
    for field in passed_on(head) {
        // Both were checked when the head was read; what could not be said is not.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value)) {
            let _ = fields.try_append(name, value);
        }
    }
    response
}

/// Bytes of a head before it is packed.
fn size(response: &Response<()>) -> u64 {
    response.headers().iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}
