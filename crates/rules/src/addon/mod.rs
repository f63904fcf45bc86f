//! Add-ons: what Python is told of a request, what its verdict may change, and which calls may wait for it.
//!
//! What an add-on says is judged here, whole, before any of it touches a request: names and values by the rules of filters, paths
//! by those of targets. So what an add-on does is no less strict than what a configuration does (safety.md R1, R6, R7).

mod describe;
mod line;
mod verdict;

pub use describe::{describe_request, describe_response};
pub use line::{Left, Line, Refusal};
pub use verdict::{Answer, Verdict};
