//! A new connection of HTTP/2, for all who wait for one.

use super::drive::Drive;
use super::{Channel, Channels, Lease, Terms};
use crate::codec::h2::{Io, Link};
use crate::stream::Stream;
use crate::tls::Failure;
use crate::upstream::circuit::Taken;
use crate::upstream::connect::connect;
use crate::upstream::endpoint::LocalEndpoint;
use crate::upstream::opened::Opened;
use crate::worker::Worker;
use h2::client::Builder;
use penstock_plan::UpstreamProtocol;
use penstock_rules::error::Kind;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::time::timeout_at;

/// What an endpoint may send before it is told that it was taken, on one stream. All streams together may have as much each: one
/// whose client does not read must not keep the others waiting.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Bodies that wait in the crate for the socket, of one stream.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset and are kept in mind for a second.
const RESET: usize = 1024;

/// A connection that is being made.
#[derive(Default)]
pub(crate) struct Dial {
    failure: RefCell<Option<Failure>>,
    over: Cell<bool>,
    done: Notify,
    waiting: Cell<usize>,
    /// For those who wait. A new connection has something to say, which of an unused one means that it may be about to end; and it is
    /// unused, so that it might be closed before they come.
    leases: RefCell<VecDeque<Lease>>,
}

impl Dial {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// Wait until it is there; a place on it, if there is one for all who wait.
    ///
    /// # Errors
    /// Why it is not.
    pub(crate) async fn wait(&self) -> Result<Option<Lease>, Failure> {
        self.waiting.set(self.waiting.get() + 1);
        while !self.over.get() {
            self.done.notified().await;
        }
        match self.failure.borrow().clone() {
            Some(failure) => Err(failure),
            None => Ok(self.leases.borrow_mut().pop_front()),
        }
    }
}

/// A dial that is under way, until it is dropped.
struct Dialing<'a> {
    channels: &'a Channels,
    dial: Rc<Dial>,
}

impl Dialing<'_> {
    fn fail(&self, failure: Failure) {
        *self.dial.failure.borrow_mut() = Some(failure);
    }

    fn succeed(&self, channel: &Rc<Channel>, most: usize) {
        let free = || channel.is_free(most).then(|| Lease::of(channel));
        self.dial.leases.borrow_mut().extend(std::iter::from_fn(free).take(self.dial.waiting()));
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.channels.dials.borrow_mut().retain(|dial| !Rc::ptr_eq(dial, &self.dial));
        self.dial.over.set(true);
        self.dial.done.notify_waiters();
    }
}

/// Make a connection, and serve it for as long as it is there. `taken`: its place among those that the upstream may have.
pub(crate) fn dial(worker: &Rc<Worker>, endpoint: &Rc<LocalEndpoint>, taken: Option<Taken>, terms: Terms) -> Rc<Dial> {
    begin(worker, endpoint, (None, taken), terms)
}

/// The same with a connection that has been made, on which HTTP/2 was agreed.
pub(crate) fn adopt(worker: &Rc<Worker>, endpoint: &Rc<LocalEndpoint>, opened: Opened, terms: Terms) -> Rc<Dial> {
    begin(worker, endpoint, (Some(opened.stream), opened.taken), terms)
}

fn begin(
    worker: &Rc<Worker>,
    endpoint: &Rc<LocalEndpoint>,
    (made, taken): (Option<Stream>, Option<Taken>),
    terms: Terms,
) -> Rc<Dial> {
    let dial = Rc::<Dial>::default();
    endpoint.channels.dials.borrow_mut().push(Rc::clone(&dial));
    let (worker, endpoint, waited) = (Rc::clone(worker), Rc::clone(endpoint), Rc::clone(&dial));
    tokio::task::spawn_local(async move {
        let dialing = Dialing { channels: &endpoint.channels, dial: waited };
        match open(&worker, &endpoint, (made, taken), terms).await {
            Ok(Some(drive)) => {
                let channel = Rc::clone(&drive.channel);
                endpoint.channels.open.borrow_mut().push(Rc::clone(&channel));
                dialing.succeed(&channel, terms.most);
                drop(dialing);
                drive.run().await;
                channel.close();
                endpoint.channels.open.borrow_mut().retain(|one| !Rc::ptr_eq(one, &channel));
            }
            Ok(None) => endpoint.channels.fall_back(&worker.clock),
            Err(failure) => {
                // That we have no descriptor left says nothing of the endpoint.
                if failure.kind == Kind::Exhausted {
                    worker.shed_pools();
                } else {
                    endpoint.unreachable(Instant::now());
                }
                dialing.fail(failure);
            }
        }
    });
    dial
}

/// `None`: the endpoint wants HTTP/1.1, and the connection is in its pool.
async fn open(
    worker: &Rc<Worker>,
    endpoint: &Rc<LocalEndpoint>,
    (made, taken): (Option<Stream>, Option<Taken>),
    terms: Terms,
) -> Result<Option<Drive>, Failure> {
    let by = Instant::now() + terms.connect;
    let stream = match made {
        Some(made) => made,
        None => connect(endpoint, Some(terms.protocol), &worker.buffers, terms.connect, Vec::new()).await?,
    };
    let agreed = stream.agreed_on_http2();
    if agreed == Some(false) && terms.protocol == UpstreamProtocol::Auto {
        endpoint.give_back(Opened { stream, taken, only: None }, &worker.clock, terms.idle);
        return Ok(None);
    }
    if agreed == Some(false) {
        return Err(Failure { kind: Kind::UpstreamTlsFailed, ..silent() });
    }
    let secure = agreed.is_some();
    let link = Link::to_endpoint(worker, stream);
    let (sender, connection) = builder(&terms).handshake(Io(Rc::clone(&link))).await.map_err(|_| silent())?;
    let channel = Rc::new(Channel {
        link,
        secure,
        idle: terms.idle,
        until: Cell::new(worker.clock.after(terms.idle)),
        used: Cell::new(false),
        sender: RefCell::new(Some(sender)),
        taken: RefCell::new(taken),
        clock: Rc::clone(&worker.clock),
    });
    let mut drive = Drive::new(channel, connection);
    match timeout_at(by.into(), drive.settle()).await {
        Ok(true) => Ok(Some(drive)),
        Ok(false) => Err(silent()),
        Err(_) => Err(Failure { kind: Kind::ConnectTimeout, ..silent() }),
    }
}

fn silent() -> Failure {
    Failure { kind: Kind::ConnectFailed, reason: Some("the endpoint does not speak HTTP/2".into()) }
}

fn builder(terms: &Terms) -> Builder {
    let most = u32::try_from(terms.most).unwrap_or(u32::MAX);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(terms.head)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(most.max(8)))
        .max_send_buffer_size(SEND_BUFFER)
        // An endpoint may still send what it had on its way to clients that gave up.
        .max_concurrent_reset_streams(RESET);
    builder
}
