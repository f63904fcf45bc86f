//! Lists that expressions look into.

use crate::millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A named list, which predicates name and which is read anew while a plan runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// In the configuration.
    pub name: String,
    /// What its lines are.
    pub kind: ListKind,
    /// What it is read from, in order.
    #[schemars(length(min = 1, max = 64))]
    pub sources: Vec<ListSource>,
    /// How often it is read anew; its files also when they change.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub refresh: Duration,
    /// Bytes that all its sources have together at most.
    #[schemars(range(max = 1_073_741_824))]
    pub max_size: u64,
}

/// What the lines of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListKind {
    /// A domain: its name and those of all its subdomains.
    Domains,
    /// An address and hosts, as in `/etc/hosts`: exactly these names.
    Hosts,
    /// AdBlock's rules, of which those of whole domains count.
    Adblock,
    /// Networks of addresses (CIDR).
    Networks,
    /// Regular expressions, found anywhere.
    Regex,
}

/// A file that a list is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListSource {
    /// An absolute path.
    pub path: String,
    /// Where the file is fetched from; until it was, it counts as empty. `null`: it has to be there.
    pub url: Option<String>,
}

impl ListSource {
    /// What people call it.
    pub fn name(&self) -> &str {
        self.url.as_deref().unwrap_or(&self.path)
    }
}
