//! What HTTP says, independent of the version on the wire: heads, fields, lengths, paths and names.
//!
//! A head is parsed once, strictly, into [`RequestHead`] or [`ResponseHead`]; what is forwarded is written anew from that
//! form (safety.md R1). Router, filters and origin see the same canonical path and host (R7).

pub mod chunked;
mod elsewhere;
mod fields;
pub mod forwarded;
pub mod frames;
mod framing;
pub mod h2;
mod hop;
pub mod host;
pub mod hpack;
mod http2;
mod identity;
mod readings;
mod request;
mod response;
mod scan;
pub mod uri;
pub mod websocket;
mod write;

pub use fields::{Field, Fields, Known};
pub use framing::Length;
pub use hop::{Options, take_hop};
pub use http2::{Pseudo, is_malformed};
pub use identity::Identity;
pub use readings::readings;
pub use request::{LONGEST_METHOD, PREFACE, RequestHead, Target};
pub use response::ResponseHead;
pub use scan::{HeadScan, Scanned};
pub use write::{
    BodyFraming, FieldWriter, HostLine, Persistence, RequestLines, ResponseLines, passed_on, reason_phrase, write_host,
    write_request, write_request_fields, write_response,
};

/// Version of a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2.0",
        }
    }

    /// As in `Via` (RFC 9110 §7.6.3).
    pub fn number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2.0",
        }
    }
}

/// What a head may cost.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the head, start line included.
    pub bytes: usize,
    /// Number of fields.
    pub fields: usize,
    /// Bytes of the request target.
    pub uri: usize,
    /// Whether targets may name another host, because a forward proxy takes them there.
    pub elsewhere: bool,
}

#[cfg(test)]
mod properties;
