//! Which route a request takes, and why.
//!
//! [`Table`] finds the first route that matches without looking at most of the others; [`Test`] is one compiled match. What a
//! test reads of a request is a [`View`]; a [`Split`] says which of several upstreams takes it; [`explain`] says of one request which
//! way it takes.

pub mod explain;
pub mod json;
mod key;
mod keys;
pub mod mirror;
mod predicate;
pub(crate) mod query;
mod split;
mod table;
pub(crate) mod value;

pub use key::Key;
pub use predicate::{Refusal, Test};
pub use split::{Reason, Split};
pub use table::Table;

use crate::forward::Errand;
use crate::http::RequestHead;
use crate::tls::Client;
use std::net::IpAddr;

/// What a match may ask about a request.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The head, with canonical path and host.
    pub head: &'a RequestHead,
    /// Name of the listener that accepted the connection.
    pub listener: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The name that the client asked for in its TLS handshake, in lower case; `None` without TLS, or without a name.
    pub sni: Option<&'a str>,
    /// The protocol agreed on in the TLS handshake; `None` without TLS, or where the client offered none.
    pub alpn: Option<&'a str>,
    /// Who the client is by its certificate; `None` where it has shown none.
    pub certificate: Option<&'a Client>,
    /// The port that the connection came in on; `None` on a unix socket.
    pub port: Option<u16>,
    /// The original caller's address, after `trusted_proxies`; `None` on a unix socket.
    pub client: Option<IpAddr>,
    /// The original caller's port, if it is known.
    pub client_port: Option<u16>,
    /// The body, as far as it is known; `None`: it is not asked.
    pub body: Option<&'a json::Body<'a>>,
    /// What only a request of a forward proxy has.
    pub errand: Option<&'a Errand<'a>>,
}

impl<'a> View<'a> {
    /// Of a request of which only the head is known: over plain HTTP, from nobody.
    pub fn of(head: &'a RequestHead) -> View<'a> {
        View {
            head,
            listener: "",
            scheme: "http",
            sni: None,
            alpn: None,
            certificate: None,
            port: None,
            client: None,
            client_port: None,
            body: None,
            errand: None,
        }
    }
}
