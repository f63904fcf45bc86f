//! How the health of endpoints is found out.

use crate::{UpstreamTls, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Active probes of every endpoint of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked, and what is the right answer.
    pub probe: Probe,
    /// Where to ask instead of at the endpoint: an IP address with a port, or `"unix:/path"`.
    pub address: Option<String>,
    /// Another port of the endpoint.
    pub port: Option<u16>,
    /// What probes shake hands with, where nothing else does. `null`: as the upstream does, or not.
    pub tls: Option<UpstreamTls>,
    /// From one probe to the next, give or take 10 %.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub interval: Duration,
    /// A whole probe.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
    /// Failures in a row that take an endpoint down.
    pub fall: u8,
    /// Successes in a row that bring it up.
    pub rise: u8,
    /// Whether an endpoint takes requests before its first probe.
    pub start: Start,
}

/// What an endpoint is before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It takes requests.
    Up,
    /// It takes none before a probe was passed.
    Down,
}

/// What is asked, and what is the right answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// An HTTP/1.1 request.
    Http(HttpProbe),
    /// A connection, and perhaps a word over it.
    Tcp(TcpProbe),
    /// A datagram, and what must come back.
    Udp(UdpProbe),
    /// `grpc.health.v1.Health/Check` over HTTP/2 without TLS.
    Grpc(GrpcProbe),
    /// `PING` to a Redis server.
    Redis,
    /// The first word of a session with a PostgreSQL server.
    Postgres(PostgresProbe),
    /// What a MySQL server says first.
    Mysql,
}

/// An HTTP request and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// `GET`, `HEAD`, …
    pub method: String,
    /// Path, perhaps with a query.
    pub path: String,
    /// The `Host`; `null`: the address that is asked.
    pub host: Option<String>,
    /// Further fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Ranges of statuses that are a success, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// What the first 64 KB of the body must hold.
    pub body: Option<BodyTest>,
}

/// What a body must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyTest {
    /// This text.
    Text(String),
    /// A match of this regular expression.
    Regex(String),
}

/// What is said over a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// Bytes to send; may be empty.
    pub send: Vec<u8>,
    /// Bytes that the first 64 KB of the answer must hold; empty: none is waited for.
    pub expect: Vec<u8>,
}

/// What is said in a datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdpProbe {
    /// The datagram to send.
    pub send: Vec<u8>,
    /// Bytes that a datagram of the answer must hold; empty: any answer will do.
    pub expect: Vec<u8>,
}

/// The question of the gRPC health-checking protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrpcProbe {
    /// The service asked for; empty: the server as a whole.
    pub service: String,
    /// The `:authority`; `null`: the address that is asked.
    pub host: Option<String>,
}

/// Who a PostgreSQL server is told that we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresProbe {
    /// The role.
    pub user: String,
}

/// Ejection of endpoints that fail the requests they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Failures in a row that eject an endpoint, at least 1.
    #[schemars(range(min = 1, max = 255))]
    pub failures: u8,
    /// The time in which they must lie.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub within: Duration,
    /// Length of a first ejection; each that follows soon is twice as long.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub eject: Duration,
    /// Longest ejection.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub most: Duration,
    /// Share of an upstream's endpoints that may be ejected at once, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub share_percent: u8,
    /// Whether slow endpoints are ejected, too.
    pub latency: Option<LatencyOutlier>,
}

/// When an endpoint is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyOutlier {
    /// Its mean against the median of the others' means, in percent.
    pub factor_percent: u32,
    /// Below this it is fast enough, whatever the others are.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub least: Duration,
}
