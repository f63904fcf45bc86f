//! Pages in place of the proxy's own words for a failure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The pages for one status or a class of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorPages {
    /// `"503"`, or `"5xx"` for those that have none of their own.
    pub status: String,
    /// At least one; the client's `Accept` chooses.
    pub pages: Vec<Page>,
}

/// One page. `{status}`, `{reason}` and `{request_id}` in it are replaced; other braces are only braces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// What it says.
    pub body: PageBody,
    /// Its `Content-Type`.
    pub content_type: String,
    /// Whether it also stands in for an endpoint's answer of the status.
    pub endpoint: bool,
}

/// Where a page comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PageBody {
    /// The plan.
    Text(String),
    /// A file with an absolute path, read when the plan is built.
    File(String),
}
