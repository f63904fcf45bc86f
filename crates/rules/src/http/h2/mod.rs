//! The server's side of a connection of HTTP/2 (RFC 9113), without its socket: bytes of the client go in, bytes for it come out, and
//! each stream is seen by whoever has its [`Key`]. Who waits for something is woken; nothing here waits or asks for the time.
//!
//! What a frame may be is judged here, and what frames cost by [`Conduct`](super::frames::Conduct). What a head means is the same as in
//! HTTP/1 and is judged by [`RequestHead::assemble`](super::RequestHead::assemble).

mod flow;
mod frame;
mod head;
mod server;
mod stream;
mod table;

pub use head::Head;
pub use server::{Limits, Opened, Server};
pub use stream::{Cut, Key};

use crate::error::Kind;

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(u32);

#[allow(missing_docs)]
impl Reason {
    pub const NO_ERROR: Reason = Reason(0);
    pub const PROTOCOL_ERROR: Reason = Reason(1);
    pub const INTERNAL_ERROR: Reason = Reason(2);
    pub const FLOW_CONTROL_ERROR: Reason = Reason(3);
    pub const STREAM_CLOSED: Reason = Reason(5);
    pub const FRAME_SIZE_ERROR: Reason = Reason(6);
    pub const REFUSED_STREAM: Reason = Reason(7);
    pub const CANCEL: Reason = Reason(8);
    pub const COMPRESSION_ERROR: Reason = Reason(9);
    pub const CONNECT_ERROR: Reason = Reason(10);
    pub const ENHANCE_YOUR_CALM: Reason = Reason(11);

    /// Whether it blames the other side: it costs us a stream that we had begun to serve.
    fn is_refusal(self) -> bool {
        matches!(self.0, 1 | 3 | 5 | 6 | 7)
    }
}

/// What the client did wrong, for which the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is told.
    pub reason: Reason,
    /// What the log says.
    pub kind: Kind,
}

impl Fault {
    /// It broke the protocol.
    fn of(reason: Reason) -> Fault {
        Fault { reason, kind: Kind::BadFrame }
    }

    /// It sends what costs more than it is worth.
    fn flood() -> Fault {
        Fault { reason: Reason::ENHANCE_YOUR_CALM, kind: Kind::FrameFlood }
    }
}

#[cfg(test)]
mod tests;
