//! Splits: several upstreams of one route.

use crate::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of several upstreams takes the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// At least one; their weights sum to more than 0.
    pub shares: Vec<Share>,
    /// Requests of one key go to one share. `null`, or a request without it: any, by weight.
    pub key: Option<Key>,
    /// How a request names its share, or it cannot.
    #[serde(rename = "override")]
    pub named_by: Option<Override>,
}

/// One part of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Index of the upstream.
    pub upstream: u32,
    /// Share of the requests; 0: only those that name it.
    pub weight: u32,
}

/// How a request names its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Override {
    /// A field in lower case, asked first.
    pub header: Option<String>,
    /// A cookie.
    pub cookie: Option<String>,
    /// What it may say, and the index of the upstream that takes the request then.
    pub values: Vec<(String, u32)>,
}
