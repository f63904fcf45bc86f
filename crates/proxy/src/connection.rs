//! One connection of a client, from accept to close.
//!
//! While it waits, a connection is a small task without buffers. What it needs to serve requests (a burst) is made when the
//! first byte comes, and given up when no further request follows soon.

pub(crate) mod opened;

use crate::announced;
use crate::clock::{Alarm, NEVER, Tick};
use crate::codec::h1::{CLIENT, H1, Waits};
use crate::codec::{Downstream, Outgoing};
use crate::contain::{Panicked, contain};
use crate::exchange::{self, Exchange};
use crate::faults;
use crate::forward::inside::{self, Heard, Inside};
use crate::forward::socks;
use crate::listen::{Accepted, Handed};
use crate::respond;
use crate::snapshot::SharedListener;
use crate::stream::Stream;
use crate::streams;
use crate::tls::{self, Secured, Shown};
use crate::upstream::reserved::Reserved;
use crate::wire::{Ahead, Wire};
use crate::worker::Worker;
use penstock_plan::Alpn;
use penstock_rules::error::Kind;
use penstock_rules::http::{Identity, PREFACE, RequestHead, ResponseHead};
use penstock_rules::pace::LeastRate;
use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::task::coop;

/// How long a connection keeps its burst while it waits for a next request, and how many of a worker may at once.
const LINGER: Duration = Duration::from_millis(500);
const LINGERING: usize = 512;
/// A connection that never spoke is idle only after so long.
pub(crate) const QUIET: Duration = Duration::from_secs(1);
/// What a client may still send of a body that nobody wants, and how long that may take (safety.md R4).
const UNWANTED: usize = 64 * 1024;
const UNWANTED_WAIT: Duration = Duration::from_secs(1);

/// What does not change while a connection lives.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) port: Option<u16>,
    /// What the client connected to, where somebody is told of it.
    pub(crate) destination: Option<Box<SocketAddr>>,
    pub(crate) listener: Arc<SharedListener>,
    /// What was agreed on with TLS, if that is spoken.
    pub(crate) secured: Option<Box<Secured>>,
}

impl Origin {
    pub(crate) fn scheme(&self) -> &'static str {
        if self.secured.is_some() { "https" } else { "http" }
    }

    /// The tunnel that the client speaks in, if that was opened.
    pub(crate) fn inside(&self) -> Option<&Inside> {
        self.secured.as_ref()?.inside.as_deref()
    }

    /// What endpoints are told of the client.
    pub(crate) fn identity(&self) -> Identity {
        let peer = self.peer.map_or_else(|| "unix".to_owned(), |peer| peer.ip().to_string());
        let identity = Identity::new(&peer, self.scheme(), self.port);
        match self.secured.as_ref().and_then(|secured| secured.client.as_ref()) {
            Some(client) => identity.with_client(client),
            None => identity,
        }
    }
}

/// Why a burst ended.
enum Rest {
    /// Quiet for now: the connection waits on.
    Quiet(Stream),
    /// The client began HTTP/2 with these bytes.
    Http2(Stream, Vec<u8>),
    /// The client began TLS in its tunnel with these bytes, and that is opened.
    Tunnel(Box<Heard>),
    Closed,
}

/// What a connection keeps from burst to burst.
#[derive(Default)]
struct Kept {
    /// Requests so far.
    served: Cell<u32>,
    reserved: Reserved,
}

impl Kept {
    fn is_new(&self) -> bool {
        self.served.get() == 0
    }

    /// Run a burst, but while one of its exchanges is a tunnel whose bytes are passed, those.
    fn run(&self, mut burst: Pin<&mut impl Future<Output = Rest>>) -> impl Future<Output = Rest> {
        poll_fn(move |cx| {
            ready!(self.reserved.poll_passage(cx));
            burst.as_mut().poll(cx)
        })
    }
}

/// Serve a connection until it closes. No `async fn`: that keeps its arguments twice, while the connection is idle, too.
pub(crate) fn run(worker: Rc<Worker>, accepted: Accepted) -> impl Future<Output = ()> {
    // The future has these as they are, and no copies; the connection is counted until it ends, because it has the place.
    let Accepted { stream, peer, port, mut place, handed } = accepted;
    let peer = peer.map(|peer| SocketAddr::new(peer.ip().to_canonical(), peer.port()));
    let own = || worker.local().filter(|local| local.snapshot.announces).and_then(|_| stream.local());
    let destination = handed.as_ref().map_or_else(own, |handed| handed.destination).map(Box::new);
    let mut origin = Origin { peer, port, destination, listener: Arc::clone(&place.listener), secured: None };
    let alarm = Rc::new(worker.clock.alarm());
    let kept = Kept::default();
    let mut stream = Stream::Clear(stream);
    async move {
        poll_fn(|cx| {
            alarm.register(cx);
            Poll::Ready(())
        })
        .await;
        if handed.is_none()
            && announced::is_expected(&worker, &origin.listener, origin.peer)
            && !Box::pin(announced::receive(&worker, &mut origin, &mut stream, &mut place, &alarm)).await
        {
            return;
        }
        // Who hands a connection over knows that there is TLS; a reload may have taken it away meanwhile.
        if handed.is_some() || is_secured(&worker, &origin) {
            match Box::pin(secure(&worker, &mut origin, stream, (&alarm, handed))).await {
                Some(secured) => stream = secured,
                None => return,
            }
        }
        loop {
            // Of a handshake with the client, or in its tunnel.
            if has_agreed_on_http2(&origin) {
                return Box::pin(streams::serve(&worker, origin, stream, Vec::new(), &alarm)).await;
            }
            let ahead = Ahead::read(&mut stream, &worker.buffers);
            if ahead.is_none() && !wait_for_request(&worker, &origin, &mut stream, &alarm, kept.is_new()).await {
                return;
            }
            let wire = Wire::begun(stream, Rc::clone(&worker.buffers), ahead);
            let rest = {
                let mut burst = Box::pin(burst(&worker, &origin, wire, Rc::clone(&alarm), &kept));
                contain(&worker, pin!(kept.run(burst.as_mut()))).await
            };
            match rest {
                Ok(Rest::Quiet(quiet)) => stream = quiet,
                Ok(Rest::Http2(stream, ahead)) => {
                    return Box::pin(streams::serve(&worker, origin, stream, ahead, &alarm)).await;
                }
                Ok(Rest::Tunnel(tunnel)) => match Box::pin(inside::open(&worker, &mut origin, *tunnel, &alarm)).await {
                    Some(opened) => stream = opened,
                    None => return,
                },
                Ok(Rest::Closed) => return,
                Err(Panicked) => {
                    worker.counters().fail(Kind::Internal);
                    return;
                }
            }
        }
    }
}

fn is_secured(worker: &Worker, origin: &Origin) -> bool {
    let local = worker.local_of(origin.listener.id);
    local
        .is_some_and(|(local, _)| local.snapshot.listener(origin.listener.id).is_some_and(|(_, one)| one.tls.is_some()))
}

fn has_agreed_on_http2(origin: &Origin) -> bool {
    origin.secured.as_ref().is_some_and(|secured| secured.alpn == Some(Alpn::H2))
}

/// Shake hands; `None`: close.
async fn secure(
    worker: &Rc<Worker>,
    origin: &mut Origin,
    stream: Stream,
    (alarm, handed): (&Alarm, Option<Box<Handed>>),
) -> Option<Stream> {
    let said = handed.map(|handed| handed.said).unwrap_or_default();
    let (local, _) = worker.local_of(origin.listener.id)?;
    let (_, listener) = local.snapshot.listener(origin.listener.id)?;
    let until = worker.clock.after(listener.plan.timeouts.tls);
    let shaken = {
        let closing = || is_closing(worker, &origin.listener);
        let shaking = pin!(tls::accept(
            worker,
            (Shown::Own(listener.tls.as_ref()?), listener),
            (stream.into(), &said),
            (alarm, until),
            closing
        ));
        contain(worker, shaking).await.ok()?
    };
    match shaken {
        Ok(Some((stream, secured))) => {
            let counters = origin.listener.counters.of(worker.index);
            counters.handshakes.add(1);
            counters.resumed.add(u64::from(secured.resumed));
            origin.secured = Some(Box::new(secured));
            Some(stream)
        }
        Ok(None) => None,
        Err(refused) => {
            respond::refuse_handshake(worker, (&local, origin), &refused);
            None
        }
    }
}

/// Wait until there is something to read; false: close.
async fn wait_for_request(
    worker: &Rc<Worker>,
    origin: &Origin,
    stream: &mut Stream,
    alarm: &Alarm,
    first: bool,
) -> bool {
    let mut until = NEVER;
    let ready = poll_fn(|cx| {
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        if until == NEVER {
            // A client that connects and says nothing has the time of a head, not of a kept connection.
            let Some(wait) = idle_wait(worker, origin, first) else { return Poll::Ready(false) };
            until = worker.clock.after(wait);
            // One that just came may be about to speak.
            alarm.rest(if first { worker.clock.after(QUIET) } else { worker.clock.now() });
        }
        let shed = alarm.is_shed();
        if shed || is_closing(worker, &origin.listener) {
            // A request that is here already was sent before anybody could know: it is answered (safety.md 156).
            let ready = stream.has_bytes();
            worker.counters().shed_connections.add(u64::from(shed && !ready));
            return Poll::Ready(ready);
        }
        if worker.clock.now() >= until {
            return Poll::Ready(false);
        }
        alarm.clear();
        alarm.lower(until);
        Poll::Pending
    })
    .await;
    alarm.work();
    ready
}

fn idle_wait(worker: &Worker, origin: &Origin, first: bool) -> Option<Duration> {
    let (local, _) = worker.local_of(origin.listener.id)?;
    let (_, listener) = local.snapshot.listener(origin.listener.id)?;
    Some(if first { listener.plan.timeouts.head } else { listener.plan.timeouts.idle })
}

/// Whether the connection is to end as soon as nothing is under way on it.
pub(crate) fn is_closing(worker: &Worker, listener: &SharedListener) -> bool {
    worker.is_draining() || worker.local().is_none_or(|local| local.snapshot.listener(listener.id).is_none())
}

/// The same for whom the configuration of this version served: while it is the running one, its listener is there.
#[inline]
pub(crate) fn is_closing_since(worker: &Worker, origin: &Origin, version: u64) -> bool {
    worker.is_draining() || (worker.version() != version && is_closing(worker, &origin.listener))
}

/// Serve requests as long as they follow each other soon.
async fn burst(worker: &Rc<Worker>, origin: &Origin, wire: Wire, alarm: Rc<Alarm>, kept: &Kept) -> Rest {
    let patience = Waits { body: Duration::from_secs(60), write: Duration::from_secs(60), rate: LeastRate::NONE };
    let mut down = H1::new(wire, alarm, CLIENT, patience);
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    let identity = origin.identity();
    loop {
        let Some((local, gone)) = worker.local_of(origin.listener.id) else { return Rest::Closed };
        let Some((index, listener)) = local.snapshot.listener(origin.listener.id) else { return Rest::Closed };
        let (timeouts, rate) = (&listener.plan.timeouts, listener.least(listener.plan.limits.write_rate));
        down.waits = Waits { body: timeouts.body, write: timeouts.write, rate };
        let until = worker.clock.after(listener.plan.timeouts.head);
        let read = contain(worker, pin!(read_head(worker, &mut down, &mut request, &listener.limits, until))).await;
        match read.unwrap_or(Err(Kind::Internal)) {
            Ok(true) => {}
            Ok(false) => return Rest::Closed,
            Err(Kind::BadVersion) if listener.plan.h2c && kept.is_new() && request.is_preface() => {
                let ahead = [PREFACE, down.wire.input()].concat();
                return Rest::Http2(down.wire.into_stream(), ahead);
            }
            Err(kind) => {
                let speaks = if kept.is_new() && listener.forward.is_some() { down.wire.input() } else { &[] };
                match socks::begins(speaks) {
                    Some(version) => {
                        let reserved = &kept.reserved;
                        let exchange =
                            Exchange { worker, local: &local, origin, listener, index, identity: &identity, reserved };
                        Box::pin(socks::serve(&exchange, &mut down, version, until)).await;
                    }
                    None => respond::refuse(worker, (&local, origin), &mut down, &request, kind).await,
                }
                if down.aborted {
                    return goes_on_as(down, kept);
                }
                hang_up(down).await;
                return Rest::Closed;
            }
        }
        if worker.is_overloaded() {
            respond::refuse(worker, (&local, origin), &mut down, &request, Kind::Overloaded).await;
            hang_up(down).await;
            return Rest::Closed;
        }
        let served = kept.served.get().saturating_add(1);
        kept.served.set(served);
        let last = listener.plan.limits.requests.is_some_and(|most| served >= most);
        if last || gone || worker.is_draining() || worker.is_pressed() {
            down.persistent = false;
        }
        let exchange =
            Exchange { worker, local: &local, origin, listener, index, identity: &identity, reserved: &kept.reserved };
        let under_way = worker.counters().requests.raise();
        let before = down.written();
        let run = match &listener.capture {
            None => contain(worker, pin!(exchange::run(&exchange, &mut down, &mut request, &mut response))).await,
            Some(capture) => {
                let tapped = exchange::run_tapped(&exchange, capture, &mut down, &mut request, &mut response);
                contain(worker, Box::pin(tapped).as_mut()).await
            }
        };
        if run.is_err() {
            respond::own_up(worker, (&local, origin), &mut down, before).await;
        }
        drop(under_way);
        let version = local.version;
        drop(local);
        if down.aborted {
            return goes_on_as(down, kept);
        }
        // Closing on bytes that nobody read resets the connection, and that can take the answer with it.
        let unread = || !down.wire.input().is_empty() || down.wire.stream().is_disturbed();
        if !down.is_clean() || (!down.persistent && unread()) {
            hang_up(down).await;
            return Rest::Closed;
        }
        if !down.persistent || down.wire.join().is_err() {
            return Rest::Closed;
        }
        if !down.wire.input().is_empty() {
            // Who sends many requests at once has one turn like all others.
            coop::consume_budget().await;
        } else if !more_soon(worker, origin, version, &mut down).await {
            return Rest::Quiet(down.wire.into_stream());
        }
        // What is refused next, before it is a request, is not told of by this one.
        request.clear();
        request.fields.shrink(crate::buffers::SMALL);
    }
}

/// What becomes of a connection that is none of ours any more.
fn goes_on_as(down: H1, kept: &Kept) -> Rest {
    let Some(opening) = kept.reserved.take_tunnel() else { return Rest::Closed };
    let said = down.wire.input().to_vec();
    Rest::Tunnel(Box::new(Heard { client: down.wire.into_stream().into(), said, opening }))
}

/// Read a head; false: the client closed first, or said nothing at all.
async fn read_head(
    worker: &Worker,
    down: &mut H1,
    request: &mut RequestHead,
    limits: &penstock_rules::http::HeadLimits,
    until: Tick,
) -> Result<bool, Kind> {
    poll_fn(|cx| match down.poll_request(cx, request, limits) {
        Poll::Ready(result) => {
            faults::strike(worker, faults::Place::Head, request);
            Poll::Ready(result.map(|head| head.is_some()))
        }
        // Browsers open connections ahead of need: an answer to a question that was never asked would be taken for the next's.
        Poll::Pending if down.alarm.clock().now() >= until => match down.wire.input() {
            [] => Poll::Ready(Ok(false)),
            _ => Poll::Ready(Err(Kind::HeadTimeout)),
        },
        Poll::Pending => {
            down.alarm.clear();
            down.alarm.lower(until);
            Poll::Pending
        }
    })
    .await
}

/// Wait a moment for the next request, with the burst kept at hand.
async fn more_soon(worker: &Worker, origin: &Origin, version: u64, down: &mut H1) -> bool {
    if worker.lingering.get() >= LINGERING || worker.is_pressed() {
        return false;
    }
    worker.lingering.set(worker.lingering.get() + 1);
    let _lingering = Lingering(worker);
    let mut until = NEVER;
    poll_fn(|cx| {
        if down.wire.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        if until == NEVER {
            until = worker.clock.after(LINGER);
        }
        if is_closing_since(worker, origin, version) {
            return Poll::Ready(down.wire.stream().has_bytes());
        }
        if worker.clock.now() >= until {
            return Poll::Ready(false);
        }
        down.alarm.clear();
        down.alarm.lower(until);
        Poll::Pending
    })
    .await
}

struct Lingering<'a>(&'a Worker);

impl Drop for Lingering<'_> {
    fn drop(&mut self) {
        self.0.lingering.set(self.0.lingering.get().saturating_sub(1));
    }
}

/// Close so that the client can still read what was sent: say the end, then take in for a moment what it is still sending,
/// unread (a reset would take the answer with it, RFC 9112 §9.6).
async fn hang_up(mut down: H1) {
    let until = down.alarm.clock().after(UNWANTED_WAIT);
    let (mut left, mut shut) = (UNWANTED, false);
    poll_fn(|cx| {
        if down.alarm.clock().now() >= until {
            return Poll::Ready(());
        }
        down.alarm.clear();
        down.alarm.lower(until);
        if !shut {
            ready!(down.poll_shutdown(cx));
            shut = true;
        }
        loop {
            down.wire.release();
            match ready!(down.wire.poll_fill(cx, crate::buffers::SMALL, false)) {
                Ok(count) if count > 0 && count <= left => left -= count,
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_is_a_small_task() {
        // With what the runtime keeps of a task this is its next larger size (P10).
        assert!(size(run) <= 512, "{}", size(run));
    }
}
