//! Copies of requests to a further upstream.

use crate::Match;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which requests of a route are copied, and where to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Index of the upstream that gets the copies.
    pub upstream: u32,
    /// How many of ten thousand requests.
    #[schemars(range(max = 10_000))]
    pub of_10000: u16,
    /// Which requests; the others are never copied. `null`: any.
    pub when: Option<Match>,
}
