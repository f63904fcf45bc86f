//! Routes: a match and where to go.

use crate::{ErrorPages, Filter, ForwardAuth, Maintenance, Mirror, Predicate, Split, Template, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One route. Routes are tried in the order of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique among routes; `route-N` (N from 1) where the configuration gives none.
    pub name: String,
    /// Indexes of the listeners it serves. `null`: all.
    pub listeners: Option<Vec<u32>>,
    /// What a request must say. `null`: every request matches.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// A body that the match asks for a JSON value and that has none to give (no JSON, too large) is refused; otherwise the
    /// route does not match.
    pub strict: bool,
    /// What becomes of a request that matches.
    pub action: Action,
    /// Steps on the request and its response, in order.
    pub filters: Vec<Filter>,
    /// A service that is asked whether the request may go on, before the add-ons. `null`: none.
    pub forward_auth: Option<Box<ForwardAuth>>,
    /// Indexes of the add-ons that are asked, in order.
    pub addons: Vec<u32>,
    /// Overrides of the upstream's waits.
    pub timeouts: RouteTimeouts,
    /// Overrides of the listener's limits.
    pub limits: RouteLimits,
    /// Pages for failures; they go before the listener's.
    pub error_pages: Vec<ErrorPages>,
    /// Whether all are sent away for a while, and who is not.
    pub maintenance: Maintenance,
    /// Copies of its requests.
    pub mirror: Option<Box<Mirror>>,
}

/// A compiled match with the text it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// The expression as written; spans of the predicate point into it.
    pub text: String,
    /// The same, compiled.
    pub predicate: Predicate,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Forward to the upstream of this index.
    Upstream(u32),
    /// Forward to one of several.
    Split(Box<Split>),
    /// Answer ourselves.
    Respond(Respond),
    /// Send the client elsewhere.
    Redirect(Redirect),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// 200 to 599.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Fields in order, `content-type` among them if wanted.
    pub headers: Vec<(String, Template)>,
    /// Escaped as the `content-type` asks for.
    pub body: Template,
}

/// An answer with a `Location`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The `Location`.
    pub to: Template,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Overrides of the upstream's waits; `null` keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeouts {
    /// The response head.
    #[serde(with = "millis::option")]
    #[schemars(with = "Option<u64>")]
    pub head: Option<Duration>,
    /// The next bytes of a response body.
    #[serde(with = "millis::option")]
    #[schemars(with = "Option<u64>")]
    pub body: Option<Duration>,
    /// The whole exchange; none unless set.
    #[serde(with = "millis::option")]
    #[schemars(with = "Option<u64>")]
    pub total: Option<Duration>,
}

/// Overrides of the listener's limits; `null` keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteLimits {
    /// Bytes of a request body: 413 beyond.
    pub body: Option<u64>,
}
