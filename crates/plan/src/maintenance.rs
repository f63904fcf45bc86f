//! Maintenance of a route: who is served nevertheless, and what all others are told.

use crate::{Match, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Maintenance of one route. A command switches it, whatever `on` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// Whether it is on without a command.
    pub on: bool,
    /// Requests that pass nevertheless. `null`: none.
    pub except: Option<Box<Match>>,
    /// How long all others are asked to stay away.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub retry_after: Duration,
}
