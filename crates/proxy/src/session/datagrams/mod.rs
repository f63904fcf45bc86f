//! Sessions of datagrams: a client's address and port, a connected socket to one endpoint, and datagrams between them that nobody
//! reads. The same steps as those of a connection's session (`session/mod.rs`).
//!
//! One task of a worker carries all sessions of a listener: a session is an entry in a table, without a task, a buffer or a waker of
//! its own. The kernel gives all datagrams of one client to the socket of one worker, so no other knows of it.

mod carrier;
mod open;
mod send;

use crate::admit::Place;
use crate::clock::Alarm;
use crate::listen::Socket;
use crate::upstream::circuit::Taken;
use crate::upstream::local::InFlight;
use crate::worker::Worker;
use carrier::Carrier;
use penstock_rules::session::End;
use penstock_system::datagrams::{Batch, Came};
use rustix::event::epoll;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// Batches that are moved before it is the turn of others.
const TURN: usize = 8;
/// Batches that are looked for in the queue of a socket before it is closed.
const LAST: usize = 64;

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Client {
    peer: SocketAddr,
    /// Which of our addresses it uses, where the listener has many: it is answered from that.
    own: Option<IpAddr>,
}

/// A session that is open.
struct Session {
    client: Client,
    socket: OwnedFd,
    in_flight: InFlight,
    /// Endpoints that cannot be reached, by their place in the upstream, since one last answered.
    tried: u64,
    /// Whether more was there when it was last looked for answers.
    bulk: bool,
    /// Whether the socket gives several datagrams as one.
    gathers: bool,
    /// Bytes and datagrams that went to the endpoint, and to the client.
    up: [u64; 2],
    down: [u64; 2],
    about: super::About,
    /// Places that it has until it ends.
    _places: [Option<Taken>; 2],
    place: Place,
}

impl Client {
    fn of(came: &Came) -> Option<Client> {
        Some(Client { peer: came.peer?, own: came.own })
    }
}

/// One socket of one worker, and the sessions over it.
pub(crate) struct Relay {
    listening: AsyncFd<Rc<UdpSocket>>,
    /// Tells which endpoints have sent something: one descriptor for the event loop, however many sessions there are.
    endpoints: AsyncFd<Rc<OwnedFd>>,
    alarm: Alarm,
    worker: Rc<Worker>,
    carrier: RefCell<Carrier>,
}

impl Relay {
    pub(crate) fn new(worker: Rc<Worker>, socket: Socket) -> io::Result<Rc<Relay>> {
        let listening: Rc<UdpSocket> = Rc::new(socket.raw.into());
        let endpoints = Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let carrier = Carrier::new(
            Rc::clone(&worker),
            (socket.owner, socket.port),
            (Rc::clone(&listening), Rc::clone(&endpoints)),
        );
        Ok(Rc::new(Relay {
            listening: watched(listening)?,
            endpoints: watched(endpoints)?,
            alarm: worker.clock.alarm(),
            worker,
            carrier: RefCell::new(carrier),
        }))
    }

    /// Carry datagrams until the task is ended.
    pub(crate) async fn run(self: Rc<Self>) {
        poll_fn(|cx| {
            self.alarm.register(cx);
            Poll::Ready(())
        })
        .await;
        poll_fn(|cx| self.poll(cx)).await
    }

    /// The socket is to be closed, and sessions end with it: it is theirs. What is in its queue is still passed on.
    pub(crate) fn close(&self) {
        let mut carrier = self.carrier.borrow_mut();
        let mut batch = self.worker.datagrams.take().unwrap_or_default();
        for _ in 0..LAST {
            if !matches!(carrier.take_in(&mut batch), Ok(true)) {
                break;
            }
        }
        self.worker.datagrams.set(Some(batch));
        carrier.end_all(End::Shutdown);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut carrier = self.carrier.borrow_mut();
        carrier.renew();
        let mut batch = self.worker.datagrams.take().unwrap_or_default();
        let mut more = false;
        for _ in 0..TURN {
            let came = self.listening.poll_read_ready(cx);
            more = self.attend(came, || carrier.take_in(&mut batch));
            let answered = self.endpoints.poll_read_ready(cx);
            more |= self.attend(answered, || carrier.take_out(&mut batch));
            if !more {
                break;
            }
        }
        self.worker.datagrams.set(Some(batch));
        carrier.sweep(&self.alarm);
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Do what there is to do; whether it must be asked again, until nothing is ready: only then it is remembered whom to wake. A panic
    /// costs the datagrams that were at hand.
    fn attend<T: std::os::fd::AsRawFd>(
        &self,
        ready: Poll<io::Result<AsyncFdReadyGuard<'_, T>>>,
        work: impl FnOnce() -> io::Result<bool>,
    ) -> bool {
        let Poll::Ready(Ok(mut ready)) = ready else { return false };
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(true)) => {}
            Ok(Ok(false) | Err(_)) => ready.clear_ready(),
            Err(_) => self.worker.counters().panics.add(1),
        }
        true
    }
}

#[expect(deprecated, reason = "unsound for types that change their descriptor, which these do not; its heir is unsafe")]
fn watched<T: std::os::fd::AsRawFd>(socket: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Room for the datagrams of one turn; a worker has one for all of its sessions.
pub(crate) type Room = std::cell::Cell<Option<Box<Batch>>>;
