//! How one endpoint of an upstream is chosen.

use crate::Operand;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The better of two picked at random, by (in-flight + 1) × peak-EWMA latency.
    P2c,
    /// Smooth weighted round robin.
    RoundRobin,
    /// The fewest in-flight requests for its weight.
    LeastRequests,
    /// The least of all by (in-flight + 1) × peak-EWMA latency.
    PeakEwma,
    /// Any, by weight.
    Random,
    /// The first in the order written that may take requests.
    First,
    /// The same endpoint for the same key.
    Hash(Hash),
}

/// Requests of one key go to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hash {
    /// What is hashed.
    pub key: Key,
    /// How keys are spread over the endpoints.
    pub method: HashMethod,
    /// The most load that an endpoint may have, in percent of the mean, before its keys go to the next. `null`: no bound.
    pub bounded_load: Option<u32>,
}

/// A text made of values of the request, joined in order; missing where any of them is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Key(pub Vec<Operand>);

/// How keys are spread over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HashMethod {
    /// A table of a prime number of places, filled by each endpoint's own permutation.
    Maglev,
    /// Points on a circle.
    Ring,
    /// The highest score of key and endpoint.
    Rendezvous,
}
