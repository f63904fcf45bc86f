//! Named groups of endpoints.

use crate::{Affinity, Balance, HealthCheck, Outlier, Retry, Secret, UpstreamTls, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A named group of endpoints that can answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Unique among upstreams.
    pub name: String,
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// How one endpoint is chosen.
    pub balance: Balance,
    /// What binds a client to an endpoint, or nothing does.
    pub affinity: Option<Affinity>,
    /// Which `Host` the endpoint is sent.
    pub host: HostHeader,
    /// The header of the PROXY protocol by which endpoints are told who the client is. `null`: none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What is spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// How the endpoints are asked for origins of forward proxies. `null`: they are not.
    pub parent: Option<Parent>,
    /// TLS to the endpoints. `null`: they are spoken to in clear.
    pub tls: Option<UpstreamTls>,
    /// How long we wait for an endpoint.
    pub timeouts: UpstreamTimeouts,
    /// How much an endpoint may ask of us.
    pub limits: UpstreamLimits,
    /// Where requests wait while all endpoints have as many as they may. `null`: they do not wait.
    pub queue: Option<Queue>,
    /// Probes, or none.
    pub health_check: Option<HealthCheck>,
    /// Ejection of endpoints that fail, or none.
    pub outlier: Option<Outlier>,
    /// When a request is sent once more.
    pub retry: Retry,
}

/// Proxies behind which origins are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// What they speak.
    pub protocol: ParentProtocol,
    /// Who we are there. `null`: they do not ask.
    pub user: Option<String>,
    /// Where the password of that is found. `null` without a user.
    pub password: Option<Secret>,
}

/// What a parent speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentProtocol {
    /// HTTP/1.1: whole URLs, and `CONNECT`.
    Http,
    /// SOCKS 5.
    Socks5,
}

/// One member of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `"10.0.0.1:9000"`, `"[::1]:9000"`, `"name:9000"` or `"unix:/run/app.sock"`.
    pub address: String,
    /// Share of the requests, 0 to 256; 0 takes none.
    #[schemars(range(min = 0, max = 256))]
    pub weight: u16,
    /// Tier: the next is used when no endpoint of the lower ones is usable.
    pub priority: u8,
    /// The most requests at once, of all workers. `null`: no limit.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// How long its weight grows after it came up. `null`: it has all of it at once.
    #[serde(with = "millis::option")]
    #[schemars(with = "Option<u64>")]
    pub slow_start: Option<Duration>,
    /// Whether people let it be used.
    pub admin: AdminState,
}

/// Whether people let an endpoint be used; its health is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// It is used.
    Ready,
    /// It gets no new requests, but those of clients that are bound to it.
    Draining,
    /// It gets none.
    Disabled,
}

/// What a command can order about an endpoint while a plan runs. It lasts until the endpoint is configured otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Use it, let it drain, or do not use it.
    Admin(AdminState),
    /// Its share of the requests, 0 to 256.
    Weight(u16),
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 over TLS.
    H2,
    /// HTTP/2 in clear, without asking first.
    H2c,
    /// HTTP/2 over TLS if the endpoint wants it, else HTTP/1.1.
    Auto,
}

/// Which `Host` an endpoint is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HostHeader {
    /// The client's.
    Keep,
    /// The endpoint's own address.
    Upstream,
    /// This one.
    Literal(String),
}

/// Where requests wait for a place at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Requests that may wait at once, of all workers: 503 beyond.
    pub size: u32,
    /// How long one may wait: 503 beyond.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
}

/// How long we wait for an endpoint, named by what is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamTimeouts {
    /// A connection.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub connect: Duration,
    /// The response head, from the end of the request.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub head: Duration,
    /// The next bytes of a response body.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub body: Duration,
    /// Room to write when the endpoint does not read.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub write: Duration,
    /// How long an unused connection stays in the pool.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub idle: Duration,
}

/// How much an endpoint may ask of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamLimits {
    /// Bytes of a response head: 502 beyond.
    pub head: u32,
    /// Fields of a response head: 502 beyond.
    pub fields: u16,
    /// Interim (1xx) responses before the final one: 502 beyond.
    pub interim: u8,
    /// Requests at once on one connection of HTTP/2.
    #[schemars(range(min = 1))]
    pub streams: u16,
    /// Unused connections kept per worker and endpoint.
    pub idle_connections: u16,
    /// Open connections to all endpoints, of all workers: 503 beyond. `null`: no limit.
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,
    /// Requests that wait in line or for a connection to be made, of all workers: 503 beyond. `null`: no limit.
    #[schemars(range(min = 1))]
    pub pending: Option<u32>,
    /// Requests under way, of all workers: 503 beyond. `null`: no limit.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
}
