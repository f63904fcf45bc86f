//! How many of something may begin in a time.

use crate::millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// So many in such a time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// How many, evenly spread.
    #[schemars(range(min = 1))]
    pub count: u32,
    /// In this time.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub per: Duration,
    /// How many at once, if none came for a while.
    #[schemars(range(min = 1))]
    pub burst: u32,
}
