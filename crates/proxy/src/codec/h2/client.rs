//! HTTP/2 to an endpoint: a stream on a connection that other exchanges have streams on, too.

use super::{H2, Inbound, Link, Outbound, Side};
use crate::clock::Alarm;
use crate::codec::h1::{ENDPOINT, Faults, Waits};
use crate::codec::{Outgoing, Upstream};
use crate::upstream::channel::Lease;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use penstock_rules::error::Kind;
use penstock_rules::http::h2::Cut;
use penstock_rules::http::{
    BodyFraming, FieldWriter, Fields, HeadLimits, Length, RequestHead, RequestLines, ResponseHead, write_host,
    write_request_fields,
};
use penstock_rules::pace::LeastRate;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// We ask.
pub(crate) struct Client {
    lease: Lease,
    answer: Option<ResponseFuture>,
    /// The endpoint is known to have done nothing with the request.
    unprocessed: bool,
    /// Why the endpoint cannot be asked this in HTTP/2.
    unsayable: Option<Kind>,
    /// It is asked for a WebSocket; what answers the client's key.
    accept: Option<Box<str>>,
}

impl Side for Client {
    type Head = Request<()>;
    type Inbound = Received;
    type Outbound = Sent;
    const FAULTS: Faults = ENDPOINT;

    fn begin(&mut self, head: Request<()>, ends: bool) -> Result<Sent, Kind> {
        let sent = self.lease.sender().and_then(|mut sender| sender.send_request(head, ends).ok());
        let Some((answer, send)) = sent else {
            self.unprocessed = true;
            return Err(Kind::UpstreamClosed);
        };
        self.answer = Some(answer);
        Ok(Sent { send, link: Rc::clone(self.lease.link()) })
    }
}

/// What comes of an answer. What the crate keeps of it is charged until it is used up.
pub(crate) struct Received {
    recv: RecvStream,
    link: Rc<Link>,
}

impl Inbound for Received {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        self.recv.poll_data(cx).map(|came| came.transpose().map_err(|error| cut(&error)))
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Fields>, Cut>> {
        let trailers = ready!(self.recv.poll_trailers(cx)).map_err(|error| cut(&error))?;
        Poll::Ready(Ok(trailers.map(|trailers| {
            let mut fields = Fields::default();
            trailers.iter().for_each(|(name, value)| fields.push(name, value));
            fields
        })))
    }

    fn used_up(&mut self, count: usize) {
        self.link.account().used_up(count);
        // Of a stream that is gone nothing has to be given back.
        let _ = self.recv.flow_control().release_capacity(count);
    }
}

/// Where the body of a request goes.
pub(crate) struct Sent {
    send: SendStream<Bytes>,
    link: Rc<Link>,
}

impl Outbound for Sent {
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Cut>> {
        self.send.reserve_capacity(wanted);
        loop {
            match self.send.capacity() {
                0 => match ready!(self.send.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    _ => return Poll::Ready(Err(Cut::Broken)),
                },
                room => return Poll::Ready(Ok(room)),
            }
        }
    }

    fn send(&mut self, bytes: &[u8], ends: bool) -> Result<(), Cut> {
        self.send.send_data(Bytes::copy_from_slice(bytes), ends).map_err(|_| Cut::Broken)?;
        self.link.account().staged(bytes.len());
        Ok(())
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        // Whoever reset the stream has no use for its end.
        let _ = match trailers {
            Some(trailers) => self.send.send_trailers(map(trailers)),
            None => self.send.send_data(Bytes::new(), true),
        };
    }

    fn cancel(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

/// Why a body ends before its end. What the crate itself refuses breaks the protocol: more or less content than was announced, above all.
fn cut(error: &h2::Error) -> Cut {
    if error.is_library() && error.is_reset() { Cut::Malformed } else { Cut::Broken }
}

fn map(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::new();
    for field in fields.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value)) {
            let _ = map.try_append(name, value);
        }
    }
    map
}

impl H2<Client> {
    /// A stream of the connection that `lease` is of.
    pub(crate) fn over(lease: Lease, alarm: Rc<Alarm>, waits: Waits) -> H2<Client> {
        H2::on(
            Rc::clone(lease.link()),
            alarm,
            waits,
            Client { lease, answer: None, unprocessed: false, unsayable: None, accept: None },
        )
    }

    /// Close the connection if nobody else uses it.
    pub(crate) fn close_if_last(&self) {
        self.side.lease.close_if_last();
    }

    /// The request as the crate wants it, and how long its body is, where that is told.
    fn request(&mut self, head: &RequestHead, lines: &RequestLines<'_>) -> Result<(Request<()>, Option<u64>), Kind> {
        let accept = if head.options.upgrade { Some(head.websocket_accept()?) } else { None };
        if accept.is_some() && !self.side.lease.takes_websockets() {
            return Err(Kind::UpgradeUnsupported);
        }
        let mut request = message(head, lines, self.side.lease.is_secure()).ok_or(Kind::BadUri)?;
        if let Some(accept) = accept {
            ask_to_switch(&mut request);
            self.side.accept = Some(accept.into());
            self.sink.hold();
            return Ok((request, None));
        }
        let length = match lines.framing {
            BodyFraming::Bytes(bytes) => Some(bytes),
            BodyFraming::None => Some(0),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        };
        Ok((request, length))
    }

    /// What it is called that the stream or its connection failed before the head of an answer came.
    fn name(&mut self, error: &h2::Error) -> Kind {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        if error.is_remote() {
            // RFC 9113 §8.7: of a stream that is refused, or above the last that GOAWAY names, nothing was done.
            self.side.unprocessed |= refused || error.is_go_away();
        }
        match (error.is_remote(), error.is_reset()) {
            _ if self.link.is_halted() => Kind::BadResponse,
            (true, true) if refused => Kind::UpstreamRefused,
            (true, true) => Kind::UpstreamReset,
            _ if error.is_library() => Kind::BadResponse,
            _ => Kind::UpstreamClosed,
        }
    }
}

impl Upstream for H2<Client> {
    fn ask(&mut self, head: &RequestHead, lines: &RequestLines<'_>) {
        match self.request(head, lines) {
            Ok((request, length)) => self.sink.stage(request, 0, length == Some(0), length),
            Err(kind) => {
                self.side.unsayable = Some(kind);
                // Another endpoint may have them.
                self.side.unprocessed = kind == Kind::UpgradeUnsupported;
                self.sink.close();
            }
        }
    }

    fn poll_response(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
        limits: &HeadLimits,
        to_head: bool,
    ) -> Poll<Result<Option<()>, Kind>> {
        if let Some(kind) = self.side.unsayable {
            return Poll::Ready(Err(kind));
        }
        self.begin()?;
        let Some(answer) = &mut self.side.answer else { return Poll::Ready(Ok(None)) };
        let said = match ready!(answer.poll_informational(cx)) {
            Some(interim) => interim.map(|interim| (interim.into_parts().0, None)),
            None => ready!(Pin::new(answer).poll(cx)).map(|response| {
                let (parts, recv) = response.into_parts();
                (parts, Some(recv))
            }),
        };
        let (parts, recv) = said.map_err(|error| self.name(&error))?;
        let ends = recv.as_ref().is_some_and(h2::RecvStream::is_end_stream);
        if recv.is_none() != parts.status.is_informational() || parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Poll::Ready(Err(Kind::BadResponse));
        }
        let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        head.assemble(parts.status.as_u16(), fields, (ends, to_head), limits)?;
        if let Some(accept) = self.side.accept.as_ref().filter(|_| parts.status.is_success()) {
            head.become_switch(accept);
        }
        if let Some(recv) = recv {
            let ended = recv.is_end_stream();
            self.source.begin(Received { recv, link: Rc::clone(&self.link) }, ended);
            self.side.answer = None;
        }
        Poll::Ready(Ok(Some(())))
    }

    fn is_unprocessed(&self) -> bool {
        self.side.unprocessed
    }

    fn accept_answer(&mut self, head: &ResponseHead) {
        if self.side.accept.is_some() {
            // It did not switch: nothing more is said to it.
            self.sink.let_go();
            self.finish(None);
        }
        let clock = self.alarm.clock();
        if head.length == Length::None {
            // What comes nevertheless is no content: the stream is reset when it is let go.
            self.source.close();
        }
        self.source.expect_body(None, LeastRate::NONE, (clock.now(), clock.after(self.waits.body)));
    }

    fn spoil(&mut self) {
        // The stream is this exchange's alone, and ends with it.
    }

    fn failure(&self) -> Option<Box<str>> {
        self.link.look(|stream| stream.failure().map(Into::into))
    }
}

/// A head as the crate wants it; `None` if HTTP/2 has no form for it.
fn message(head: &RequestHead, lines: &RequestLines<'_>, secure: bool) -> Option<Request<()>> {
    let mut host = Vec::new();
    write_host(head, lines, &mut host);
    let mut target = head.path().as_bytes().to_vec();
    if let Some(query) = head.query() {
        target.push(b'?');
        target.extend_from_slice(query.as_bytes());
    }
    if target.contains(&b'`') {
        // Browsers send it bare; a path has it escaped (RFC 3986 §3.3), and so has the crate.
        target = target.split(|&byte| byte == b'`').collect::<Vec<_>>().join(&b"%60"[..]);
    }
    let uri = Uri::builder()
        .scheme(if secure { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(Authority::try_from(host.as_slice()).ok()?)
        .path_and_query(PathAndQuery::try_from(target.as_slice()).ok()?)
        .build()
        .ok()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(head.method().as_bytes()).ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    let mut fields = Pairs { map: HeaderMap::new(), whole: true };
    write_request_fields(head, lines, &mut fields);
    if head.options.te_trailers {
        fields.field(b"te", &[b"trailers"]);
    }
    *request.headers_mut() = fields.map;
    fields.whole.then_some(request)
}

/// Make the `GET` of a WebSocket the extended `CONNECT` that it is in HTTP/2 (RFC 8441 §4, §5).
fn ask_to_switch(request: &mut Request<()>) {
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    for name in ["sec-websocket-key", "content-length"] {
        request.headers_mut().remove(name);
    }
}

/// Fields as the crate wants them.
struct Pairs {
    map: HeaderMap,
    /// None was left out.
    whole: bool,
}

impl FieldWriter for Pairs {
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        let value = match value {
            [value] => HeaderValue::from_bytes(value),
            parts => HeaderValue::from_bytes(&parts.concat()),
        };
        // Names come in lower case, whatever the client wrote (RFC 9113 §8.2.1).
        self.whole &= match (HeaderName::from_bytes(name), value) {
            (Ok(name), Ok(value)) => self.map.try_append(name, value).is_ok(),
            _ => false,
        };
    }

    fn lines(&mut self, lines: &[u8]) {
        for line in lines.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Some(at) = memchr::memchr(b':', line) {
                let (name, value) = line.split_at(at);
                self.field(name, &[value.get(1..).unwrap_or_default().trim_ascii()]);
            }
        }
    }
}
