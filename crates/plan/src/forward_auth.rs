//! Another service that is asked whether a request may go on.

use crate::millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Whom to ask, what, and what its answer gives to the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuth {
    /// Index of the upstream that is asked.
    pub upstream: u32,
    /// The target of the question; may have a query.
    pub path: String,
    /// Fields that the service's answer gives to the request. The client's own are taken out, whatever the service says.
    pub copy_headers: Vec<String>,
    /// How long a request waits for the answer.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
}
