//! Native filters: steps on a request or its response, run in the order written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One step. Header names are lower case; framing, hop-by-hop and forwarded-identity fields cannot be named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Replace every field of each name by one.
    SetRequestHeader(Vec<(String, String)>),
    /// Append a field.
    AddRequestHeader(Vec<(String, String)>),
    /// Drop every field of each name.
    RemoveRequestHeader(Vec<String>),
    /// Replace every field of each name by one.
    SetResponseHeader(Vec<(String, String)>),
    /// Append a field.
    AddResponseHeader(Vec<(String, String)>),
    /// Drop every field of each name.
    RemoveResponseHeader(Vec<String>),
    /// Take a whole-segment prefix off the path: `/api` turns `/api/x` into `/x`; `/apix` stays.
    StripPrefix(String),
    /// Put a prefix before the path.
    AddPrefix(String),
    /// Put one whole-segment prefix in place of another.
    ReplacePrefix(PrefixChange),
    /// Replace what a regular expression finds in the path.
    RewritePath(Rewrite),
    /// Replace or append query parameters.
    SetQuery(Vec<(String, String)>),
    /// Drop query parameters.
    RemoveQuery(Vec<String>),
    /// Cross-origin resource sharing.
    Cors(Cors),
    /// Responses in a content coding that the client takes.
    Compress(Compress),
    /// Where endpoints send clients, in the clients' terms: the first entry that fits a `Location`, `Content-Location` or `Refresh`.
    MapLocation(Vec<PrefixChange>),
    /// Attributes of the cookies that endpoints set.
    EditCookies(EditCookies),
    /// `Strict-Transport-Security`, on what clients asked for over TLS.
    Hsts(Hsts),
}

/// One prefix for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefixChange {
    /// Taken off.
    pub from: String,
    /// Put in its place.
    pub to: String,
}

/// A replacement in the path by a linear-time regular expression (the `regex` crate's syntax).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// Every match in the path is replaced.
    pub regex: String,
    /// `$1` or `${name}` stand for groups.
    pub to: String,
}

/// The Fetch standard's CORS protocol: preflights are answered, actual responses get their fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Allowed origins, exact; `"*"` alone allows any.
    pub origins: Vec<String>,
    /// `Access-Control-Allow-Methods`.
    pub methods: Vec<String>,
    /// `Access-Control-Allow-Headers`; empty echoes what the preflight asks for.
    pub headers: Vec<String>,
    /// `Access-Control-Expose-Headers`.
    pub expose: Vec<String>,
    /// `Access-Control-Allow-Credentials`; never together with `"*"`.
    pub credentials: bool,
    /// `Access-Control-Max-Age` in seconds.
    pub max_age: u32,
}

/// Content codings put on responses (RFC 9110 §8.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Compress {
    /// The codings on offer, best first.
    pub codings: Vec<Coding>,
    /// Bodies known to be shorter stay as they are.
    pub least: u64,
    /// Media types that are compressed, lower case; `"text/*"` stands for all of a kind.
    pub types: Vec<String>,
}

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 7932.
    Br,
    /// RFC 8878.
    Zstd,
}

/// Attributes of cookies (RFC 6265 §4.1.2). What is `null` stays as the endpoint set it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditCookies {
    /// The cookies that are meant; empty: all.
    pub names: Vec<String>,
    /// `Domain`; empty: none, so that the cookie is the host's alone.
    pub domain: Option<String>,
    /// One whole-segment prefix for another in `Path`.
    pub path: Option<PrefixChange>,
    /// Whether there is `Secure`.
    pub secure: Option<bool>,
    /// Whether there is `HttpOnly`.
    pub http_only: Option<bool>,
    /// `SameSite`.
    pub same_site: Option<SameSite>,
}

/// Which requests of other sites take a cookie along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// None.
    Strict,
    /// Those that open a page.
    Lax,
    /// All.
    None,
}

/// `Strict-Transport-Security` (RFC 6797).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hsts {
    /// Seconds.
    pub max_age: u64,
    /// Whether hosts below this one are meant, too.
    pub include_subdomains: bool,
    /// Whether browsers may ship the rule.
    pub preload: bool,
    /// Whether it goes before what the endpoint says.
    pub replace: bool,
}
