//! When a request is sent once more.

use crate::millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When a request is sent once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// How often a request that was sent is sent again; 0: nothing is tried again.
    pub attempts: u8,
    /// How long one attempt waits for its connection and its response head.
    #[serde(with = "millis::option")]
    #[schemars(with = "Option<u64>")]
    pub per_try_timeout: Option<Duration>,
    /// Statuses for which another endpoint is asked.
    pub on: Vec<u16>,
    /// Shortest pause before a request is sent again.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub least_pause: Duration,
    /// Longest pause.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub most_pause: Duration,
    /// Bytes of a request's body that are kept to be sent again.
    pub buffer: u32,
}
