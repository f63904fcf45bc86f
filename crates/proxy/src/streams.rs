//! One HTTP/2 connection of a client: it accepts streams, lets each be an exchange of its own, and ends so that no request is lost.

use crate::clock::{Alarm, Clock, NEVER, Tick};
use crate::codec::Downstream;
use crate::codec::h1::Waits;
use crate::codec::h2::{H2, Io, Link, Tunnelled};
use crate::connection::{Origin, is_closing, opened};
use crate::contain::contain;
use crate::exchange::{self, Exchange};
use crate::faults;
use crate::forward::inside::Heard;
use crate::respond;
use crate::snapshot::Listener;
use crate::stream::Stream;
use crate::tls::Carrier;
use crate::upstream::reserved::Reserved;
use crate::worker::Worker;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use penstock_plan::ListenerTimeouts;
use penstock_rules::error::Kind;
use penstock_rules::http::{Identity, frames, is_malformed};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a client may send before it is told that it was taken, on one stream and on all.
const STREAM_WINDOW: u32 = 256 * 1024 - 1;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The same of a forward proxy: a few servers that take an upload slowly must not keep all other tunnels of a client.
const TUNNELS_WINDOW: u32 = 4 << 20;
/// Bodies that wait in the crate for the socket, of one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a client that was told to go away may take to do so once nothing is under way.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long a connection that broke the rules lives on, for its last frame, and how much is read of it.
const LAST_WORDS: Duration = Duration::from_secs(1);
const UNWANTED: usize = 64 * 1024;
/// How often a connection with streams is looked at, if nothing else wakes it.
const LOOK: Duration = Duration::from_secs(1);

/// What the streams of one connection have in common.
struct Common {
    worker: Rc<Worker>,
    origin: Origin,
    identity: Identity,
    link: Rc<Link>,
}

impl Common {
    /// Record that the connection ends for what its client did.
    fn record(&self, kind: Kind) {
        if let Some((local, _)) = self.worker.local_of(self.origin.listener.id) {
            respond::refuse_connection(&self.worker, (&local, &self.origin), kind);
        }
    }
}

/// Where a connection is on its way to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Course {
    Open,
    /// The client was told to begin nothing more.
    Leaving,
    /// It gets a last frame until then.
    Ending(Tick),
}

/// A connection of HTTP/2.
struct Streams<'a> {
    common: &'a Rc<Common>,
    alarm: &'a Alarm,
    connection: Connection<Io, Bytes>,
    timeouts: ListenerTimeouts,
    /// Most exchanges under way.
    most_live: usize,
    /// Most streams, if there is such a number.
    most: Option<u32>,
    course: Course,
    /// Streams so far.
    served: u32,
    idle_since: Tick,
}

/// Serve a connection whose client speaks HTTP/2, until it closes. `ahead` was read of it already.
pub(crate) async fn serve(worker: &Rc<Worker>, origin: Origin, stream: Stream, ahead: Vec<u8>, alarm: &Alarm) {
    let identity = origin.identity();
    let link = Link::new(worker, stream, ahead);
    let common = Rc::new(Common { worker: Rc::clone(worker), origin, identity, link });
    let served = contain(worker, pin!(converse(&common, alarm))).await;
    if let Some(kind) = served.unwrap_or(Some(Kind::Internal)) {
        common.record(kind);
    }
    let (until, mut most) = (worker.clock.after(LAST_WORDS), UNWANTED);
    poll_fn(|cx| {
        if worker.clock.now() >= until {
            return Poll::Ready(());
        }
        alarm.clear();
        alarm.lower(until);
        common.link.poll_end(cx, &mut most)
    })
    .await;
}

/// Speak HTTP/2; what the client did wrong, if that is why the connection ends.
async fn converse(common: &Rc<Common>, alarm: &Alarm) -> Option<Kind> {
    let Common { worker, origin, link, .. } = &**common;
    let (mut shaking, timeouts) = {
        let (local, _) = worker.local_of(origin.listener.id)?;
        let (_, listener) = local.snapshot.listener(origin.listener.id)?;
        (builder(listener).handshake(Io(Rc::clone(link))), listener.plan.timeouts)
    };
    let until = worker.clock.after(timeouts.head);
    let shaken = poll_fn(|cx| {
        alarm.clear();
        alarm.lower(until);
        if worker.clock.now() >= until || is_closing(worker, &origin.listener) {
            return Poll::Ready(None);
        }
        link.begin_turn();
        Pin::new(&mut shaking).poll(cx).map(Some)
    })
    .await?;
    let connection = match shaken {
        Ok(connection) => connection,
        Err(error) => return fault(&error),
    };
    drop(shaking);
    let (idle_since, most_live) = (worker.clock.now(), 2 * connection.max_concurrent_recv_streams());
    let (most, course, served) = (None, Course::Open, 0);
    let mut streams = Streams { common, alarm, connection, timeouts, most_live, most, course, served, idle_since };
    poll_fn(|cx| streams.poll(cx)).await
}

fn builder(listener: &Listener) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(listener.plan.limits.streams.into())
        .max_header_list_size(listener.plan.limits.head)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(if listener.forward.is_some() { TUNNELS_WINDOW } else { CONNECTION_WINDOW })
        .max_send_buffer_size(SEND_BUFFER)
        // Those that were reset before we saw them are part of the same budget.
        .max_pending_accept_reset_streams(frames::MOST_RESETS as usize)
        // WebSockets (RFC 8441 §3).
        .enable_connect_protocol();
    builder
}

/// What a failed connection says of its client.
fn fault(error: &h2::Error) -> Option<Kind> {
    match error.reason() {
        // It broke, or the client ended it.
        None => None,
        Some(_) if error.is_remote() || error.is_io() => None,
        Some(Reason::ENHANCE_YOUR_CALM) => Some(Kind::FrameFlood),
        Some(Reason::NO_ERROR) => None,
        Some(_) => Some(Kind::BadFrame),
    }
}

impl Streams<'_> {
    /// One turn; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Kind>> {
        self.common.link.begin_turn();
        loop {
            // With so many exchanges under way, those that were reset and have not noticed included, nothing more is taken in.
            let busy = self.common.link.live() >= self.most_live;
            let polled = if busy {
                self.connection.poll_closed(cx).map(|closed| closed.err().map(Err))
            } else {
                self.connection.poll_accept(cx)
            };
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                // What we end has been recorded.
                Poll::Ready(Some(Err(_))) if matches!(self.course, Course::Ending(_)) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(fault(&error)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => match self.common.link.take_verdict() {
                    Some(kind) => self.end(kind, Reason::ENHANCE_YOUR_CALM),
                    None => break,
                },
            }
        }
        self.alarm.clear();
        self.watch()
    }

    /// Let a stream be an exchange.
    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.served = self.served.saturating_add(1);
        let live = self.common.link.open();
        let common = Rc::clone(self.common);
        // Boxed, because the runtime moves what it spawns several times, and an exchange is large.
        tokio::task::spawn_local(Box::pin(async move {
            let _live = live;
            let alarm = Rc::new(common.worker.clock.alarm());
            if let Some(tunnel) = exchange(&common, request, respond, &alarm).await {
                let (worker, origin) = (Rc::clone(&common.worker), common.origin.clone());
                // Boxed, because few streams become one.
                Box::pin(opened::serve(worker, origin, tunnel, alarm)).await;
            }
        }));
    }

    /// End the connection for what its client did.
    fn end(&mut self, kind: Kind, reason: Reason) {
        self.common.record(kind);
        self.connection.abrupt_shutdown(reason);
        self.course = Course::Ending(self.common.worker.clock.after(LAST_WORDS));
    }

    /// Tell the client to begin nothing more.
    fn leave(&mut self) {
        self.connection.graceful_shutdown();
        self.course = Course::Leaving;
        self.idle_since = NEVER;
    }

    /// Time passes: see to it that nobody is waited for too long. Ready: close.
    fn watch(&mut self) -> Poll<Option<Kind>> {
        let listed = self.consult();
        let (common, alarm) = (self.common, self.alarm);
        let Common { worker, origin, link, .. } = &**common;
        let (now, shed, before) = (worker.clock.now(), alarm.is_shed(), self.course);
        let blocked_by = self.after(link.blocked_since(), self.timeouts.write);
        let head_by = self.after(link.in_head_since(), self.timeouts.head);
        if now >= blocked_by {
            link.break_off();
            return Poll::Ready(Some(Kind::ClientWriteTimeout));
        }
        let idle = link.live() == 0;
        self.idle_since = if idle { self.idle_since.min(now) } else { NEVER };
        let last = self.most.is_some_and(|most| self.served >= most);
        if now >= head_by && !matches!(self.course, Course::Ending(_)) {
            self.end(Kind::HeadTimeout, Reason::NO_ERROR);
        } else if self.course == Course::Open && (last || shed || !listed || is_closing(worker, &origin.listener)) {
            worker.counters().shed_connections.add(u64::from(shed && idle));
            self.leave();
        } else if now >= self.ends_by() {
            match self.course {
                Course::Open => self.leave(),
                Course::Leaving | Course::Ending(_) => return Poll::Ready(None),
            }
        }
        if idle && self.course == Course::Open {
            alarm.rest(now)
        } else {
            alarm.work()
        }
        // What was just said is still to be written.
        let look = if self.course != before {
            now + 1
        } else if idle {
            NEVER
        } else {
            worker.clock.after(LOOK)
        };
        alarm.lower(self.ends_by().min(blocked_by).min(head_by).min(look));
        Poll::Pending
    }

    /// Take in what the running configuration says of the listener; whether it has one.
    fn consult(&mut self) -> bool {
        let id = self.common.origin.listener.id;
        let Some((local, gone)) = self.common.worker.local_of(id) else { return false };
        let Some((_, listener)) = local.snapshot.listener(id) else { return false };
        (self.timeouts, self.most) = (listener.plan.timeouts, listener.plan.limits.requests);
        !gone
    }

    /// When the connection is waited for no longer.
    fn ends_by(&self) -> Tick {
        match self.course {
            Course::Open if self.served == 0 => self.after(self.idle_since, self.timeouts.head),
            Course::Open => self.after(self.idle_since, self.timeouts.idle),
            Course::Leaving => self.after(self.idle_since, FAREWELL),
            Course::Ending(by) => by,
        }
    }

    fn after(&self, since: Tick, wait: Duration) -> Tick {
        since.saturating_add(Clock::ticks(wait)).saturating_add(1)
    }
}

/// One stream, from its head to its end; a tunnel that is to be opened, if it became one.
async fn exchange(
    common: &Common,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    alarm: &Rc<Alarm>,
) -> Option<Heard> {
    let Common { worker, origin, identity, link } = common;
    let local = worker.local_of(origin.listener.id);
    let listener = local.as_ref().and_then(|(local, _)| Some((local, local.snapshot.listener(origin.listener.id)?)));
    let Some((local, (index, listener))) = listener else {
        // The listener is gone: the client may ask elsewhere.
        respond.send_reset(Reason::REFUSED_STREAM);
        return None;
    };
    let (parts, body) = request.into_parts();
    let (timeouts, rate) = (&listener.plan.timeouts, listener.least(listener.plan.limits.write_rate));
    let waits = Waits { body: timeouts.body, write: timeouts.write, rate };
    let mut down = H2::new(Rc::clone(link), Rc::clone(alarm), waits, (body, respond));
    let gone = poll_fn(|cx| {
        alarm.register(cx);
        Poll::Ready(down.is_gone(cx))
    })
    .await;
    let (mut request, mut response) = worker.buffers.heads();
    let elsewhere = listener.limits.elsewhere && origin.inside().is_none();
    let read = down.read_head(&parts, &mut request, (&listener.limits, elsewhere), worker.nonce());
    drop(parts);
    let refused = match read {
        // Whoever gave up before we began costs no endpoint anything.
        _ if gone => Some(Kind::ClientClosed),
        Err(kind) => Some(kind),
        Ok(()) => worker.is_overloaded().then_some(Kind::Overloaded),
    };
    if let Some(kind) = refused {
        if is_malformed(kind) {
            down.refuse();
            respond::note_refused(worker, (local, origin), &request, kind);
        } else {
            respond::refuse(worker, (local, origin), &mut down, &request, kind).await;
        }
        return None;
    }
    faults::strike(worker, faults::Place::Head, &request);
    let reserved = Reserved::default();
    let exchange = Exchange { worker, local, origin, listener, index, identity, reserved: &reserved };
    let _under_way = worker.counters().requests.raise();
    let before = down.written();
    let run = match &listener.capture {
        None => contain(worker, pin!(exchange::run(&exchange, &mut down, &mut request, &mut response))).await,
        Some(capture) => {
            let tapped = exchange::run_tapped(&exchange, capture, &mut down, &mut request, &mut response);
            contain(worker, Box::pin(tapped).as_mut()).await
        }
    };
    if run.is_err() {
        respond::own_up(worker, (local, origin), &mut down, before).await;
    }
    worker.buffers.give_back_heads((request, response));
    let opening = reserved.take_tunnel()?;
    // What the client has said in it is still in its stream.
    let client = Carrier::Http2(Box::new(Tunnelled::new(down)));
    Some(Heard { client, said: Vec::new(), opening })
}
