//! What HTTP says, independent of the version on the wire: heads, fields, lengths, paths and names.
//!
//! A head is parsed once, strictly, into [`RequestHead`] or [`ResponseHead`]; what is forwarded is written anew from that
//! form (safety.md R1). Router, filters and origin see the same canonical path and host (R7).

mod fields;
mod framing;
pub mod host;
mod request;
mod scan;
pub mod uri;

pub use fields::{Field, Fields, Known};
pub use framing::Length;
pub use request::{HeadLimits, RequestHead, Target};
pub use scan::{HeadScan, Scanned};

/// Version of a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }

    /// As in `Via` (RFC 9110 §7.6.3).
    pub fn number(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
        }
    }
}
