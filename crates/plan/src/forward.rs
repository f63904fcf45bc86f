//! What a listener of `forward` has beside what all have: for whom it goes where.

use crate::{Match, Rate, UpstreamLimits, UpstreamTimeouts, UpstreamTls, millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// For whom requests go out, where to, and how origins are treated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Networks (`"10.0.0.0/8"`, `"fd00::/8"`) of clients that are served beside those of this machine.
    pub allow_clients: Vec<String>,
    /// Who of them has to prove who they are. `null`: nobody.
    pub users: Option<Users>,
    /// Ports that `CONNECT` may name, as ranges with both ends.
    pub connect_ports: Vec<(u16, u16)>,
    /// Whether addresses may be reached that are not public: of this machine, of its network, and the like.
    pub allow_private: bool,
    /// Index of the upstream through which requests go out, unless their rule says otherwise. `null`: they go straight to origins.
    pub parent: Option<u32>,
    /// What becomes of requests, the first that matches decides; after the last they go out.
    pub rules: Vec<ForwardRule>,
    /// What origins hear of the client in `X-Forwarded-For`.
    pub forwarded_for: Told,
    /// What they hear of it in `Forwarded` (RFC 7239).
    pub forwarded: Told,
    /// Whether they hear of us in `Via`.
    pub via: bool,
    /// Whether they hear nothing that a request does not need.
    pub anonymous: bool,
    /// How long we wait for an origin.
    pub timeouts: UpstreamTimeouts,
    /// How much an origin may ask of us; those that count, count over all origins together.
    pub limits: UpstreamLimits,
    /// How an origin proves who it is, where we speak TLS to it.
    pub tls: UpstreamTls,
    /// How tunnels are opened. `null`: no rule says that any is.
    pub interception: Option<Interception>,
}

/// How tunnels are opened: we stand for their origins, by certificates of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interception {
    /// Folder of the authority whose certificates clients are shown, an absolute path. What is missing of it is made.
    pub authority: String,
    /// How long the tunnels of a client that does not take our certificate for a host stay closed to that host. 0: they never do.
    #[serde(with = "millis")]
    #[schemars(with = "u64")]
    pub pinned: Duration,
}

/// Clients that have a name and a password (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Users {
    /// Path of a file of names and hashes; or `addon`.
    pub htpasswd: Option<String>,
    /// Index of the add-on that is asked.
    pub addon: Option<u32>,
    /// What clients are told that they are asked for; without quotes and backslashes.
    pub realm: String,
    /// Wrong passwords of one client address (IPv6: of one /64); of more, none is looked at.
    pub attempts: Rate,
}

/// One rule of a forward proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForwardRule {
    /// Unique among those of the listener.
    pub name: String,
    /// Which requests it takes. `null`: all that come to it.
    pub when: Option<Match>,
    /// Whether it asks for the answer, so that it can be asked only when that is there: it allows or refuses then.
    pub waits: bool,
    /// Whether it asks for the address of the origin, which is found out before it is asked.
    pub resolves: bool,
    /// What becomes of those.
    pub verdict: Verdict,
    /// Bytes a second that go each way of one of them. `null`: as many as there are.
    #[schemars(range(min = 1024))]
    pub throttle: Option<u64>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It goes out.
    Allow,
    /// It goes straight to its origin.
    Direct,
    /// It goes out through the upstream of this index.
    Parent(u32),
    /// It is answered with this status.
    Deny(u16),
    /// Its connection is closed without a word.
    Close,
    /// It goes out; a tunnel is opened.
    Intercept,
    /// It goes out; a tunnel is not opened.
    Tunnel,
}

/// What an origin hears of the client in a field, by the words that Squid has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The client's address behind what it says itself.
    On,
    /// That there is one, behind what it says itself.
    Off,
    /// What it says itself.
    Transparent,
    /// The client's address.
    Truncate,
    /// Nothing.
    Delete,
}
