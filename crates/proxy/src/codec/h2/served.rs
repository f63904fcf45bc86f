//! A client's connection: what the rules of HTTP/2 have ready goes to its socket, and what comes from there to them.

use super::staged::Staged;
use super::{Inbound, Link, Outbound};
use crate::clock::Clock;
use bytes::Bytes;
use penstock_rules::http::Fields;
use penstock_rules::http::h2::{Cut, Fault, Head, Key, Limits, Opened, Reason, Server};
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// One connection, as its task and its streams see it.
pub(crate) struct Served {
    link: Rc<Link>,
    server: RefCell<Server>,
}

/// What comes next on a connection.
pub(crate) enum Next {
    Opened(Opened),
    /// The client broke the rules: the connection is to be ended ([`Served::abort`]).
    Faulty(Fault),
    Over,
}

impl Served {
    pub(crate) fn new(link: Rc<Link>, limits: Limits) -> Rc<Served> {
        Rc::new(Served { link, server: RefCell::new(Server::new(limits)) })
    }

    pub(crate) fn link(&self) -> &Rc<Link> {
        &self.link
    }

    /// Move the connection on until it has something to say.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            let mut server = self.server.borrow_mut();
            if let Some(opened) = server.next_opened() {
                return Poll::Ready(Next::Opened(opened));
            }
            if let Err(fault) = server.verdict() {
                return Poll::Ready(Next::Faulty(fault));
            }
            if let Poll::Ready(Err(_)) = self.poll_write(&mut server, cx) {
                return Poll::Ready(self.end(&mut server));
            }
            self.link.account().keep(server.kept());
            if server.is_over() {
                return Poll::Ready(Next::Over);
            }
            server.register(cx);
            if server.is_full() {
                return Poll::Pending;
            }
            match ready!(self.poll_read(&mut server, cx)) {
                Ok(Ok(1..)) => {}
                Ok(Err(fault)) => return Poll::Ready(Next::Faulty(fault)),
                // Nothing more comes, and nobody is left to be answered.
                Ok(Ok(0)) | Err(_) => return Poll::Ready(self.end(&mut server)),
            }
        }
    }

    fn poll_write(&self, server: &mut Server, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !server.output().is_empty() {
            let count = ready!(self.link.poll_write(cx, server.output()))?;
            server.wrote(count);
        }
        self.link.poll_flush(cx)
    }

    fn poll_read(&self, server: &mut Server, cx: &mut Context<'_>) -> Poll<io::Result<Result<usize, Fault>>> {
        let (now, mut taken) = (Clock::span(self.link.worker().clock.now()), Ok(()));
        let count = ready!(self.link.poll_read(cx, usize::MAX, |bytes| taken = server.take(bytes, now)))?;
        self.link.note_in_head(server.is_in_head());
        Poll::Ready(Ok(taken.map(|()| count)))
    }

    fn end(&self, server: &mut Server) -> Next {
        server.end();
        self.link.account().keep(server.kept());
        Next::Over
    }

    /// Whether the client has said what it takes, with which it has to begin.
    pub(crate) fn is_settled(&self) -> bool {
        self.server.borrow().is_settled()
    }

    /// Tell the client to begin nothing more.
    pub(crate) fn leave(&self) {
        self.server.borrow_mut().leave();
    }

    /// End everything, and say why.
    pub(crate) fn abort(&self, reason: Reason) {
        self.server.borrow_mut().abort(reason);
    }

    /// A stream that nobody will look at.
    pub(crate) fn turn_away(&self, opened: Opened) {
        let mut server = self.server.borrow_mut();
        server.reset(opened.key, Reason::REFUSED_STREAM);
        server.let_go(opened.key);
    }

    /// A head is used no more.
    pub(crate) fn give_back(&self, head: Head) {
        self.server.borrow_mut().give_back(head);
    }
}

/// Whoever looks at a stream; it ends with this.
pub(crate) struct Handle(Port);

impl Handle {
    pub(super) fn new(served: &Rc<Served>, key: Key) -> Handle {
        Handle(Port { served: Rc::clone(served), key })
    }

    pub(super) fn port(&self) -> Port {
        Port { served: Rc::clone(&self.0.served), key: self.0.key }
    }

    pub(super) fn send_head(&self, head: Staged, ends: bool) -> Result<(), Cut> {
        let sent = self.0.with(|server, key| server.send_head(key, head.status, head.fields(), ends));
        self.0.served.link.give_back_stage(head.into_memory());
        sent
    }

    pub(super) fn reset(&self, reason: Reason) {
        self.0.with(|server, key| server.reset(key, reason));
    }

    pub(super) fn poll_cut(&self, cx: &Context<'_>) -> Poll<Cut> {
        self.0.with(|server, key| server.poll_cut(key, cx))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.with(Server::let_go);
    }
}

/// The body of a stream, either way.
pub(crate) struct Port {
    served: Rc<Served>,
    key: Key,
}

impl Port {
    #[inline]
    fn with<T>(&self, act: impl FnOnce(&mut Server, Key) -> T) -> T {
        act(&mut self.served.server.borrow_mut(), self.key)
    }
}

impl Inbound for Port {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Cut>> {
        self.with(|server, key| server.poll_data(key, cx)).map_ok(|came| came.map(Bytes::from))
    }

    fn poll_trailers(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Fields>, Cut>> {
        // They came with the end.
        Poll::Ready(Ok(self.with(|server, key| server.take_trailers(key))))
    }

    fn used_up(&mut self, count: usize) {
        self.with(|server, key| server.used_up(key, count));
    }
}

impl Outbound for Port {
    fn poll_room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, Cut>> {
        self.with(|server, key| server.poll_room(key, wanted, cx))
    }

    fn send(&mut self, bytes: &[u8], ends: bool) -> Result<(), Cut> {
        self.with(|server, key| server.send_data(key, bytes, ends))
    }

    fn finish(&mut self, trailers: Option<&Fields>) {
        // Whoever reset the stream has no use for its end.
        let _ = self.with(|server, key| match trailers {
            Some(trailers) => server.send_trailers(key, trailers),
            None => server.send_data(key, &[], true),
        });
    }

    fn cancel(&mut self) {
        self.with(|server, key| server.reset(key, Reason::CANCEL));
    }
}
