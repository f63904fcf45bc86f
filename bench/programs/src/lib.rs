//! What the bench's programs share: reading their arguments, and the least of HTTP/1.1 that a client of a known origin needs.

pub mod http;

use std::io::{Error, ErrorKind, Result};
use std::str::FromStr;

/// The argument at `place` (1 is the first), or an error that names what is missing.
pub fn argument<T: FromStr>(place: usize, what: &str) -> Result<T> {
    std::env::args()
        .nth(place)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("argument {place} must be {what}")))
}
