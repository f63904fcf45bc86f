//! What is decided about TLS: which names a certificate is good for, how long, and which of many a client gets; and what a client asks
//! for whose handshake is passed on. No keys, no cryptography.

mod certificate;
mod client;
mod hello;
mod names;
mod ocsp;

pub use certificate::{Certificate, Malformed};
pub use client::Client;
pub use hello::{BadHello, First, Hello, HelloReader, LONGEST};
pub use names::{Names, Overlap};
pub use ocsp::{Staple, Unusable};

/// Seconds since 1970.
pub type UnixSeconds = i64;
