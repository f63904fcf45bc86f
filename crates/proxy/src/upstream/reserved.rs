//! A connection to an endpoint that belongs to one client's connection, because somebody authenticated the connection itself
//! (NTLM, Negotiate: RFC 4559 §6). It is never pooled, and ends with the client's (safety.md 71).

use super::endpoint::LocalEndpoint;
use super::local::{InFlight, LocalUpstream};
use crate::stream::Stream;
use std::cell::Cell;
use std::rc::Rc;

/// The place for one such connection.
#[derive(Default)]
pub(crate) struct Reserved(Cell<Option<Pinned>>);

struct Pinned {
    endpoint: Rc<LocalEndpoint>,
    stream: Stream,
}

impl Reserved {
    /// Keep a connection for the next request of this client. One that was kept before is closed.
    pub(crate) fn keep(&self, endpoint: &Rc<LocalEndpoint>, stream: Stream) {
        self.0.set(Some(Pinned { endpoint: Rc::clone(endpoint), stream }));
    }

    /// The connection and its endpoint in `upstream`, if it goes there. One that ended or spoke is closed, and so is one whose
    /// endpoint takes no more.
    pub(crate) fn take(&self, upstream: &LocalUpstream) -> Option<(usize, InFlight, Stream)> {
        let pinned = self.0.take()?;
        let Some(at) = upstream.endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, &pinned.endpoint)) else {
            self.0.set(Some(pinned));
            return None;
        };
        if pinned.stream.is_disturbed() {
            return None;
        }
        Some((at, LocalEndpoint::begin(&pinned.endpoint)?, pinned.stream))
    }
}
