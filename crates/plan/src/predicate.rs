//! The compiled expression language: a tree of tests on one request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in the expression's text a test was written: first and one-past-last character, counted from 0 in Unicode scalar
/// values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Span(pub u32, pub u32);

/// A test on one request. A test on a value that the request does not have is false.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Predicate {
    /// All of them, tested in order.
    And(Vec<Predicate>),
    /// Any of them, tested in order.
    Or(Vec<Predicate>),
    /// The opposite.
    Not(Box<Predicate>),
    /// `True` or `False`.
    Constant(bool),
    /// `left < right`: both text (compared by bytes) or both numbers.
    Compare(Comparison),
    /// `value in ["a", "b"]`: one type on both sides.
    In {
        /// What is looked for.
        value: Operand,
        /// Where.
        set: Vec<Literal>,
        /// The test's place in the text.
        at: Span,
    },
    /// `client.ip in ["10.0.0.0/8"]`, also `client.ip == "10.0.0.1"`.
    InNetworks {
        /// CIDR networks.
        networks: Vec<String>,
        /// The test's place in the text.
        at: Span,
    },
    /// `dest.ip in ["10.0.0.0/8"]`, also `dest.ip == "10.0.0.1"`.
    DestInNetworks {
        /// CIDR networks.
        networks: Vec<String>,
        /// The test's place in the text.
        at: Span,
    },
    /// `dest.ip in list("inside")`.
    DestInList {
        /// Name of the list.
        list: String,
        /// The test's place in the text.
        at: Span,
    },
    /// `value in list("social")`.
    InList {
        /// What is looked for: a text, or `client.ip` in a list of networks.
        value: Operand,
        /// Name of the list.
        list: String,
        /// The test's place in the text.
        at: Span,
    },
    /// `"part" in value`.
    Contains {
        /// Searched in.
        value: Operand,
        /// Searched for.
        part: Operand,
        /// The test's place in the text.
        at: Span,
    },
    /// `"X-Debug" in header`, `"q" in query`, `"c" in cookie`.
    Exists {
        /// The field asked for.
        field: Field,
        /// The test's place in the text.
        at: Span,
    },
    /// `json["/flag"] == True`, `json["/none"] == None`.
    JsonIs {
        /// JSON Pointer (RFC 6901).
        pointer: String,
        /// `true`, `false`, or `null`.
        value: Option<bool>,
        /// The test's place in the text.
        at: Span,
    },
    /// `value.startswith("/a/")` or any of several.
    StartsWith {
        /// What is tested.
        value: Operand,
        /// Any of these.
        prefixes: Vec<String>,
        /// The test's place in the text.
        at: Span,
    },
    /// `value.endswith(".png")` or any of several.
    EndsWith {
        /// What is tested.
        value: Operand,
        /// Any of these.
        suffixes: Vec<String>,
        /// The test's place in the text.
        at: Span,
    },
    /// `value.matches(r"…")`: found anywhere; `^` and `$` anchor (the `regex` crate's syntax, linear time).
    Matches {
        /// What is tested.
        value: Operand,
        /// The regular expression.
        regex: String,
        /// The test's place in the text.
        at: Span,
    },
    /// `value.glob("/a/*")`: the whole value; `*` any characters but `/`, `**` any characters, `?` one character but `/`.
    Glob {
        /// What is tested.
        value: Operand,
        /// The pattern.
        pattern: String,
        /// The test's place in the text.
        at: Span,
    },
}

/// Two values and how they must stand to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Comparison {
    /// Left side.
    pub left: Operand,
    /// The relation.
    pub operator: Operator,
    /// Right side.
    pub right: Operand,
    /// The test's place in the text.
    pub at: Span,
}

/// A relation between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// `==`
    #[serde(rename = "==")]
    Equal,
    /// `!=`
    #[serde(rename = "!=")]
    NotEqual,
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `<=`
    #[serde(rename = "<=")]
    LessOrEqual,
    /// `>`
    #[serde(rename = ">")]
    Greater,
    /// `>=`
    #[serde(rename = ">=")]
    GreaterOrEqual,
}

/// A value of the request, or a literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operand {
    /// A literal text.
    Text(String),
    /// A literal number.
    Number(i64),
    /// Host of the request, lower case, no port, no trailing dot.
    Host,
    /// Canonical path: dot segments resolved, needless escapes decoded. What is matched is what is forwarded.
    Path,
    /// The method, as sent.
    Method,
    /// `http` or `https`.
    Scheme,
    /// The name that the client asked for in its TLS handshake, in lower case.
    Sni,
    /// The protocol agreed on in the TLS handshake.
    Alpn,
    /// Whom the client's certificate is for, as a distinguished name (RFC 4514).
    ClientSubject,
    /// The further names in the client's certificate, joined with `, `.
    ClientNames,
    /// SHA-256 of the client's certificate, in hexadecimal.
    ClientFingerprint,
    /// Name of the listener.
    Listener,
    /// The port that the connection came in on; missing on a unix socket.
    Port,
    /// The client's address as text.
    ClientIp,
    /// The client's port.
    ClientPort,
    /// Of a forward proxy: who asks.
    User,
    /// Of a forward proxy: the port that is asked for.
    DestPort,
    /// What a forward proxy carries to the origin: `tcp`, or `udp` for datagrams; missing elsewhere.
    DestProtocol,
    /// Of a forward proxy: the hour in local time, 0 to 23.
    TimeHour,
    /// Of a forward proxy: the day of the week in local time, 0 (Monday) to 6.
    TimeWeekday,
    /// Of a forward proxy: the media type of the answer, in lower case, without parameters.
    ResponseType,
    /// A whole number in a JSON body, by JSON Pointer; missing where something else stands there.
    JsonNumber(String),
    /// A header field, a query parameter, a cookie or a text in a JSON body.
    Field(Field),
    /// Another text in lower case (ASCII).
    Lower(Box<Operand>),
}

/// A named part of the request that may be missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// Header field, name in lower case; several lines are joined with `, ` (RFC 9110 §5.3).
    Header(String),
    /// Query parameter, decoded; the first of that name.
    Query(String),
    /// Cookie; the first of that name.
    Cookie(String),
    /// Value in a JSON body, by JSON Pointer (RFC 6901). It exists whatever its type; as a value it is a text, missing where
    /// something else stands there.
    Json(String),
}

/// A member of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}
