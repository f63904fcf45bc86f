//! Heads of HTTP/2 (RFC 9113 §8): the same checks and the same form as those of HTTP/1, from fields instead of bytes.

use super::framing::{self, Length};
use super::host;
use super::request::{LONGEST_NAME, RequestHead};
use super::{HeadLimits, Known, Options, ResponseHead, Version, websocket};
use crate::error::Kind;

/// What the pseudo-fields of a request say (RFC 9113 §8.3.1).
#[derive(Clone, Copy, Debug)]
pub struct Pseudo<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:scheme`, where it is known.
    pub scheme: Option<&'a str>,
    /// `:authority`
    pub authority: Option<&'a str>,
    /// `:path`; empty if there is none.
    pub path: &'a str,
    /// `:protocol`, of a `CONNECT` that asks for another protocol on its stream (RFC 8441 §4).
    pub protocol: Option<&'a str>,
}

/// Whether a request with this fault is malformed (RFC 9113 §8.1.1): its stream ends with a reset and no answer.
pub fn is_malformed(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::BadHead
            | Kind::BadHost
            | Kind::BadConnection
            | Kind::BadContentLength
            | Kind::BadTransferEncoding
            | Kind::BadFrame
    )
}

impl RequestHead {
    /// Fill this head from the fields of an HTTP/2 request. The caller vouches for names that are lower-case tokens and for values
    /// free of control characters. `ends`: there is no body behind it.
    ///
    /// One that asks for a WebSocket on its stream (RFC 8441) becomes the `GET` with `Upgrade` that the same request is in HTTP/1.1; the key
    /// that belongs to it is still to be given ([`Self::set_websocket_key`]).
    ///
    /// # Errors
    /// The [`Kind`] that names what is wrong with it; the head is then not to be used, but for a record of what was asked.
    pub fn assemble<'f>(
        &mut self,
        pseudo: &Pseudo<'_>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        ends: bool,
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        let fields_kept = std::mem::take(&mut self.fields);
        *self = RequestHead::default();
        (self.fields, self.version) = (fields_kept, Version::Http2);
        self.clear();
        let method = match pseudo.protocol {
            None => pseudo.method,
            Some(_) if pseudo.method != "CONNECT" => return Err(Kind::BadHead),
            Some("websocket") => "GET",
            Some(_) => return Err(Kind::UnknownProtocol),
        };
        self.method = self.fields.store(method.as_bytes());
        self.raw_target = self.fields.store(pseudo.path.as_bytes());
        self.raw_length = pseudo.method.len() + pseudo.path.len();
        if pseudo.path.len() > limits.uri {
            return Err(Kind::UriTooLong);
        }
        if !matches!(pseudo.scheme, None | Some("http" | "https")) {
            return Err(Kind::BadHead);
        }
        self.take_fields(pseudo, fields, limits)?;
        self.read_host()?;
        // In HTTP/1 this may also be a whole URL.
        if !pseudo.path.starts_with('/') && !matches!((method, pseudo.path), ("OPTIONS", "*") | ("CONNECT", _)) {
            return Err(Kind::BadHead);
        }
        self.read_target(method, pseudo.path)?;
        self.length = match framing::of_request(self.version, &self.fields)? {
            // What follows is no content (RFC 9110 §9.3.6).
            Length::Bytes(_) if pseudo.protocol.is_some() => return Err(Kind::BadContentLength),
            _ if pseudo.protocol.is_some() => Length::None,
            Length::Bytes(1..) if ends => return Err(Kind::BadContentLength),
            Length::None if !ends => Length::Chunked,
            // HTTP/1 says so aloud where a body could be (RFC 9110 §8.6).
            Length::None if matches!(method, "POST" | "PUT" | "PATCH") => Length::Bytes(0),
            length => length,
        };
        self.options = Options::of_request(self.version, &self.fields)?;
        self.options.upgrade = pseudo.protocol.is_some();
        Ok(())
    }

    /// Whether its stream is to become that of another protocol, which in HTTP/2 any 2xx says (RFC 8441 §5).
    pub fn is_extended_connect(&self) -> bool {
        self.version == Version::Http2 && self.options.upgrade
    }

    /// Give it the key that HTTP/1.1 wants with a WebSocket.
    pub fn set_websocket_key(&mut self, nonce: [u8; 16]) {
        self.fields.push("sec-websocket-key", websocket::key(nonce));
    }

    fn take_fields<'f>(
        &mut self,
        &Pseudo { authority, protocol, .. }: &Pseudo<'_>,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        if let Some(protocol) = protocol {
            self.raw_length += protocol.len();
            self.fields.push("upgrade", protocol);
        }
        if let Some(authority) = authority {
            self.raw_length += authority.len();
            self.fields.push("host", authority);
        }
        let (mut count, mut crumbs, mut tes) = (0, Vec::new(), 0);
        for (name, value) in fields {
            // Each counts before it is joined to others (safety.md 92).
            count += 1;
            self.raw_length += name.len() + value.len() + 32;
            if count > limits.fields {
                return Err(Kind::TooManyFields);
            }
            if name.len() > LONGEST_NAME || self.raw_length > limits.bytes {
                return Err(Kind::HeadTooLarge);
            }
            if is_padded(value) {
                return Err(Kind::BadHead);
            }
            if name.contains(&b'_') {
                // As in HTTP/1 (safety.md 13, 134).
                if framing::is_disguised(name) {
                    return Err(Kind::BadHead);
                }
                self.dropped += 1;
                continue;
            }
            match Known::of(name) {
                Known::Host if authority.is_some_and(|authority| !is_same(value, authority.as_bytes())) => {
                    return Err(Kind::BadHost);
                }
                Known::Host if authority.is_some() => continue,
                // It has no meaning here (RFC 8441 §5), and the endpoint gets one of ours.
                Known::Other if protocol.is_some() && name == b"sec-websocket-key" => continue,
                Known::Te if tes > 0 || value != b"trailers" => return Err(Kind::BadConnection),
                Known::Te => tes += 1,
                known if speaks_of_connection(known) => return Err(Kind::BadConnection),
                Known::Cookie => {
                    // RFC 9113 §8.2.3: one field again, where the next hop knows no crumbs.
                    if !crumbs.is_empty() {
                        crumbs.extend_from_slice(b"; ");
                    }
                    crumbs.extend_from_slice(value);
                    continue;
                }
                _ => {}
            }
            self.fields.push(name, value);
        }
        if !crumbs.is_empty() {
            self.fields.push("cookie", crumbs);
        }
        Ok(())
    }
}

impl ResponseHead {
    /// Fill this head from the fields of an HTTP/2 response, as [`RequestHead::assemble`] does. `ends`: there is no body behind it;
    /// `to_head`: it answers a HEAD request.
    ///
    /// # Errors
    /// `BadResponse` or `ResponseTooLarge`; the head is then not to be used.
    pub fn assemble<'f>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = (&'f [u8], &'f [u8])>,
        (ends, to_head): (bool, bool),
        limits: &HeadLimits,
    ) -> Result<(), Kind> {
        self.compose(status);
        self.version = Version::Http2;
        let (mut count, mut size) = (0, 0);
        for (name, value) in fields {
            count += 1;
            size += name.len() + value.len() + 32;
            if count > limits.fields || size > limits.bytes {
                return Err(Kind::ResponseTooLarge);
            }
            let known = Known::of(name);
            if is_padded(value) || speaks_of_connection(known) {
                return Err(Kind::BadResponse);
            }
            self.fields.push(name, value);
        }
        // RFC 9113 §8.6: there is nothing to switch to.
        if status == 101 || (status < 200 && ends) {
            return Err(Kind::BadResponse);
        }
        let (length, declared) = framing::of_response(self.version, status, to_head, &self.fields)?;
        self.declared = declared;
        self.length = match length {
            Length::Bytes(1..) if ends => return Err(Kind::BadResponse),
            _ if ends => Length::None,
            // Ends with its stream, which tells an end from a break.
            Length::UntilClose => Length::Chunked,
            length => length,
        };
        self.options = Options::of_response(self.version, &self.fields);
        Ok(())
    }
}

/// RFC 9113 §8.2.1: nobody trims a value, and the next reader would.
fn is_padded(value: &[u8]) -> bool {
    super::request::trim(value).len() != value.len()
}

/// RFC 9113 §8.2.2: there is no connection to speak of.
fn speaks_of_connection(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
    )
}

/// Whether two texts name one host and port (safety.md 102).
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let canonical = |value| {
        let mut name = [0; host::LONGEST];
        host::canonical(value, &mut name).map(|(length, port)| (name, length, port))
    };
    canonical(one).is_ok_and(|one| canonical(other) == Ok(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 2048, fields: 10, uri: 64 };
    const GET: Pseudo<'_> = Pseudo {
        method: "GET",
        scheme: Some("https"),
        authority: Some("A.example:8443"),
        path: "/x/./y?z",
        protocol: None,
    };
    const WEBSOCKET: Pseudo<'_> = Pseudo { method: "CONNECT", protocol: Some("websocket"), ..GET };

    fn read(pseudo: Pseudo<'_>, fields: &[(&str, &str)], ends: bool) -> Result<RequestHead, Kind> {
        let mut head = RequestHead::default();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        head.assemble(&pseudo, fields, ends, &LIMITS).map(|()| head)
    }

    #[test]
    fn a_head_is_read_into_the_same_form() {
        let fields = [("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("host", "a.example.:8443"), ("x_b", "2")];
        let head = read(GET, &fields, true).unwrap();
        assert_eq!((head.method(), head.path(), head.query()), ("GET", "/x/y", Some("z")));
        assert_eq!((head.host(), head.port(), head.version), ("a.example", Some(8443), Version::Http2));
        assert_eq!(head.fields.all("cookie").collect::<Vec<_>>(), [b"a=1; b=2"]);
        assert_eq!((head.fields.all("host").count(), head.dropped), (1, 1));
        assert_eq!((head.length, head.options.keep_alive), (Length::None, true));
        let head = read(Pseudo { authority: None, ..GET }, &[("host", "b"), ("te", "trailers")], true).unwrap();
        assert_eq!((head.host(), head.options.te_trailers), ("b", true));
        assert_eq!(
            read(Pseudo { method: "OPTIONS", path: "*", ..GET }, &[], true).unwrap().target,
            super::super::Target::Server
        );
    }

    #[test]
    fn the_end_of_the_stream_and_the_length_agree() {
        let post = Pseudo { method: "POST", ..GET };
        for (pseudo, fields, ends, expected) in [
            (GET, &[][..], true, Ok(Length::None)),
            (post, &[], true, Ok(Length::Bytes(0))),
            (post, &[], false, Ok(Length::Chunked)),
            (post, &[("content-length", "5")], false, Ok(Length::Bytes(5))),
            (post, &[("content-length", "5")], true, Err(Kind::BadContentLength)),
            (post, &[("content-length", "0")], true, Ok(Length::Bytes(0))),
            (post, &[("content-length", "5"), ("content-length", "5")], false, Err(Kind::BadContentLength)),
            (post, &[("content-length", "+5")], false, Err(Kind::BadContentLength)),
        ] {
            assert_eq!(read(pseudo, fields, ends).map(|head| head.length), expected, "{fields:?} {ends}");
        }
    }

    #[test]
    fn a_websocket_is_the_request_that_it_is_in_http1() {
        let fields = [("sec-websocket-version", "13"), ("sec-websocket-key", "theirs")];
        let mut head = read(WEBSOCKET, &fields, false).unwrap();
        assert!(head.is_extended_connect() && !read(GET, &[], true).unwrap().is_extended_connect());
        assert_eq!((head.method(), head.path(), head.length), ("GET", "/x/y", Length::None));
        assert_eq!(head.fields.all("upgrade").collect::<Vec<_>>(), [b"websocket"]);
        assert_eq!(head.fields.all("sec-websocket-key").count(), 0);
        head.set_websocket_key(*b"the sample nonce");
        assert_eq!(head.fields.all("sec-websocket-key").collect::<Vec<_>>(), [b"dGhlIHNhbXBsZSBub25jZQ=="]);
    }

    #[test]
    fn what_is_no_request_names_its_reason() {
        let long = "n".repeat(257);
        for (pseudo, fields, kind) in [
            (Pseudo { path: "", ..GET }, &[][..], Kind::BadHead),
            (Pseudo { path: "x", ..GET }, &[], Kind::BadHead),
            (Pseudo { path: "http://a.example:8443/", ..GET }, &[], Kind::BadHead),
            (Pseudo { path: "*", ..GET }, &[], Kind::BadHead),
            (Pseudo { path: "/../x", ..GET }, &[], Kind::BadUri),
            (Pseudo { method: "XGET", ..GET }, &[], Kind::BadHead),
            (Pseudo { method: "CONNECT", path: "", ..GET }, &[], Kind::MethodNotAllowed),
            (Pseudo { scheme: Some("ftp"), ..GET }, &[], Kind::BadHead),
            (Pseudo { authority: None, ..GET }, &[], Kind::BadHost),
            (Pseudo { authority: None, ..GET }, &[("host", "a"), ("host", "a")], Kind::BadHost),
            (Pseudo { authority: Some("u@a"), ..GET }, &[], Kind::BadHost),
            (Pseudo { protocol: Some("websocket"), ..GET }, &[], Kind::BadHead),
            (Pseudo { protocol: Some("connect-udp"), ..WEBSOCKET }, &[], Kind::UnknownProtocol),
            (Pseudo { path: "", ..WEBSOCKET }, &[], Kind::BadHead),
            (WEBSOCKET, &[("content-length", "0")], Kind::BadContentLength),
            (WEBSOCKET, &[("upgrade", "websocket")], Kind::BadConnection),
            (GET, &[("host", "b")], Kind::BadHost),
            (GET, &[("host", "a.example")], Kind::BadHost),
            (GET, &[("connection", "close")], Kind::BadConnection),
            (GET, &[("transfer-encoding", "chunked")], Kind::BadConnection),
            (GET, &[("te", "gzip")], Kind::BadConnection),
            (GET, &[("te", "trailers"), ("te", "trailers")], Kind::BadConnection),
            (GET, &[("x", " a")], Kind::BadHead),
            (GET, &[("x", "a\t")], Kind::BadHead),
            (GET, &[("content_length", "1")], Kind::BadHead),
            (GET, &[("expect", "y")], Kind::BadExpect),
            (GET, &[(&long, "1")], Kind::HeadTooLarge),
            (GET, &[("cookie", "a"); 11], Kind::TooManyFields),
        ] {
            assert_eq!(read(pseudo, fields, true).err(), Some(kind), "{pseudo:?} {fields:?}");
        }
        let target = format!("/{}", "x".repeat(64));
        assert_eq!(read(Pseudo { path: &target, ..GET }, &[], true).err(), Some(Kind::UriTooLong));
        let value = "x".repeat(2048);
        assert_eq!(read(GET, &[("x", &value)], true).err(), Some(Kind::HeadTooLarge));
    }

    fn answered(status: u16, fields: &[(&str, &str)], ends: bool, to_head: bool) -> Result<ResponseHead, Kind> {
        let mut head = ResponseHead::default();
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        head.assemble(status, fields, (ends, to_head), &LIMITS).map(|()| head)
    }

    #[test]
    fn an_answer_has_the_length_that_its_stream_has() {
        let five = &[("content-length", "5")][..];
        for (status, fields, ends, to_head, expected) in [
            (200, five, false, false, Ok((Length::Bytes(5), Some(5)))),
            (200, five, true, false, Err(Kind::BadResponse)),
            (200, five, true, true, Ok((Length::None, Some(5)))),
            (304, five, true, false, Ok((Length::None, Some(5)))),
            (304, &[], false, false, Ok((Length::None, None))),
            (200, &[], true, false, Ok((Length::None, None))),
            (200, &[], false, false, Ok((Length::Chunked, None))),
            (200, &[("content-length", "5"), ("content-length", "5")], false, false, Err(Kind::BadResponse)),
            (103, &[("link", "x")], false, false, Ok((Length::None, None))),
        ] {
            let read = answered(status, fields, ends, to_head).map(|head| (head.length, head.declared));
            assert_eq!(read, expected, "{status} {fields:?} {ends} {to_head}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("x", " a"),
            ("x", "a\t"),
        ] {
            assert_eq!(answered(200, &[(name, value)], false, false).err(), Some(Kind::BadResponse), "{name}: {value}");
        }
        assert_eq!(answered(101, &[], false, false).err(), Some(Kind::BadResponse));
        assert_eq!(answered(103, &[], true, false).err(), Some(Kind::BadResponse));
        assert_eq!(answered(200, &[("a", "b"); 11], false, false).err(), Some(Kind::ResponseTooLarge));
        let value = "x".repeat(2048);
        assert_eq!(answered(200, &[("x", &value)], false, false).err(), Some(Kind::ResponseTooLarge));
    }
}
