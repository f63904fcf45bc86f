//! Heads written anew from their parsed form (safety.md R1): what we add comes after what is for one hop was taken out (R6).

use super::hop::is_hop_by_hop;
use super::identity::{Identity, write_identity};
use super::{Field, Known, RequestHead, ResponseHead, Version};
use crate::forward::Outward;
use penstock_plan::HostHeader;

/// Ranges that an endpoint is asked for at most (safety.md 118).
const MOST_RANGES: u16 = 16;

/// How a written body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// No body, and nothing said of one.
    None,
    /// `Content-Length`.
    Bytes(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Ends with the connection.
    UntilClose,
}

/// Which `Host` a request is given.
#[derive(Clone, Copy, Debug)]
pub enum HostLine<'a> {
    /// The client's, canonical; this one if the client named none.
    Keep(&'a str),
    /// This one.
    Set(&'a str),
}

impl<'a> HostLine<'a> {
    /// What an upstream wants, whose endpoint has this address.
    pub fn of(header: &'a HostHeader, address: &'a str) -> HostLine<'a> {
        let own = if address.starts_with("unix:") { "localhost" } else { address };
        match header {
            HostHeader::Keep => HostLine::Keep(own),
            HostHeader::Upstream => HostLine::Set(own),
            HostHeader::Literal(host) => HostLine::Set(host),
        }
    }
}

/// What the proxy adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestLines<'a> {
    /// `Host`.
    pub host: HostLine<'a>,
    /// How the body is framed on this hop.
    pub framing: BodyFraming,
    /// Who the client is.
    pub identity: &'a Identity,
    /// Whether the client's own forwarded headers are believed and so kept.
    pub trusted: bool,
    /// What is said in place of the identity, to an origin that a forward proxy goes to.
    pub outward: Option<&'a Outward>,
    /// `X-Request-ID`, if the client's is not kept.
    pub request_id: &'a [u8],
    /// Offer the client's upgrade.
    pub upgrade: bool,
}

/// Where the fields of a message go.
pub trait FieldWriter {
    /// One field, whose value is the parts together.
    fn field(&mut self, name: &[u8], value: &[&[u8]]);

    /// One field that came in.
    #[inline]
    fn passed(&mut self, field: Field<'_>) {
        self.field(field.name, &[field.value]);
    }

    /// Fields that were written before, each a line as in HTTP/1.
    fn lines(&mut self, lines: &[u8]);
}

/// The lines of HTTP/1.
impl FieldWriter for Vec<u8> {
    #[inline(always)]
    fn field(&mut self, name: &[u8], value: &[&[u8]]) {
        put(self, &[name, b": "]);
        put(self, value);
        put(self, &[b"\r\n"]);
    }

    #[inline(always)]
    fn passed(&mut self, field: Field<'_>) {
        match field.line {
            [] => self.field(field.name, &[field.value]),
            line => put(self, &[line]),
        }
    }

    #[inline]
    fn lines(&mut self, lines: &[u8]) {
        put(self, &[lines]);
    }
}

/// Append `head` as an HTTP/1.1 request.
pub fn write_request(head: &RequestHead, lines: &RequestLines<'_>, to: &mut Vec<u8>) {
    to.reserve(head.fields.bytes.len() + lines.identity.lines.len() + 128);
    put(to, &[head.method_bytes(), b" ", head.path_bytes()]);
    if let Some(query) = head.query_bytes() {
        put(to, &[b"?", query]);
    }
    put(to, &[b" HTTP/1.1\r\nhost: "]);
    write_host(head, lines, to);
    put(to, &[b"\r\n"]);
    write_request_fields(head, lines, to);
    if lines.framing == BodyFraming::Chunked {
        put(to, &[b"transfer-encoding: chunked\r\n"]);
    }
    match (lines.upgrade, head.fields.known(Known::Upgrade), head.options.te_trailers) {
        (true, Some(protocol), _) => put(to, &[b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n"]),
        (_, _, true) => put(to, &[b"connection: te\r\nte: trailers\r\n"]),
        _ => {}
    }
    put(to, &[b"\r\n"]);
}

/// Append the host that the endpoint is asked for, with its port.
#[inline]
pub fn write_host(head: &RequestHead, lines: &RequestLines<'_>, to: &mut Vec<u8>) {
    match lines.host {
        HostLine::Keep(_) if !head.host_bytes().is_empty() => write_authority(head, to),
        HostLine::Keep(host) | HostLine::Set(host) => put(to, &[host.as_bytes()]),
    }
}

/// Write the fields of a request in any version: what is passed on and what we add, less the host and what is for one hop.
#[inline]
pub fn write_request_fields(head: &RequestHead, lines: &RequestLines<'_>, to: &mut impl FieldWriter) {
    for field in head.fields.iter() {
        let drop = match field.known {
            Known::Other => false,
            Known::Host | Known::ContentLength => true,
            Known::Expect => !head.options.expect_continue,
            // A server may ignore Range (RFC 9110 §14.2): one that is not asked cannot be made to answer a thousand.
            Known::Range => head.options.ranges > MOST_RANGES,
            Known::XForwardedFor => lines.outward.is_none(),
            known => is_hop_by_hop(known),
        };
        if !drop {
            to.passed(field);
        }
    }
    write_identity(head, lines, to);
    if !lines.request_id.is_empty() {
        to.field(b"x-request-id", &[lines.request_id]);
    }
    if let BodyFraming::Bytes(bytes) = lines.framing {
        to.field(b"content-length", &[itoa::Buffer::new().format(bytes).as_bytes()]);
    }
}

/// What a client is told about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Kept open, which needs no word in HTTP/1.1.
    Kept,
    /// Kept open for an HTTP/1.0 client, which needs one.
    KeptAloud,
    /// Closed behind this response.
    Close,
    /// Another protocol follows.
    Upgrade,
}

/// What the proxy says in a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseLines {
    /// How the body is framed on this hop.
    pub framing: BodyFraming,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// Whether `Via` is added: the response came from elsewhere.
    pub via: bool,
    /// `Date` for a head that has none (RFC 9110 §6.6.1): now, as an HTTP date.
    pub date: Option<[u8; 29]>,
}

/// The fields of a response that are passed on, its length left out, which each version tells in its own way.
pub fn passed_on(head: &ResponseHead) -> impl Iterator<Item = Field<'_>> {
    head.fields.iter().filter(|field| match field.known {
        Known::Other => true,
        Known::ContentLength => false,
        known => !is_hop_by_hop(known),
    })
}

/// Append `head` as an HTTP/1.1 response.
pub fn write_response(head: &ResponseHead, lines: &ResponseLines, to: &mut Vec<u8>) {
    to.reserve(head.fields.bytes.len() + 96);
    write_status(head, to);
    let mut date = lines.date;
    for field in passed_on(head) {
        if field.known == Known::Date {
            date = None;
        }
        to.passed(field);
    }
    if let Some(date) = &date {
        put(to, &[b"date: ", date, b"\r\n"]);
    }
    match head.version {
        _ if !lines.via => {}
        Version::Http11 => put(to, &[b"via: 1.1 penstock\r\n"]),
        version => put(to, &[b"via: ", version.number().as_bytes(), b" penstock\r\n"]),
    }
    write_framing(lines.framing, to);
    match (lines.persistence, head.fields.known(Known::Upgrade)) {
        (Persistence::Kept, _) => {}
        (Persistence::KeptAloud, _) => put(to, &[b"connection: keep-alive\r\n"]),
        (Persistence::Upgrade, Some(protocol)) => put(to, &[b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n"]),
        (Persistence::Close | Persistence::Upgrade, _) => put(to, &[b"connection: close\r\n"]),
    }
    put(to, &[b"\r\n"]);
}

fn write_status(head: &ResponseHead, to: &mut Vec<u8>) {
    match (head.status, head.reason()) {
        // Nearly all, in one piece.
        (200, b"OK" | b"") => put(to, &[b"HTTP/1.1 200 OK\r\n"]),
        (status, reason) => {
            let reason = if reason.is_empty() { reason_phrase(status).as_bytes() } else { reason };
            put(to, &[b"HTTP/1.1 ", itoa::Buffer::new().format(status).as_bytes(), b" ", reason, b"\r\n"]);
        }
    }
}

fn write_authority(head: &RequestHead, to: &mut Vec<u8>) {
    put(to, &[head.host_bytes()]);
    if let Some(port) = head.port() {
        put(to, &[b":", itoa::Buffer::new().format(port).as_bytes()]);
    }
}

fn write_framing(framing: BodyFraming, to: &mut Vec<u8>) {
    match framing {
        BodyFraming::Bytes(bytes) => {
            put(to, &[b"content-length: ", itoa::Buffer::new().format(bytes).as_bytes(), b"\r\n"]);
        }
        BodyFraming::Chunked => put(to, &[b"transfer-encoding: chunked\r\n"]),
        BodyFraming::None | BodyFraming::UntilClose => {}
    }
}

pub(super) fn put(to: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        to.extend_from_slice(part);
    }
}

/// The phrase that goes with a status (RFC 9110 §15); empty for one that has none.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    fn request(text: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &HeadLimits { bytes: 65536, fields: 100, uri: 8192, elsewhere: false }).unwrap();
        head
    }

    fn written(head: &mut RequestHead, trusted: bool) -> String {
        if !trusted {
            head.strip_identity(false);
        }
        head.strip_listed();
        let identity = Identity::new("192.0.2.1", "http", Some(80));
        let lines = RequestLines {
            host: HostLine::Keep("fallback"),
            framing: BodyFraming::None,
            identity: &identity,
            trusted,
            outward: None,
            request_id: b"",
            upgrade: head.options.upgrade,
        };
        let mut to = Vec::new();
        write_request(head, &lines, &mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_request_is_written_canonically() {
        let mut head = request(
            "GET //a/../b?x=1 HTTP/1.1\r\nHost: EXAMPLE.com.:81\r\nX-A:  1 \r\nX-Forwarded-For: 6.6.6.6\r\n\
             Connection: keep-alive, x-b\r\nX-B: 2\r\nKeep-Alive: 5\r\nX-Real-IP: 7.7.7.7\r\n\r\n",
        );
        assert_eq!(
            written(&mut head, false),
            "GET /b?x=1 HTTP/1.1\r\nhost: example.com:81\r\nX-A: 1\r\nx-forwarded-for: 192.0.2.1\r\n\
             x-forwarded-proto: http\r\nx-forwarded-port: 80\r\nx-forwarded-host: example.com:81\r\nvia: 1.1 penstock\r\n\r\n"
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_appended_to() {
        let mut head = request(
            "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 7.7.7.7\r\n\r\n",
        );
        assert_eq!(
            written(&mut head, true),
            "GET / HTTP/1.1\r\nhost: a\r\nX-Forwarded-Proto: https\r\nx-forwarded-for: 6.6.6.6, 7.7.7.7, 192.0.2.1\r\n\
             x-forwarded-port: 80\r\nx-forwarded-host: a\r\nvia: 1.1 penstock\r\n\r\n"
        );
    }

    #[test]
    fn an_upgrade_is_offered_on_and_h2c_is_not() {
        let head = |protocol| {
            request(&format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\nHTTP2-Settings: x\r\n\r\n"
            ))
        };
        assert!(written(&mut head("websocket"), false).contains("connection: upgrade\r\nupgrade: websocket\r\n"));
        let plain = written(&mut head("h2c"), false).to_lowercase();
        assert!(!plain.contains("upgrade") && !plain.contains("http2-settings"), "{plain}");
    }
}
