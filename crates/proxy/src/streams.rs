//! One HTTP/2 connection of a client: it accepts streams, lets each be an exchange of its own, and ends so that no request is lost.

use crate::clock::{Alarm, Clock, NEVER, Tick};
use crate::codec::Downstream;
use crate::codec::h1::Waits;
use crate::codec::h2::{H2, Link, Next, Served, Tunnelled};
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
use penstock_plan::ListenerTimeouts;
use penstock_rules::error::Kind;
use penstock_rules::http::h2::{Fault, Limits, Opened, Reason};
use penstock_rules::http::{Identity, is_malformed};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a client may send before it is told that it was taken, on one stream and on all.
const STREAM_WINDOW: u32 = 256 * 1024 - 1;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The same of a forward proxy: a few servers that take an upload slowly must not keep all other tunnels of a client.
const TUNNELS_WINDOW: u32 = 4 << 20;
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
    served: Rc<Served>,
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
    timeouts: ListenerTimeouts,
    /// Most streams, if there is such a number.
    most: Option<u32>,
    course: Course,
    /// Streams so far.
    begun: u32,
    idle_since: Tick,
}

/// Serve a connection whose client speaks HTTP/2, until it closes. `ahead` was read of it already.
pub(crate) async fn serve(worker: &Rc<Worker>, origin: Origin, stream: Stream, ahead: Vec<u8>, alarm: &Alarm) {
    let identity = origin.identity();
    let listener = worker.local_of(origin.listener.id);
    let listener = listener.as_ref().and_then(|(local, _)| Some(local.snapshot.listener(origin.listener.id)?.1));
    let Some((limits, timeouts)) = listener.map(|listener| (limits(listener), listener.plan.timeouts)) else { return };
    let served = Served::new(Link::new(worker, stream, ahead), limits);
    let common = Rc::new(Common { worker: Rc::clone(worker), origin, identity, served });
    let over = contain(worker, pin!(converse(&common, timeouts, alarm))).await;
    if let Some(kind) = over.unwrap_or(Some(Kind::Internal)) {
        common.record(kind);
    }
    let (until, mut most) = (worker.clock.after(LAST_WORDS), UNWANTED);
    poll_fn(|cx| {
        if worker.clock.now() >= until {
            return Poll::Ready(());
        }
        alarm.clear();
        alarm.lower(until);
        common.served.link().poll_end(cx, &mut most)
    })
    .await;
}

/// Speak HTTP/2; what the client did wrong, if that is why the connection ends and nobody recorded it.
async fn converse(common: &Rc<Common>, timeouts: ListenerTimeouts, alarm: &Alarm) -> Option<Kind> {
    let idle_since = common.worker.clock.now();
    let mut streams = Streams { common, alarm, timeouts, most: None, course: Course::Open, begun: 0, idle_since };
    poll_fn(|cx| streams.poll(cx)).await
}

fn limits(listener: &Listener) -> Limits {
    Limits {
        streams: listener.plan.limits.streams.into(),
        head: listener.plan.limits.head,
        stream_window: STREAM_WINDOW,
        connection_window: if listener.forward.is_some() { TUNNELS_WINDOW } else { CONNECTION_WINDOW },
    }
}

impl Streams<'_> {
    /// One turn; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Kind>> {
        self.common.served.link().begin_turn();
        loop {
            match self.common.served.poll(cx) {
                Poll::Ready(Next::Opened(opened)) => self.begin(opened),
                Poll::Ready(Next::Faulty(Fault { kind, reason })) => self.end(kind, reason),
                Poll::Ready(Next::Over) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        self.alarm.clear();
        self.watch()
    }

    /// Let a stream be an exchange.
    fn begin(&mut self, opened: Opened) {
        self.begun = self.begun.saturating_add(1);
        let live = self.common.served.link().open();
        let common = Rc::clone(self.common);
        // Boxed, because the runtime moves what it spawns several times, and an exchange is large.
        tokio::task::spawn_local(Box::pin(async move {
            let _live = live;
            let alarm = Rc::new(common.worker.clock.alarm());
            if let Some(tunnel) = exchange(&common, opened, &alarm).await {
                let (worker, origin) = (Rc::clone(&common.worker), common.origin.clone());
                // Boxed, because few streams become one.
                Box::pin(opened::serve(worker, origin, tunnel, alarm)).await;
            }
        }));
    }

    /// End the connection for what its client did.
    fn end(&mut self, kind: Kind, reason: Reason) {
        self.common.record(kind);
        self.common.served.abort(reason);
        self.course = Course::Ending(self.common.worker.clock.after(LAST_WORDS));
    }

    /// Tell the client to begin nothing more.
    fn leave(&mut self) {
        self.common.served.leave();
        self.course = Course::Leaving;
        self.idle_since = NEVER;
    }

    /// Time passes: see to it that nobody is waited for too long. Ready: close.
    fn watch(&mut self) -> Poll<Option<Kind>> {
        let listed = self.consult();
        let (common, alarm) = (self.common, self.alarm);
        let Common { worker, origin, served, .. } = &**common;
        let link = served.link();
        let (now, shed, before) = (worker.clock.now(), alarm.is_shed(), self.course);
        let blocked_by = self.after(link.blocked_since(), self.timeouts.write);
        let head_by = self.after(link.in_head_since(), self.timeouts.head);
        if now >= blocked_by {
            link.break_off();
            return Poll::Ready(Some(Kind::ClientWriteTimeout));
        }
        if !served.is_settled() && is_closing(worker, &origin.listener) {
            return Poll::Ready(None);
        }
        let idle = link.live() == 0;
        self.idle_since = if idle { self.idle_since.min(now) } else { NEVER };
        let last = self.most.is_some_and(|most| self.begun >= most);
        if now >= head_by && !matches!(self.course, Course::Ending(_)) {
            self.end(Kind::HeadTimeout, Reason::NO_ERROR);
        } else if self.course == Course::Open && (last || shed || !listed || is_closing(worker, &origin.listener)) {
            worker.counters().shed_connections.add(u64::from(shed && idle));
            self.leave();
        } else if now >= self.ends_by() {
            match self.course {
                // It has not even said that it speaks HTTP/2.
                Course::Open if !served.is_settled() => return Poll::Ready(None),
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
            Course::Open if self.begun == 0 => self.after(self.idle_since, self.timeouts.head),
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
async fn exchange(common: &Common, opened: Opened, alarm: &Rc<Alarm>) -> Option<Heard> {
    let Common { worker, origin, identity, served } = common;
    let local = worker.local_of(origin.listener.id);
    let listener = local.as_ref().and_then(|(local, _)| Some((local, local.snapshot.listener(origin.listener.id)?)));
    let Some((local, (index, listener))) = listener else {
        // The listener is gone: the client may ask elsewhere.
        served.turn_away(opened);
        return None;
    };
    let (timeouts, rate) = (&listener.plan.timeouts, listener.least(listener.plan.limits.write_rate));
    let waits = Waits { body: timeouts.body, write: timeouts.write, rate };
    let (mut down, head) = H2::new(served, Rc::clone(alarm), waits, opened);
    let cut = poll_fn(|cx| {
        alarm.register(cx);
        Poll::Ready(down.poll_cut(cx))
    })
    .await;
    let (mut request, mut response) = worker.buffers.heads();
    let elsewhere = listener.limits.elsewhere && origin.inside().is_none();
    let read = down.read_head(&head, &mut request, (&listener.limits, elsewhere), worker.nonce());
    served.give_back(head);
    let refused = match read {
        // Whoever gave up before we began costs no endpoint anything.
        _ if cut.is_some() => cut,
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
