//! The Plan: one compiled, complete, versioned configuration, as Python hands it to the data plane.
//!
//! Only serde structs live here. A Plan has no defaults to fill in, no names to look up and no units to read: Python's
//! `config/compile.py` is its only producer, and every reference is an index into the list it names. Durations are whole
//! milliseconds, sizes are bytes, header names are lower case. Unknown keys are errors, so that the two sides cannot drift
//! apart unseen; [`schema`] is what Python's compiler is tested against.
#![forbid(unsafe_code)]

mod addon;
mod affinity;
mod balance;
mod capture;
mod filter;
mod forward;
mod forward_auth;
mod health;
mod list;
mod listener;
mod maintenance;
mod millis;
mod mirror;
mod page;
mod predicate;
mod rate;
mod retry;
mod route;
mod split;
mod template;
mod tls;
mod upstream;

pub use addon::{Addon, Hook, OnFailure};
pub use affinity::{Affinity, AffinityCookie, AffinityQuery, AffinityTable, Secret};
pub use balance::{Balance, Hash, HashMethod, Key};
pub use capture::Capture;
pub use filter::{Coding, Compress, Cors, EditCookies, Filter, Hsts, PrefixChange, Rewrite, SameSite};
pub use forward::{Forward, ForwardRule, Interception, Told, Users, Verdict};
pub use forward_auth::ForwardAuth;
pub use health::{
    BodyTest, GrpcProbe, HealthCheck, HttpProbe, LatencyOutlier, Outlier, PostgresProbe, Probe, Start, TcpProbe,
    UdpProbe,
};
pub use list::{List, ListKind, ListSource};
pub use listener::{Datagrams, HttpsRedirect, Listener, ListenerLimits, ListenerTimeouts, Protocol, ProxyProtocol};
pub use maintenance::Maintenance;
pub use mirror::Mirror;
pub use page::{ErrorPages, Page, PageBody};
pub use predicate::{Comparison, Field, Literal, Operand, Operator, Predicate, Span};
pub use rate::Rate;
pub use retry::Retry;
pub use route::{Action, Match, Redirect, Respond, Route, RouteLimits, RouteTimeouts};
pub use split::{Override, Share, Split};
pub use template::{Piece, Template};
pub use tls::{Alpn, Certificate, ClientCertificates, Internal, ServerName, Tls, TlsVersion, UnknownName, UpstreamTls};
pub use upstream::{
    AdminState, Endpoint, HostHeader, Order, Parent, ParentProtocol, ProxyVersion, Queue, Upstream, UpstreamLimits,
    UpstreamProtocol, UpstreamTimeouts,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A whole compiled configuration.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Counts up with every plan that a process is given.
    pub version: u64,
    /// What belongs to the process, not to one listener.
    pub engine: Engine,
    /// Who is asked for the addresses of names.
    pub dns: Dns,
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// Named groups of endpoints.
    pub upstreams: Vec<Upstream>,
    /// Tried in order; the first that matches wins. Shared: what is built of them keeps them, too.
    pub routes: Vec<Arc<Route>>,
    /// What predicates look into by name.
    pub lists: Vec<List>,
    /// Pages for failures, where neither the route nor the listener has one.
    pub error_pages: Vec<ErrorPages>,
    /// Python code that routes may name.
    pub addons: Vec<Addon>,
    /// One record per exchange, or none.
    pub access_log: Option<AccessLog>,
}

impl Plan {
    /// The name of the upstream of this index; empty where there is none.
    pub fn upstream_name(&self, index: u32) -> &str {
        self.upstreams.get(index as usize).map_or("", |upstream| &upstream.name)
    }
}

/// What belongs to the process.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Worker threads, 1 to 1024. Fixed at start: a later plan with another number gets a warning.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: u16,
    /// How long a stopping process waits for what is under way.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub drain_timeout: Duration,
    /// Bytes of memory for the process. `null`: nine tenths of what its control group has; 0: no limit.
    pub memory: Option<u64>,
    /// How long a worker may stand still before it is told of; 0: for ever.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub watchdog: Duration,
}

/// Who is asked for the addresses of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Addresses with ports, `"10.0.0.53:53"`; none: the system's.
    pub servers: Vec<String>,
    /// Which addresses of a name come first that has both kinds.
    pub prefer: Family,
}

/// A kind of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Where access records go, and how they look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// The shape of a record.
    pub format: LogFormat,
    /// `"stdout"` or `{"file": "/path"}`.
    pub to: LogTarget,
    /// Whether queries of targets and referrers are written.
    pub query: bool,
}

/// The shape of an access record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// The combined log format that web servers share.
    Combined,
    /// Timers and termination flags in the order HAProxy users read.
    Haproxy,
}

/// Where access records are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// An absolute path, reopened on request.
    File(String),
}

/// The JSON schema of [`Plan`].
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Plan)
}
