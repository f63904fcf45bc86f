//! What is decided about certificates: which names one is good for, how long, and which of many a client gets. No keys, no
//! cryptography.

mod certificate;
mod client;
mod names;

pub use certificate::{Certificate, Malformed};
pub use client::Client;
pub use names::{Names, Overlap};

/// Seconds since 1970.
pub type UnixSeconds = i64;
