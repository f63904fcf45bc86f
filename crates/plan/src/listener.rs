//! Where connections are accepted.

use crate::{Capture, ErrorPages, Forward, Rate, Tls, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One named place that accepts connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// `"127.0.0.1:8080"`, `"[::1]:8080"`, `":8080"` (every address, both families) or `"unix:/run/p.sock"`. Port 0 asks the
    /// system for one. Empty where a listener of `tcp` hands it its connections.
    pub bind: Vec<String>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Index of the upstream whose endpoints get the sessions that no route takes. `null`: none does, and they are refused. Of
    /// `http` always `null`.
    pub upstream: Option<u32>,
    /// Index of the listener of `http`, with TLS, that takes the connections that no route takes. Of `http` always `null`.
    pub http: Option<u32>,
    /// What only listeners of datagrams have; of others `null`.
    pub datagrams: Option<Datagrams>,
    /// What only listeners of `forward` have; of others `null`.
    pub forward: Option<Forward>,
    /// Whether what a client says first (a TLS `ClientHello`) is read before a route is chosen, because something asks for a name or
    /// a protocol in it. It goes on as it came. Of `http` always false.
    pub preread: bool,
    /// How what is spoken is kept secret. `null`: it is not.
    pub tls: Option<Tls>,
    /// Whether HTTP/2 is spoken to whoever begins with its preface. With TLS that is agreed on in the handshake.
    pub h2c: bool,
    /// Networks (`"10.0.0.0/8"`, `"::1/128"`) whose forwarded headers are believed.
    pub trusted_proxies: Vec<String>,
    /// From whom a connection begins with a header of the PROXY protocol. `null`: from nobody.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Sends who comes over plain HTTP to the same place over TLS. `null`: nobody.
    pub https_redirect: Option<HttpsRedirect>,
    /// How long we wait for the client.
    pub timeouts: ListenerTimeouts,
    /// How much a client may ask of us.
    pub limits: ListenerLimits,
    /// What is kept of its exchanges to be looked at. `null`: nothing.
    pub capture: Option<Capture>,
    /// Pages for failures, where the route has none.
    pub error_pages: Vec<ErrorPages>,
}

/// How sessions of datagrams end, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Datagrams {
    /// Datagrams of the endpoint for each of the client, after which a session ends. `null`: they do not end it.
    #[schemars(range(min = 1))]
    pub responses: Option<u32>,
    /// Open sessions, each worker an equal part; for one more that which was used least recently ends.
    #[schemars(range(min = 1))]
    pub sessions: u32,
    /// Open sessions of one client address (IPv6: of one /64); one more is refused. `null`: no limit.
    #[schemars(range(min = 1))]
    pub sessions_per_client: Option<u32>,
    /// New sessions; one more is refused. `null`: no limit.
    pub session_rate: Option<Rate>,
    /// As `session_rate`, of one client address (IPv6: of one /64).
    pub session_rate_per_client: Option<Rate>,
}

/// Who says in a header of the PROXY protocol for whom it connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocol {
    /// Networks (`"10.0.0.0/8"`, `"::1/128"`), and `"unix"` for whoever reaches a unix socket. Their connections must begin so;
    /// those of others have no such header.
    pub from: Vec<String>,
    /// The whole header, from when the connection was made.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub timeout: Duration,
}

/// Where TLS is spoken, for who comes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpsRedirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// As clients reach it.
    pub port: u16,
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.0, HTTP/1.1 and HTTP/2.
    Http,
    /// Bytes, which are passed on as they are.
    Tcp,
    /// Datagrams, which are passed on as they are.
    Udp,
    /// HTTP for whatever origin the client names, and tunnels to it.
    Forward,
}

/// How long we wait for the client, named by what is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTimeouts {
    /// A whole TLS handshake.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub tls: Duration,
    /// A whole `ClientHello`, where it is read and passed on.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub hello: Duration,
    /// A whole request head, from its first byte (absolute).
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub head: Duration,
    /// The next bytes of a request body.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub body: Duration,
    /// Room to write when the client does not read.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub write: Duration,
    /// A body or a reader that is slower than its least rate, before it is judged.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub rate: Duration,
    /// The next request on a kept-alive connection; of `tcp` and `udp`: bytes either way.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub idle: Duration,
    /// Bytes either way on an upgraded connection.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub tunnel: Duration,
}

/// How much a client may ask of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerLimits {
    /// Bytes of a request head, request line included: 431 beyond.
    pub head: u32,
    /// Fields of a request head: 431 beyond.
    pub fields: u16,
    /// Bytes of the request target: 414 beyond.
    pub uri: u32,
    /// Bytes of a request body: 413 beyond. `null`: no limit.
    pub body: Option<u64>,
    /// Bytes a second that a request body must reach once it has taken `timeouts.rate`. 0: no minimum.
    pub body_rate: u32,
    /// Bytes a second that a client must take once it was waited for so long. 0: no minimum.
    pub write_rate: u32,
    /// Open connections; one more is refused. `null`: no limit but the system's.
    pub connections: Option<u32>,
    /// Open connections of one client address (IPv6: of one /64); one more is refused. `null`: no limit.
    pub connections_per_client: Option<u32>,
    /// New connections; one more is refused. `null`: no limit.
    pub connection_rate: Option<Rate>,
    /// New connections of one client address (IPv6: of one /64); one more is refused. `null`: no limit.
    pub connection_rate_per_client: Option<Rate>,
    /// Requests on one connection, after which it is closed. `null`: no limit.
    pub requests: Option<u32>,
    /// Requests at once on one connection of HTTP/2.
    pub streams: u16,
    /// TLS handshakes under way at once, of each worker; with one more, that which takes longest is given up.
    #[schemars(range(min = 1))]
    pub handshakes: u32,
}
