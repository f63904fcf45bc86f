//! Exchanges that are kept to be looked at.

use crate::Match;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which exchanges of a listener are kept, and how much of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// Which requests. `null`: all.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// Bytes of each body that are kept.
    pub bodies: u64,
    /// Bytes that all of it takes; the oldest go first.
    pub memory: u64,
    /// Whether credentials, cookies and tokens stay as they are.
    pub secrets: bool,
}
