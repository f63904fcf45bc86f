//! Whether a response is sent in a content coding, and in which (RFC 9110 §8.4, §12.5.3).
//!
//! The bytes themselves are coded by the runtime; what is decided here holds for the head. A response that would be coded for
//! another client says so in `Vary`, whatever this client takes.

use super::headers::vary;
use crate::http::{Length, RequestHead, ResponseHead};
use penstock_plan::Coding;

/// A compiled policy.
#[derive(Debug)]
pub struct Compress {
    codings: Box<[Coding]>,
    least: u64,
    types: Box<[Box<str>]>,
}

const ACCEPT_ENCODING: &str = "accept-encoding";
const CONTENT_ENCODING: &str = "content-encoding";

impl Compress {
    pub(super) fn build(compress: &penstock_plan::Compress) -> Result<Compress, String> {
        if compress.codings.is_empty() {
            return Err("there is no coding to choose from".to_owned());
        }
        Ok(Compress {
            codings: compress.codings.as_slice().into(),
            least: compress.least,
            types: compress.types.iter().map(|text| text.as_str().into()).collect(),
        })
    }

    /// Decide, and change the head accordingly: the body of `response` is to be sent in the coding that is returned, if `affords` says that
    /// there is memory for it.
    pub fn on_response(
        &self,
        request: &RequestHead,
        response: &mut ResponseHead,
        affords: impl FnOnce(Coding) -> bool,
    ) -> Option<Coding> {
        if !self.is_eligible(response) {
            return None;
        }
        vary(&mut response.fields, "Accept-Encoding");
        let coding = self.accepted(request).filter(|coding| affords(*coding))?;
        response.fields.set(CONTENT_ENCODING, name(coding));
        // Ranges and digests are of other bytes; a strong validator is of one representation (RFC 9110 §8.8.1).
        for field in ["accept-ranges", "content-md5", "content-digest", "digest"] {
            response.fields.remove(field);
        }
        weaken(response);
        response.declared = None;
        if response.length != Length::None {
            response.length = Length::Chunked;
        }
        Some(coding)
    }

    fn is_eligible(&self, response: &ResponseHead) -> bool {
        // Neither a part, nor what has no body of its own, nor what is coded already: never twice.
        if response.status < 200 || matches!(response.status, 204 | 205 | 206 | 304) {
            return false;
        }
        let fields = &response.fields;
        let is_plain = fields.get(CONTENT_ENCODING).is_none() && fields.get("content-range").is_none();
        let is_long = response.declared.is_none_or(|length| length >= self.least);
        let may_change = !fields.all("cache-control").any(|value| has_token(value, b"no-transform"));
        is_plain && is_long && may_change && fields.get("content-type").is_some_and(|value| self.is_listed(value))
    }

    fn is_listed(&self, value: &[u8]) -> bool {
        let media = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        self.types.iter().any(|listed| match listed.strip_suffix('*') {
            Some(kind) => media.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind.as_bytes())),
            None => media.eq_ignore_ascii_case(listed.as_bytes()),
        })
    }

    /// The coding that the client likes best; of those it likes alike, the one written first.
    fn accepted(&self, request: &RequestHead) -> Option<Coding> {
        let mut best = None;
        for coding in &self.codings {
            let weight = weight(request, name(*coding));
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, *coding));
            }
        }
        best.map(|(_, coding)| coding)
    }
}

fn name(coding: Coding) -> &'static str {
    match coding {
        Coding::Gzip => "gzip",
        Coding::Br => "br",
        Coding::Zstd => "zstd",
    }
}

/// How much the client likes a coding, in thousandths; 0: not at all. `*` stands for those it does not name.
fn weight(request: &RequestHead, coding: &str) -> u16 {
    let (mut named, mut any) = (None, None);
    for item in request.fields.all(ACCEPT_ENCODING).flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = item.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let token = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
        let quality = quality.map_or(1000, thousandths);
        if token.eq_ignore_ascii_case(coding.as_bytes()) {
            named = Some(quality);
        } else if token == b"*" {
            any = Some(quality);
        }
    }
    named.or(any).unwrap_or(0)
}

/// A quality (RFC 9110 §12.4.2); what is none counts as 0.
fn thousandths(text: &[u8]) -> u16 {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(at) => text.split_at(at),
        None => (text, &b""[..]),
    };
    let digits = fraction.get(1..).unwrap_or_default();
    if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    match whole {
        b"1" => 1000,
        b"0" => {
            let padded = digits.iter().chain(b"000").take(3);
            padded.fold(0, |value, digit| value * 10 + u16::from(digit - b'0'))
        }
        _ => 0,
    }
}

fn weaken(response: &mut ResponseHead) {
    let Some(tag) = response.fields.get("etag") else { return };
    if !tag.starts_with(b"W/") {
        let weak = [b"W/", tag].concat();
        response.fields.set("etag", weak);
    }
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    const LIMITS: HeadLimits = HeadLimits { bytes: 4096, fields: 20, uri: 1024, elsewhere: false };

    fn policy() -> Compress {
        let types = ["text/*", "application/json"].map(str::to_owned).to_vec();
        let codings = vec![Coding::Zstd, Coding::Br, Coding::Gzip];
        Compress::build(&penstock_plan::Compress { codings, least: 1024, types }).unwrap()
    }

    fn request(accepts: &str) -> RequestHead {
        let mut head = RequestHead::default();
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accepts}\r\n\r\n");
        head.parse(text.as_bytes(), &LIMITS).unwrap();
        head
    }

    fn response(status: u16, fields: &str) -> ResponseHead {
        let mut head = ResponseHead::default();
        head.parse(format!("HTTP/1.1 {status} OK\r\n{fields}\r\n").as_bytes(), &LIMITS, false).unwrap();
        head
    }

    fn chosen(accepts: &str) -> Option<Coding> {
        policy().on_response(
            &request(accepts),
            &mut response(200, "Content-Type: text/html\r\nContent-Length: 5000\r\n"),
            |_| true,
        )
    }

    #[test]
    fn the_client_decides_and_our_order_breaks_ties() {
        for (accepts, coding) in [
            ("gzip", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip;q=1.0, br;q=0.8", Some(Coding::Gzip)),
            ("GZIP ; q=0.5", Some(Coding::Gzip)),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, zstd;q=0", Some(Coding::Br)),
            ("gzip;q=0", None),
            ("gzip;q=0.0001", None),
            ("gzip;q=x", None),
            ("identity, deflate", None),
            ("", None),
        ] {
            assert_eq!(chosen(accepts), coding, "{accepts:?}");
        }
    }

    #[test]
    fn the_head_tells_what_was_done() {
        let fields = "Content-Type: application/json; charset=utf-8\r\nContent-Length: 5000\r\nETag: \"a\"\r\n\
                      Accept-Ranges: bytes\r\nVary: Origin\r\n";
        let mut head = response(200, fields);
        assert_eq!(policy().on_response(&request("br"), &mut head, |_| true), Some(Coding::Br));
        assert_eq!((head.length, head.declared), (Length::Chunked, None));
        let text = |name| head.fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(text("content-encoding").as_deref(), Some("br"));
        assert_eq!(text("etag").as_deref(), Some("W/\"a\""));
        assert_eq!(text("accept-ranges"), None);
        let varies: Vec<_> = head.fields.all("vary").collect();
        assert!(varies.concat().ends_with(b"Accept-Encoding"), "{varies:?}");
    }

    #[test]
    fn what_would_be_coded_for_another_client_varies() {
        let mut head = response(200, "Content-Type: text/css\r\nContent-Length: 5000\r\n");
        assert_eq!(policy().on_response(&request("identity"), &mut head, |_| true), None);
        assert_eq!(policy().on_response(&request("br"), &mut head, |_| false), None, "no memory");
        assert_eq!(head.fields.get("vary"), Some(&b"Accept-Encoding"[..]));
        assert_eq!((head.length, head.fields.get("content-encoding")), (Length::Bytes(5000), None));
    }

    #[test]
    fn some_responses_stay_as_they_are() {
        for (status, fields) in [
            (200, "Content-Type: image/png\r\nContent-Length: 5000\r\n"),
            (200, "Content-Type: text/html\r\nContent-Length: 1023\r\n"),
            (200, "Content-Type: text/html\r\nContent-Encoding: gzip\r\nContent-Length: 5000\r\n"),
            (200, "Content-Type: text/html\r\nCache-Control: public, no-transform\r\nContent-Length: 5000\r\n"),
            (206, "Content-Type: text/html\r\nContent-Range: bytes 0-4999/9999\r\nContent-Length: 5000\r\n"),
            (304, "Content-Type: text/html\r\nETag: \"a\"\r\n"),
            (200, "Content-Length: 5000\r\n"),
        ] {
            let mut head = response(status, fields);
            let before = head.clone();
            assert_eq!(policy().on_response(&request("gzip"), &mut head, |_| true), None, "{fields}");
            assert_eq!(head.fields.get("vary"), None, "{fields}");
            assert_eq!((head.length, head.fields.get("etag")), (before.length, before.fields.get("etag")));
        }
    }

    #[test]
    fn an_unknown_length_is_long() {
        let mut head = response(200, "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n");
        assert_eq!(policy().on_response(&request("gzip"), &mut head, |_| true), Some(Coding::Gzip));
    }
}
