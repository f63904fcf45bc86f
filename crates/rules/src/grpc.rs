//! gRPC (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>): how its clients are told what we answer by ourselves.
//! Whatever an endpoint says, passes as it is.

use crate::http::{Known, Length, RequestHead, ResponseHead, reason_phrase};
use crate::page;

/// Whether a request is a call of gRPC. That of gRPC-Web, which looks alike, is not: its clients read answers of HTTP.
pub fn is_call(request: &RequestHead) -> bool {
    let mut types = request.fields.all_known(Known::ContentType);
    types
        .next()
        .and_then(|value| value.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.trim_ascii_start().first(), None | Some(b'+' | b';')))
}

/// What a status of HTTP that we answer with is to gRPC
/// (<https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>).
pub fn code(status: u16) -> u8 {
    match status {
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 429 | 431 => RESOURCE_EXHAUSTED,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 405 | 501 => UNIMPLEMENTED,
        502 | 503 => UNAVAILABLE,
        400..=599 => INTERNAL,
        _ => UNKNOWN,
    }
}

const UNKNOWN: u8 = 2;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

/// Tell in gRPC's way what `response` tells in HTTP's: a head and nothing behind it ("Trailers-Only"). Fields that are not about a
/// content stay.
pub fn translate(response: &mut ResponseHead) {
    let (code, phrase) = (code(response.status), reason_phrase(response.status));
    page::strip_content(&mut response.fields);
    response.set_status(200);
    response.fields.push("content-type", "application/grpc");
    response.fields.push("grpc-status", itoa::Buffer::new().format(code));
    // A phrase of ours has nothing that would have to be escaped.
    if !phrase.is_empty() {
        response.fields.push("grpc-message", phrase);
    }
    (response.length, response.declared) = (Length::None, None);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeadLimits;

    fn call(content_type: &str) -> bool {
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{content_type}\r\n");
        let mut head = RequestHead::default();
        head.parse(text.as_bytes(), &HeadLimits { bytes: 65536, fields: 100, uri: 8192, elsewhere: false }).unwrap();
        is_call(&head)
    }

    #[test]
    fn a_call_says_so() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc ; x", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            assert_eq!(call(&format!("Content-Type: {value}\r\n")), expected, "{value}");
        }
        assert!(!call(""));
    }

    #[test]
    fn a_failure_is_told_in_a_head_alone() {
        let mut head = ResponseHead::default();
        head.compose(503);
        head.fields.push("retry-after", "1");
        head.fields.push("content-type", "text/plain");
        head.fields.push("content-length", "5");
        head.length = Length::Bytes(5);
        translate(&mut head);
        let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
        assert_eq!((head.status, head.length, head.declared), (200, Length::None, None));
        assert_eq!(
            fields,
            [
                (&b"retry-after"[..], &b"1"[..]),
                (b"content-type", b"application/grpc"),
                (b"grpc-status", b"14"),
                (b"grpc-message", b"Service Unavailable"),
            ]
        );
    }

    /// No answer of ours that refuses is a success to gRPC.
    #[test]
    fn every_status_has_a_code() {
        for (status, expected) in [(400, 13), (401, 16), (403, 7), (404, 12), (429, 8), (500, 13), (502, 14), (504, 4)]
        {
            assert_eq!(code(status), expected, "{status}");
        }
        assert!((100..=999).all(|status| code(status) != 0));
    }
}
