//! A connection to an endpoint, and what it may be used for.

use super::circuit::Taken;
use crate::stream::Stream;
use penstock_rules::proxy_protocol::Addresses;

/// A connection to an endpoint, with its place among those that the upstream may have.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) taken: Option<Taken>,
    /// It is used for nothing else; `None`: for whatever is asked of the endpoint.
    pub(crate) only: Option<Box<Only>>,
}

/// What alone a connection is used for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Only {
    /// Between whom the endpoint was told that it is.
    Between(Addresses),
    /// The endpoint is a parent, and has opened a way to an origin.
    Way(Way),
}

/// A way through a parent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Way {
    /// Of the configuration that says who we are to the parent.
    pub(crate) version: u64,
    /// Of the forward proxy that says who is believed there.
    pub(crate) forward: u64,
    /// `host:port`
    pub(crate) place: String,
    /// Who the origin has proved to be, where TLS is spoken to it.
    pub(crate) name: Option<Box<str>>,
}
