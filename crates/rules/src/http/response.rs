//! The head of a response.

use super::fields::Range;
use super::framing::{self, Length};
use super::request::trim;
use super::scan::has_lone_cr;
use super::{Fields, HeadLimits, Options, Version, hop};
use crate::error::Kind;
use std::mem::MaybeUninit;

/// Heads with more fields than this are parsed on the heap.
const FIELDS_ON_STACK: usize = 200;

/// A response head, parsed once, strictly.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Header fields as received.
    pub fields: Fields,
    /// On the wire.
    pub version: Version,
    /// 100 to 999.
    pub status: u16,
    /// How the body ends.
    pub length: Length,
    /// The length that `Content-Length` names, even where there is no body (HEAD, 304).
    pub declared: Option<u64>,
    /// What the connection was told.
    pub options: Options,
    reason: Range,
}

impl Default for ResponseHead {
    fn default() -> Self {
        ResponseHead {
            fields: Fields::default(),
            version: Version::Http11,
            status: 200,
            length: Length::None,
            declared: None,
            options: Options::default(),
            reason: Range::default(),
        }
    }
}

impl ResponseHead {
    /// Fill this head from `bytes`, a whole head as [`super::HeadScan`] found it; `to_head`: it answers a HEAD request.
    ///
    /// # Errors
    /// `BadResponse` or `ResponseTooLarge`; the head is then not to be used.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits, to_head: bool) -> Result<(), Kind> {
        self.fields.clear();
        self.fields.bytes.extend_from_slice(bytes);
        if limits.fields <= FIELDS_ON_STACK {
            let mut room = [MaybeUninit::uninit(); FIELDS_ON_STACK];
            self.parse_with(bytes, room.get_mut(..limits.fields).unwrap_or_default(), to_head)
        } else {
            self.parse_with(bytes, &mut vec![MaybeUninit::uninit(); limits.fields], to_head)
        }
    }

    fn parse_with<'b>(
        &mut self,
        bytes: &'b [u8],
        headers: &mut [MaybeUninit<httparse::Header<'b>>],
        to_head: bool,
    ) -> Result<(), Kind> {
        let mut response = httparse::Response::new(&mut []);
        match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, headers) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) if !has_lone_cr(bytes) => return Err(Kind::ResponseTooLarge),
            _ => return Err(Kind::BadResponse),
        }
        let (Some(version), Some(status)) = (response.version, response.code) else { return Err(Kind::BadResponse) };
        if status < 100 {
            return Err(Kind::BadResponse);
        }
        self.version = if version == 0 { Version::Http10 } else { Version::Http11 };
        self.status = status;
        let start = bytes.as_ptr() as usize;
        // httparse hands out slices of `bytes` (or an empty one of its own); the buffer of `fields` is a copy of it.
        let range = |part: &[u8]| match part.is_empty() {
            true => Range::default(),
            false => Range::new((part.as_ptr() as usize).wrapping_sub(start), part.len()),
        };
        self.reason = range(response.reason.unwrap_or_default().as_bytes());
        for header in response.headers.iter() {
            self.fields.index(range(header.name.as_bytes()), range(trim(header.value)));
        }
        (self.length, self.declared) = framing::of_response(self.version, status, to_head, &self.fields)?;
        self.options = Options::of_response(self.version, &self.fields);
        Ok(())
    }

    /// Make a head of our own.
    pub fn compose(&mut self, status: u16) {
        self.fields.clear();
        self.version = Version::Http11;
        self.status = status;
        self.length = Length::None;
        self.declared = None;
        self.options = Options { keep_alive: true, ..Options::default() };
        self.reason = Range::default();
    }

    /// Put another status in place, with its own reason phrase.
    pub fn set_status(&mut self, status: u16) {
        if self.status != status {
            self.status = status;
            self.reason = Range::default();
        }
    }

    /// Drop the fields that `Connection` names, before any filter adds its own of the same name (safety.md R6).
    pub fn strip_listed(&mut self) {
        if std::mem::take(&mut self.options.listed) {
            hop::strip_listed(&mut self.fields);
        }
    }

    /// The origin's reason phrase; may be empty.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.fields.bytes)
    }

    /// Whether a final response follows (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 65536, fields: 200, uri: 0, elsewhere: false };

    #[test]
    fn heads_are_read_strictly() {
        let mut head = ResponseHead::default();
        head.parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\n", &LIMITS, false).unwrap();
        assert_eq!((head.status, head.length, head.reason()), (200, Length::Bytes(3), &b"OK"[..]));
        head.parse(b"HTTP/1.1 204\r\n\r\n", &LIMITS, false).unwrap();
        assert_eq!((head.status, head.length, head.reason()), (204, Length::None, &b""[..]));
        for wrong in [
            &b"HTTP/1.1 99\r\n\r\n"[..],
            b"HTTP/1.1 1000 X\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"GARBAGE\r\n\r\n",
            b"HTTP/1.1 099 X\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nnocolon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            assert_eq!(
                head.parse(wrong, &LIMITS, false),
                Err(Kind::BadResponse),
                "{:?}",
                String::from_utf8_lossy(wrong)
            );
        }
        let many = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(head.parse(many(150).as_bytes(), &LIMITS, false), Ok(()));
        assert_eq!(head.parse(many(201).as_bytes(), &LIMITS, false), Err(Kind::ResponseTooLarge));
        let and_a_lone_cr = many(201).replace("\r\n\r\n", "\r\nA: b\rc\r\n\r\n");
        assert_eq!(head.parse(and_a_lone_cr.as_bytes(), &LIMITS, false), Err(Kind::BadResponse));
    }
}
