//! How one probe ended.

use std::fmt;

/// How one probe ended, in one word for the log and the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With the answer that was asked for, of this status.
    Answered(u16),
    /// A connection was made, and no more was asked.
    Connected,
    /// The words that were expected came back.
    Replied,
    /// gRPC: `SERVING`.
    Serving,
    /// A status that is not among those that are a success.
    Status(u16),
    /// The body holds nothing of what it must hold.
    Body,
    /// Other words than those that were expected.
    Reply,
    /// The server is there, and says that it takes nobody now.
    NotReady,
    /// gRPC: a status that is not `SERVING`, by its number in `HealthCheckResponse`.
    NotServing(u8),
    /// gRPC: the call failed with this code.
    Grpc(u16),
    /// The endpoint's name has no address.
    Unresolved,
    /// The connection was refused.
    Refused,
    /// No connection for another reason.
    Unreachable,
    /// A connection, but a certificate that is not valid.
    Untrusted,
    /// A connection, but no TLS.
    Insecure,
    /// Not within the timeout.
    Timeout,
    /// The endpoint closed, or sent what is no response.
    BadResponse,
    /// The head of the answer, or its message, is longer than a probe reads.
    TooLong,
}

impl Outcome {
    /// Whether it speaks for the endpoint.
    pub fn is_success(self) -> bool {
        matches!(self, Outcome::Answered(_) | Outcome::Connected | Outcome::Replied | Outcome::Serving)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(status) | Outcome::Status(status) => write!(to, "probe answered {status}"),
            Outcome::Connected => to.write_str("connected"),
            Outcome::Replied => to.write_str("replied as expected"),
            Outcome::Serving => to.write_str("serving"),
            Outcome::Body => to.write_str("the body is not as expected"),
            Outcome::Reply => to.write_str("the reply is not as expected"),
            Outcome::NotReady => to.write_str("not ready for clients"),
            Outcome::NotServing(0) => to.write_str("status unknown"),
            Outcome::NotServing(2) => to.write_str("not serving"),
            Outcome::NotServing(3) => to.write_str("service unknown"),
            Outcome::NotServing(status) => write!(to, "serving status {status}"),
            Outcome::Grpc(code) => write!(to, "gRPC code {code}"),
            Outcome::Unresolved => to.write_str("name has no address"),
            Outcome::Refused => to.write_str("connection refused"),
            Outcome::Unreachable => to.write_str("no connection"),
            Outcome::Untrusted => to.write_str("certificate not valid"),
            Outcome::Insecure => to.write_str("TLS handshake failed"),
            Outcome::Timeout => to.write_str("no answer in time"),
            Outcome::BadResponse => to.write_str("no valid response"),
            Outcome::TooLong => to.write_str("the answer is too long"),
        }
    }
}
