//! The properties that the fuzz targets check, one file for each target. A property that does not hold is a panic, which the
//! fuzzer reports with the input.
//!
//! Nothing here looks at how the rules do their work: each property is written from the outside, and where it needs a second
//! opinion it has a small one of its own.

pub mod chunked;
pub mod client_hello;
pub mod forwarded;
pub mod h2;
pub mod hpack;
pub mod list;
pub mod path_and_host;
pub mod predicate;
pub mod proxy_protocol;
pub mod request_head;
pub mod response_head;
pub mod socks;
mod split;
mod written;
