//! What an exchange leaves to its client's connection: a connection to an endpoint that belongs to it, because somebody authenticated
//! the connection itself (NTLM, Negotiate: RFC 4559 §6), which is never pooled, and ends with the client's (safety.md 71); the tunnel
//! that it is to become; or a tunnel whose bytes it is to pass.

use super::endpoint::LocalEndpoint;
use super::local::{InFlight, LocalUpstream};
use super::opened::Opened;
use crate::exchange::Passage;
use crate::forward::Opening;
use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The place for one such thing.
#[derive(Default)]
pub(crate) struct Reserved(Cell<Left>);

#[derive(Default)]
enum Left {
    #[default]
    Nothing,
    /// Boxed, as few clients have one: each request looks here.
    Connection(Box<Pinned>),
    Tunnel(Box<Opening>),
    Passage(Box<Passage>),
}

struct Pinned {
    endpoint: Rc<LocalEndpoint>,
    opened: Opened,
}

impl Reserved {
    /// Keep a connection for the next request of this client. One that was kept before is closed.
    pub(crate) fn keep(&self, endpoint: &Rc<LocalEndpoint>, opened: Opened) {
        self.0.set(Left::Connection(Box::new(Pinned { endpoint: Rc::clone(endpoint), opened })));
    }

    /// Leave a tunnel, which ends what the connection was until now.
    pub(crate) fn leave_tunnel(&self, opening: Opening) {
        self.0.set(Left::Tunnel(Box::new(opening)));
    }

    /// Whether a tunnel was left.
    pub(crate) fn has_tunnel(&self) -> bool {
        let left = self.0.take();
        let found = matches!(left, Left::Tunnel(_));
        self.0.set(left);
        found
    }

    /// The tunnel that was left.
    pub(crate) fn take_tunnel(&self) -> Option<Opening> {
        match self.0.take() {
            Left::Tunnel(opening) => Some(*opening),
            _ => None,
        }
    }

    /// Leave a tunnel whose bytes are to be passed, while its exchange waits for [`Self::poll_passed`].
    pub(crate) fn leave_passage(&self, passage: Passage) {
        self.0.set(Left::Passage(Box::new(passage)));
    }

    /// Pass the bytes of the tunnel that was left for that; ready when there is none, or no more.
    #[inline]
    pub(crate) fn poll_passage(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.take() {
            Left::Nothing => Poll::Ready(()),
            Left::Passage(mut passage) => {
                let polled = passage.poll(cx);
                self.0.set(Left::Passage(passage));
                polled
            }
            left => {
                self.0.set(left);
                Poll::Ready(())
            }
        }
    }

    /// The tunnel whose bytes were to be passed, when there are no more. Whoever waits is woken by whoever passes them.
    pub(crate) fn poll_passed(&self) -> Poll<Box<Passage>> {
        match self.0.take() {
            Left::Passage(passage) if passage.has_ended() => Poll::Ready(passage),
            left => {
                self.0.set(left);
                Poll::Pending
            }
        }
    }

    /// The connection and its endpoint in `upstream`, if it goes there. One that ended or spoke is closed, and so is one whose
    /// endpoint takes no more.
    pub(crate) fn take(&self, upstream: &LocalUpstream) -> Option<(usize, InFlight, Opened)> {
        let Left::Connection(pinned) = self.0.take() else { return None };
        let Some(at) = upstream.endpoints.iter().position(|endpoint| Rc::ptr_eq(endpoint, &pinned.endpoint)) else {
            self.0.set(Left::Connection(pinned));
            return None;
        };
        let Pinned { endpoint, opened } = *pinned;
        if opened.stream.is_disturbed() {
            return None;
        }
        Some((at, LocalEndpoint::begin(&endpoint)?, opened))
    }

    /// The connection to this endpoint, if it is kept and quiet.
    pub(crate) fn take_for(&self, endpoint: &Rc<LocalEndpoint>) -> Option<Opened> {
        let Left::Connection(pinned) = self.0.take() else { return None };
        if !Rc::ptr_eq(endpoint, &pinned.endpoint) {
            self.0.set(Left::Connection(pinned));
            return None;
        }
        Some(pinned.opened).filter(|opened| !opened.stream.is_disturbed())
    }
}
