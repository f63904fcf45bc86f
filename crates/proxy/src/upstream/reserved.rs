//! A connection to an endpoint that belongs to one client's connection, because somebody authenticated the connection itself
//! (NTLM, Negotiate: RFC 4559 §6). It is never pooled, and ends with the client's (safety.md 71).

use super::endpoint::{LocalEndpoint, Opened};
use super::local::{InFlight, LocalUpstream};
use std::cell::Cell;
use std::rc::Rc;

/// The place for one such connection.
#[derive(Default)]
pub(crate) struct Reserved(Cell<Option<Pinned>>);

struct Pinned {
    endpoint: Rc<LocalEndpoint>,
    opened: Opened,
}

impl Reserved {
    /// Keep a connection for the next request of this client. One that was kept before is closed.
    pub(crate) fn keep(&self, endpoint: &Rc<LocalEndpoint>, opened: Opened) {
        self.0.set(Some(Pinned { endpoint: Rc::clone(endpoint), opened }));
    }

    /// The connection and its endpoint in `upstream`, if it goes there. One that ended or spoke is closed, and so is one whose
    /// endpoint takes no more.
    pub(crate) fn take(&self, upstream: &LocalUpstream) -> Option<(usize, InFlight, Opened)> {
        let pinned = self.0.take()?;
        let Some(at) = upstream.endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, &pinned.endpoint)) else {
            self.0.set(Some(pinned));
            return None;
        };
        if pinned.opened.stream.is_disturbed() {
            return None;
        }
        Some((at, LocalEndpoint::begin(&pinned.endpoint)?, pinned.opened))
    }

    /// The connection to this endpoint, if it is kept and quiet.
    pub(crate) fn take_for(&self, endpoint: &Rc<LocalEndpoint>) -> Option<Opened> {
        let pinned = self.0.take()?;
        if !Rc::ptr_eq(endpoint, &pinned.endpoint) {
            self.0.set(Some(pinned));
            return None;
        }
        Some(pinned.opened).filter(|opened| !opened.stream.is_disturbed())
    }
}
