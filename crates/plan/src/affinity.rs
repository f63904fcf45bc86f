//! Clients that are sent to the same endpoint again.

use crate::Key;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What binds a client to an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// A cookie that we set.
    Cookie(AffinityCookie),
    /// A text of the request, by the highest score of key and endpoint.
    Key(Key),
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
