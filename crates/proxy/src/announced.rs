//! The header of the PROXY protocol, before everything else on a connection of a listener's `proxy_protocol.from`. What it says is read
//! by `rules::proxy_protocol`.

use crate::clear::ClearStream;
use crate::clock::{Alarm, Tick};
use crate::connection::{Origin, QUIET, is_closing};
use crate::respond;
use crate::stream::Stream;
use crate::worker::Worker;
use crate::{admit::Place, snapshot::Listener, snapshot::SharedListener};
use penstock_rules::error::Kind;
use penstock_rules::proxy_protocol::{self, Header};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Bytes that are looked at in one go: nearly every header is shorter.
const PIECE: usize = 256;

/// Whether this connection begins with a header.
pub(crate) fn is_expected(worker: &Worker, listener: &SharedListener, peer: Option<SocketAddr>) -> bool {
    let local = worker.local_of(listener.id);
    let settings = local.as_ref().and_then(|(local, _)| Some(local.snapshot.listener(listener.id)?.1));
    let senders = settings.and_then(|settings| settings.senders.as_ref());
    senders.is_some_and(|senders| senders.include(peer.map(|peer| peer.ip())))
}

/// Read the header of a connection of `http`: from then on `origin` says who the client is. False: close.
pub(crate) async fn receive(
    worker: &Rc<Worker>,
    origin: &mut Origin,
    stream: &mut Stream,
    place: &mut Place,
    alarm: &Alarm,
) -> bool {
    let Stream::Clear(socket) = stream else { return false };
    let Some((local, _)) = worker.local_of(origin.listener.id) else { return false };
    let Some((_, listener)) = local.snapshot.listener(origin.listener.id) else { return false };
    let Some(senders) = &listener.senders else { return false };
    let until = worker.clock.after(senders.timeout);
    match read(worker, &listener.shared, socket, (alarm, until)).await {
        Ok(Some(header)) => admit(worker, origin, socket, (place, listener), header),
        Ok(None) => false,
        Err(kind) => {
            respond::refuse_connection(worker, (&local, origin), kind);
            false
        }
    }
}

/// The client is known now, and counts for itself.
fn admit(
    worker: &Worker,
    origin: &mut Origin,
    socket: &ClearStream,
    (place, listener): (&mut Place, &Listener),
    header: Header,
) -> bool {
    let Some(addresses) = header.addresses else { return true };
    origin.peer = Some(addresses.source);
    origin.destination = Some(Box::new(addresses.destination));
    let Err(kind) = place.count_for(listener, addresses.source.ip()) else { return true };
    // In clear a client that shakes hands would take it for broken TLS.
    if listener.tls.is_none() {
        respond::turn_away(worker, socket, kind);
    }
    false
}

/// Read it until then. `Ok(None)`: nobody said a word.
///
/// # Errors
/// `ProxyHeaderMissing`, `ProxyHeaderBad`, `ProxyHeaderTimeout`, `ClientClosed`.
pub(crate) async fn read(
    worker: &Worker,
    listener: &SharedListener,
    socket: &mut ClearStream,
    (alarm, until): (&Alarm, Tick),
) -> Result<Option<Header>, Kind> {
    let mut held = Vec::new();
    // As in a handshake: one that just came may be about to speak, and is the first to go where room is needed.
    alarm.rest(worker.clock.after(QUIET));
    let header = poll_fn(|cx| match poll_header(socket, &mut held, cx) {
        Poll::Ready(outcome) => Poll::Ready(outcome),
        Poll::Pending if alarm.clock().now() >= until => {
            Poll::Ready(if held.is_empty() { Ok(None) } else { Err(Kind::ProxyHeaderTimeout) })
        }
        Poll::Pending if held.is_empty() && is_closing(worker, listener) => Poll::Ready(Ok(None)),
        Poll::Pending if held.is_empty() && alarm.is_shed() => {
            worker.counters().shed_connections.add(1);
            Poll::Ready(Ok(None))
        }
        Poll::Pending => {
            alarm.clear();
            alarm.lower(until);
            Poll::Pending
        }
    })
    .await;
    alarm.work();
    header
}

/// Take from the socket what belongs to the header and nothing behind it, which is TLS or HTTP.
fn poll_header(
    socket: &mut ClearStream,
    held: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Header>, Kind>> {
    loop {
        let mut piece = [0; PIECE];
        let seen = match ready!(socket.poll_peek(cx, &mut piece)) {
            Ok(count) if count > 0 => piece.get(..count).unwrap_or_default(),
            _ if held.is_empty() => return Poll::Ready(Ok(None)),
            _ => return Poll::Ready(Err(Kind::ProxyHeaderBad)),
        };
        let (before, count) = (held.len(), seen.len());
        held.extend_from_slice(seen);
        let header = proxy_protocol::read(held)?;
        let own = header.map_or(count, |header| header.length.saturating_sub(before));
        // It is there: nothing is waited for.
        if !socket.take_at_once(piece.get_mut(..own).unwrap_or_default()).is_ok_and(|taken| taken == own) {
            return Poll::Ready(Err(Kind::ClientClosed));
        }
        if header.is_some() {
            return Poll::Ready(Ok(header));
        }
    }
}
