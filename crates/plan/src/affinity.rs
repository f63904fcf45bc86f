//! Clients that are sent to the same endpoint again.

use crate::{Key, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What binds a client to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// A cookie that we set.
    Cookie(AffinityCookie),
    /// A text of the request, by the highest score of key and endpoint.
    Key(Key),
    /// A text of the request or connection, by a table of who was sent where.
    Table(AffinityTable),
}

/// The table that binds clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffinityTable {
    /// What a client is known by.
    pub key: Key,
    /// How long a client stays bound after it was last seen.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub ttl: Duration,
    /// The most clients that are bound at once; with one more, the one that was not seen for longest is forgotten.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub size: u32,
}

/// What a command asks of an affinity table, or has it forget: all of it, one client or the clients of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AffinityQuery {
    /// The text that a client is known by.
    pub key: Option<String>,
    /// Address of an endpoint.
    pub endpoint: Option<String>,
    /// Whether what is asked for is to be forgotten.
    #[serde(default)]
    pub clear: bool,
}

/// The cookie that binds a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AffinityCookie {
    /// Name of the cookie.
    pub name: String,
    /// What its values are made with. `null`: a secret of this process.
    pub secret: Option<Secret>,
}

/// Where a secret is found; the secret itself is never part of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// In the environment variable of this name.
    Env(String),
    /// In the file of this absolute path, less line ends behind it.
    File(String),
}
