//! The head of a request.

use super::fields::Range;
use super::framing::{self, Length};
use super::scan::has_lone_cr;
use super::{Fields, HeadLimits, Known, Options, Version, hop, host, uri};
use crate::error::Kind;
use std::mem::MaybeUninit;
use std::str;

/// What a request asks of the proxy (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A resource: `/path?query`, or the same with the host named in `Host` before it.
    Resource,
    /// `OPTIONS *`: the server itself.
    Server,
    /// `http://host/path`, of a forward proxy: a resource of any host.
    Elsewhere,
    /// `https://host/path`, of a forward proxy: the same of one that is to be spoken to with TLS.
    Secure,
    /// `CONNECT host:port`, of a forward proxy: a tunnel to there.
    Tunnel,
    /// `/path`, in a tunnel of a forward proxy that was opened: a resource of the host that the tunnel is for.
    Inside,
}

/// A request head, parsed once, strictly. Path and host are canonical: what is matched is what is forwarded.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// Header fields as received; `Host` is among them, [`Self::host`] is its canonical form.
    pub fields: Fields,
    /// On the wire.
    pub version: Version,
    /// How the body ends.
    pub length: Length,
    /// What the connection and its next hop were told.
    pub options: Options,
    /// What is asked for.
    pub target: Target,
    /// Fields left out because their names have a `_`.
    pub dropped: u32,
    /// Bytes of the head on the wire.
    pub(super) raw_length: usize,
    pub(super) method: Range,
    pub(super) raw_target: Range,
    pub(super) path: Range,
    pub(super) query: Option<Range>,
    pub(super) host: Range,
    pub(super) port: Option<u16>,
    pub(super) last_host: LastHost,
}

impl Default for RequestHead {
    fn default() -> Self {
        RequestHead {
            fields: Fields::default(),
            version: Version::Http11,
            length: Length::None,
            options: Options::default(),
            target: Target::Resource,
            dropped: 0,
            raw_length: 0,
            method: Range::default(),
            raw_target: Range::default(),
            path: Range::default(),
            query: None,
            host: Range::default(),
            port: None,
            last_host: LastHost::default(),
        }
    }
}

/// What `Host` said in a request before, and what that meant: on one connection it nearly always says the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LastHost {
    said: Short,
    canonical: Short,
    port: Option<u16>,
}

/// Few bytes.
#[derive(Clone, Copy, Debug)]
struct Short {
    bytes: [u8; 64],
    length: usize,
}

impl Default for Short {
    fn default() -> Short {
        Short { bytes: [0; 64], length: 0 }
    }
}

impl Short {
    /// None where they are many.
    fn of(bytes: &[u8]) -> Option<Short> {
        let mut short = Short::default();
        short.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        short.length = bytes.len();
        Some(short)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl LastHost {
    /// Nothing is remembered of one that is long, and nothing is said by one that is not there.
    fn of(said: &[u8], canonical: &[u8], port: Option<u16>) -> LastHost {
        let both = Short::of(said).zip(Short::of(canonical));
        both.map_or_else(LastHost::default, |(said, canonical)| LastHost { said, canonical, port })
    }

    fn is(&self, said: &[u8]) -> bool {
        !said.is_empty() && self.said.bytes() == said
    }
}

/// Bytes of a method, and of a field's name, beyond which no honest one goes (safety.md 26, 52).
pub const LONGEST_METHOD: usize = 64;
pub(super) const LONGEST_NAME: usize = 256;
/// The part of HTTP/2's preface that looks like a head.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Heads with more fields than this are parsed on the heap.
const FIELDS_ON_STACK: usize = 100;

impl RequestHead {
    /// Fill this head from `bytes`, a whole head as [`super::HeadScan`] found it (no leading CRLF, blank line included).
    ///
    /// # Errors
    /// The [`Kind`] that names what is wrong with it; the head is then not to be used.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<(), Kind> {
        self.clear();
        self.raw_length = bytes.len();
        self.fields.bytes.extend_from_slice(bytes);
        if limits.fields <= FIELDS_ON_STACK {
            self.parse_with(bytes, &mut [MaybeUninit::uninit(); FIELDS_ON_STACK][..limits.fields], limits)
        } else {
            self.parse_with(bytes, &mut vec![MaybeUninit::uninit(); limits.fields], limits)
        }
    }

    /// Make a head for a request that did not come from the wire (`explain`, tests). `target` is in origin form.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn compose(method: &str, target: &str, host: &str, headers: &[(String, String)]) -> Result<Self, Kind> {
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            if !name.eq_ignore_ascii_case("host") {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str("\r\n");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &HeadLimits { bytes: 1 << 20, fields: 1000, uri: 1 << 16, elsewhere: false })?;
        Ok(head)
    }

    /// Forget the request, keep the memory. What was learned of its host holds for others, too.
    pub fn clear(&mut self) {
        self.fields.clear();
        (self.raw_length, self.dropped) = (0, 0);
    }

    /// The method, as sent (RFC 9110 §9.1: case matters).
    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// Lower case, without port and trailing dot; empty for HTTP/1.0 without `Host`.
    pub fn host(&self) -> &str {
        self.text(self.host)
    }

    /// The port that `Host` named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The canonical path, escapes kept where they matter ([`uri`]).
    pub fn path(&self) -> &str {
        self.text(self.path)
    }

    /// What follows `?`, as sent.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|range| self.text(range))
    }

    /// The target as the client sent it, for the log.
    pub fn raw_target(&self) -> &str {
        self.text(self.raw_target)
    }

    /// Whether it may say who the client is.
    #[inline]
    pub fn may_identify(&self) -> bool {
        self.fields.may_identify()
    }

    /// Forget what a client that is not believed says of itself (safety.md 134), but for the way that it says to have come, where that
    /// is asked for.
    pub fn strip_identity(&mut self, but_the_way: bool) {
        let kept = |known| but_the_way && matches!(known, Known::XForwardedFor | Known::Forwarded);
        if self.fields.may_identify() {
            self.fields.retain(|field| !field.known.is_identity() || kept(field.known));
        }
    }

    /// Drop the fields that `Connection` names, before any filter adds its own of the same name (safety.md R6).
    pub fn strip_listed(&mut self) {
        if std::mem::take(&mut self.options.listed) {
            hop::strip_listed(&mut self.fields);
        }
    }

    /// Whether it is the beginning of HTTP/2's connection preface (RFC 9113 §3.4), which no parser of HTTP/1 takes for a request.
    pub fn is_preface(&self) -> bool {
        self.fields.bytes == PREFACE
    }

    /// Bytes of the head as it came.
    pub fn raw_length(&self) -> usize {
        self.raw_length
    }

    /// Put another path in place. The caller vouches for its being canonical ([`uri::canonical_path`]).
    pub fn set_path(&mut self, path: &str) {
        self.path = self.fields.store(path.as_bytes());
    }

    /// Put another query in place, without `?`; `None` drops it. The caller vouches for its characters ([`uri::is_query`]).
    pub fn set_query(&mut self, query: Option<&str>) {
        self.query = query.map(|query| self.fields.store(query.as_bytes()));
    }

    /// Make a GET without a body of it, for this path and query; fields stay. The caller vouches for both, as with [`Self::set_path`].
    pub fn ask_for(&mut self, path: &str, query: Option<&str>) {
        self.method = self.fields.store(b"GET");
        (self.target, self.length) = (Target::Resource, Length::None);
        self.options = Options { keep_alive: true, ..Options::default() };
        self.set_path(path);
        self.set_query(query);
    }

    /// Whether the method is known to be safe to send twice (RFC 9110 §9.2.2).
    #[inline]
    pub fn is_idempotent(&self) -> bool {
        matches!(self.method_bytes(), b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE" | b"TRACE")
    }

    pub(super) fn method_bytes(&self) -> &[u8] {
        self.method.of(&self.fields.bytes)
    }

    pub(super) fn host_bytes(&self) -> &[u8] {
        self.host.of(&self.fields.bytes)
    }

    pub(super) fn path_bytes(&self) -> &[u8] {
        self.path.of(&self.fields.bytes)
    }

    pub(super) fn query_bytes(&self) -> Option<&[u8]> {
        self.query.map(|range| range.of(&self.fields.bytes))
    }

    /// Whether only the head of the answer is asked for.
    pub fn is_head(&self) -> bool {
        self.method_bytes() == b"HEAD"
    }

    fn text(&self, range: Range) -> &str {
        // Every range was checked to be ASCII when it was made.
        str::from_utf8(range.of(&self.fields.bytes)).unwrap_or_default()
    }

    fn parse_with<'b>(
        &mut self,
        bytes: &'b [u8],
        headers: &mut [MaybeUninit<httparse::Header<'b>>],
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        let mut request = httparse::Request::new(&mut []);
        match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, headers) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Ok(_) => return Err(Kind::BadHead),
            // The scan refuses it as soon as it comes; a head that came whole gets the same verdict (safety.md R12).
            Err(_) if has_lone_cr(bytes) => return Err(Kind::BadHead),
            Err(httparse::Error::TooManyHeaders) => return Err(Kind::TooManyFields),
            Err(error) => return Err(start_line_reason(error, bytes)),
        }
        let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
            return Err(Kind::BadHead);
        };
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let start = bytes.as_ptr() as usize;
        // httparse hands out slices of `bytes`; the buffer of `fields` starts as a copy of it.
        let range = |part: &[u8]| Range::new((part.as_ptr() as usize).wrapping_sub(start), part.len());
        self.method = range(method.as_bytes());
        self.raw_target = range(target.as_bytes());
        if target.len() > limits.uri {
            return Err(Kind::UriTooLong);
        }
        for header in request.headers.iter() {
            if header.name.len() > LONGEST_NAME {
                return Err(Kind::HeadTooLarge);
            }
            if header.name.contains('_') {
                // What some origins read as another name is refused where it frames, dropped elsewhere (safety.md 13, 134).
                if framing::is_disguised(header.name.as_bytes()) {
                    return Err(Kind::BadHead);
                }
                self.dropped += 1;
                continue;
            }
            self.fields.index(range(header.name.as_bytes()), range(trim(header.value)));
        }
        self.read_host()?;
        self.read_target(method, target, limits.elsewhere)?;
        self.length = framing::of_request(self.version, &self.fields)?;
        self.options = Options::of_request(self.version, &self.fields)?;
        if self.version == Version::Http10 && self.length == Length::None && !matches!(method, "GET" | "HEAD") {
            // A 1.0 body without a length used to end with the connection: what follows may be one (safety.md 22).
            self.options.keep_alive = false;
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn read_host(&mut self) -> Result<(), Kind> {
        (self.host, self.port) = (Range::default(), None);
        let mut canonical = [0u8; host::LONGEST];
        let mut hosts = self.fields.all_known(Known::Host);
        let length = match (hosts.next(), hosts.next()) {
            (Some(value), None) if self.last_host.is(value) => {
                drop(hosts);
                self.port = self.last_host.port;
                self.host = self.fields.store(self.last_host.canonical.bytes());
                return Ok(());
            }
            (Some(value), None) => {
                let (length, port) = host::canonical(value, &mut canonical)?;
                self.port = port;
                self.last_host = LastHost::of(value, canonical.get(..length).unwrap_or_default(), port);
                length
            }
            // RFC 9112 §3.2: a 1.1 request without Host is refused; 1.0 knew none.
            (None, _) if self.version == Version::Http10 => return Ok(()),
            _ => return Err(Kind::BadHost),
        };
        drop(hosts);
        self.host = self.fields.store(canonical.get(..length).unwrap_or_default());
        Ok(())
    }

    pub(super) fn read_target(&mut self, method: &str, target: &str, elsewhere: bool) -> Result<(), Kind> {
        match method {
            "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" => {}
            "CONNECT" if elsewhere => return self.read_tunnel(target),
            "CONNECT" | "TRACE" => return Err(Kind::MethodNotAllowed),
            _ if method.len() > LONGEST_METHOD || runs_on(method) => return Err(Kind::BadHead),
            _ => {}
        }
        self.target = Target::Resource;
        let resource = if target.starts_with('/') {
            target
        } else if target == "*" && method == "OPTIONS" {
            self.target = Target::Server;
            self.path = self.raw_target;
            self.query = None;
            return Ok(());
        } else if elsewhere {
            return self.read_elsewhere(target);
        } else {
            self.absolute_form(target)?
        };
        let (path, query) = match resource.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (resource, None),
        };
        if let Some(query) = query
            && !uri::is_query(query.as_bytes())
        {
            return Err(Kind::BadUri);
        }
        self.query = query.map(|query| self.fields.store(query.as_bytes()));
        let path = if path.is_empty() { "/" } else { path };
        let at = self.fields.bytes.len();
        match uri::canonical_path(path.as_bytes(), &mut self.fields.bytes) {
            // What is canonical for somebody else's server is not known here: see `enter`.
            Err(kind) if !elsewhere => return Err(kind),
            _ => {}
        }
        self.path = Range::new(at, self.fields.bytes.len() - at);
        Ok(())
    }

    /// RFC 9112 §3.2.2: `http://host/path` and `https://host/path` must be understood; here only where they name the same host as
    /// `Host`, because a router and an origin that read different ones disagree (safety.md 57).
    fn absolute_form<'t>(&self, target: &'t str) -> Result<&'t str, Kind> {
        let scheme = |prefix: &str| target.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        let (rest, usual) = match target {
            _ if scheme("http://") => (target.get(7..), 80),
            _ if scheme("https://") => (target.get(8..), 443),
            _ => (None, 0),
        };
        let Some(rest) = rest else { return Err(Kind::BadUri) };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, resource) = rest.split_at(end);
        let mut canonical = [0u8; host::LONGEST];
        let (length, port) = host::canonical(authority.as_bytes(), &mut canonical)?;
        if canonical.get(..length) != Some(self.host().as_bytes())
            || port.unwrap_or(usual) != self.port.unwrap_or(usual)
        {
            return Err(Kind::BadHost);
        }
        Ok(resource)
    }
}

/// Whether this looks like the last bytes of a body that somebody framed otherwise, and a method behind them (safety.md 25).
fn runs_on(method: &str) -> bool {
    const BEHIND: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
    // RFC 3648 has the one registered method that ends like another.
    method != "ORDERPATCH" && BEHIND.iter().any(|known| method.ends_with(known))
}

fn start_line_reason(error: httparse::Error, bytes: &[u8]) -> Kind {
    match error {
        // HTTP/2's preface and other versions (RFC 9110 §15.6.6); anything that is no version at all is a bad head.
        httparse::Error::Version => {
            let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
            let mut parts = line.split(|&byte| byte == b' ').skip(2);
            match parts.next().filter(|_| parts.next().is_none()).unwrap_or_default() {
                [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                    if major.is_ascii_digit() && minor.is_ascii_digit() =>
                {
                    Kind::BadVersion
                }
                _ => Kind::BadHead,
            }
        }
        _ => Kind::BadHead,
    }
}

/// Optional white space around a value (RFC 9110 §5.6.3).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 65536, fields: 100, uri: 8192, elsewhere: false };

    fn parse(text: &str) -> Result<RequestHead, Kind> {
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &LIMITS).map(|()| head)
    }

    #[test]
    fn a_head_is_read_into_its_parts() {
        let head = parse("GET //a/./b?x=%20 HTTP/1.1\r\nHost: EXAMPLE.com:81\r\nX-A: 1\r\nX_B: 2\r\n\r\n").unwrap();
        assert_eq!((head.method(), head.path(), head.query()), ("GET", "/a/b", Some("x=%20")));
        assert_eq!((head.host(), head.port(), head.raw_target()), ("example.com", Some(81), "//a/./b?x=%20"));
        assert_eq!((head.fields.get("x-a"), head.fields.len(), head.dropped), (Some(&b"1"[..]), 2, 1));
    }

    #[test]
    fn what_is_no_request_names_its_reason() {
        for (text, kind) in [
            ("GET / HTTP/1.1\r\n\r\n", Kind::BadHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Kind::BadHost),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BadHead),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Kind::BadVersion),
            ("PRI * HTTP/2.0\r\n\r\n", Kind::BadVersion),
            ("GET / HTTP/2.0\r\nX: a\rb\r\n\r\n", Kind::BadHead),
            ("GET /\r\nHost: a\r\n\r\n", Kind::BadHead),
            ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BadUri),
            ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BadHost),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Kind::MethodNotAllowed),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", Kind::BadHead),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\n\r\n", Kind::BadHead),
            ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BadUri),
            ("XGET / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BadHead),
            ("0POST / HTTP/1.1\r\nHost: a\r\n\r\n", Kind::BadHead),
        ] {
            assert_eq!(parse(text).err(), Some(kind), "{text:?}");
        }
        let long = |method: usize, name: usize| {
            parse(&format!("{} / HTTP/1.1\r\nHost: a\r\n{}: 1\r\n\r\n", "M".repeat(method), "n".repeat(name))).err()
        };
        assert_eq!((long(64, 256), long(65, 1), long(1, 257)), (None, Some(Kind::BadHead), Some(Kind::HeadTooLarge)));
        for method in ["get", "PROPFIND", "ORDERPATCH", "PURGE"] {
            assert!(parse(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).is_ok(), "{method}");
        }
        for (line, kept) in [("GET / HTTP/1.0", true), ("POST / HTTP/1.0", false), ("POST / HTTP/1.1", true)] {
            let head = parse(&format!("{line}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")).unwrap();
            assert_eq!(head.options.keep_alive, kept, "{line}");
        }
        assert_eq!(parse("GET http://A/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n").unwrap().path(), "/x");
        assert_eq!(parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().target, Target::Server);
        assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().host(), "");
    }
}
