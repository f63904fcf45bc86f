//! Datagrams of clients of SOCKS 5 (`UDP ASSOCIATE`, RFC 1928 §7): a socket on the address that the client has reached us at, to which it
//! alone sends, and one for each family to the servers that it names. Whether they may be reached is decided once for each, as for
//! tunnels; the association ends with the connection on which it was asked for.

mod decide;

use super::{Forward, ORIGINS};
use crate::clock::Clock;
use crate::codec::Outgoing as _;
use crate::codec::h1::H1;
use crate::contain::contain;
use crate::exchange::Exchange;
use crate::observe::access_log::{self, SessionRecord};
use crate::respond;
use crate::stream::Stream;
use penstock_rules::error::Kind;
use penstock_rules::forward::socks::{self, Destinations, Socks, Way};
use penstock_rules::session::End;
use penstock_system::datagrams::{self, BATCH, Batch, Came, Outgoing};
use socket2::{Domain, Protocol, Socket, Type};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Batches that are moved before it is the turn of others.
const TURN: usize = 8;
/// How long a destination that may not be reached stays so, and after how long without a datagram one may make room.
const HOLD: Duration = Duration::from_secs(60);
/// Datagrams that wait for a name.
const WAITING: usize = 4;

/// One association.
struct Association<'a> {
    exchange: &'a Exchange<'a>,
    forward: &'a Forward,
    user: Option<Box<str>>,
    client: IpAddr,
    /// The port that it sends from: that of its first datagram, as long as the association lasts.
    port: Option<u16>,
    relay: UdpSocket,
    /// To servers, by family.
    outward: [Option<UdpSocket>; 2],
    destinations: Destinations,
    asked: Vec<Asked>,
    /// Bytes and datagrams that went to servers, and to the client.
    bytes: [u64; 2],
    datagrams: [u64; 2],
    /// When something did.
    moved_at: u64,
}

/// A name that is asked for.
struct Asked {
    said: Box<[u8]>,
    found: Pin<Box<dyn Future<Output = Vec<SocketAddr>>>>,
    waiting: Vec<Box<[u8]>>,
}

/// Serve a client that has asked for an association, and proved to be this user where that is wanted.
pub(super) async fn serve(exchange: &Exchange<'_>, down: &mut H1, user: Option<Box<str>>) {
    let Exchange { worker, local, origin, .. } = *exchange;
    let mut association = match open(exchange, down, user) {
        Ok(association) => association,
        Err(kind) => {
            down.wire.out.extend_from_slice(Socks::V5.refused(kind.status()));
            let _ = poll_fn(|cx| down.poll_flush(cx)).await;
            return respond::refuse_connection(worker, (local, origin), kind);
        }
    };
    let began = Instant::now();
    let open = worker.counters().sessions.raise();
    let end = contain(worker, pin!(poll_fn(|cx| association.poll(cx, down)))).await;
    drop(open);
    let end = end.unwrap_or_else(|_| {
        worker.counters().fail(Kind::Internal);
        End::Failed(Kind::Internal)
    });
    association.record(began, end);
}

/// # Errors
/// Why there is none.
fn open<'a>(exchange: &'a Exchange<'a>, down: &mut H1, user: Option<Box<str>>) -> Result<Association<'a>, Kind> {
    let forward = exchange.listener.forward.as_deref().ok_or(Kind::Internal)?;
    let client = exchange.origin.peer.map(|peer| peer.ip().to_canonical());
    forward.leave.client(client)?;
    // Who came over a unix socket, or in TLS, has no address of ours that datagrams could come to.
    let own = if let Stream::Clear(socket) = down.wire.stream() { socket.local() } else { None };
    let (own, client) = own.zip(client).ok_or(Kind::BadSocks)?;
    let relay = bind(own.ip().to_canonical()).map_err(|_| Kind::Exhausted)?;
    let own = relay.local_addr().map_err(|_| Kind::Internal)?;
    socks::write_granted(own, &mut down.wire.out);
    Ok(Association {
        exchange,
        forward,
        user,
        client,
        port: None,
        relay,
        outward: [None, None],
        destinations: Destinations::default(),
        asked: Vec::new(),
        bytes: [0; 2],
        datagrams: [0; 2],
        moved_at: exchange.worker.clock.now(),
    })
}

fn bind(ip: IpAddr) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(ip, 0);
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// What waits on a socket; `None`: nothing, and its coming will be told.
fn receive(socket: &UdpSocket, cx: &mut Context<'_>, batch: &mut Batch) -> Option<usize> {
    if !matches!(socket.poll_recv_ready(cx), Poll::Ready(Ok(()))) {
        return None;
    }
    let received = socket.try_io(Interest::READABLE, || batch.receive(socket.as_fd(), 0, BATCH));
    // Nothing is known to be told only if it is asked once more behind an empty queue.
    Some(received.unwrap_or(0))
}

impl Association<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, down: &mut H1) -> Poll<End> {
        if let Poll::Ready(Err(_)) = down.poll_flush(cx) {
            return Poll::Ready(End::ClientReset);
        }
        if let Poll::Ready(end) = poll_client(cx, down) {
            return Poll::Ready(end);
        }
        let worker = self.exchange.worker;
        self.poll_names(cx);
        let mut batch = worker.datagrams.take().unwrap_or_default();
        let mut more = false;
        for _ in 0..TURN {
            more = self.take_in(cx, &mut batch) | self.take_out(cx, &mut batch);
            if !more {
                break;
            }
        }
        worker.datagrams.set(Some(batch));
        // A name that is asked for now has to be asked once, so that its answer will be told.
        self.poll_names(cx);
        if more {
            cx.waker().wake_by_ref();
        }
        self.poll_end(down)
    }

    /// Whether it is over: after silence, with the process, and with its listener, as all sessions of datagrams.
    fn poll_end(&self, down: &H1) -> Poll<End> {
        let Exchange { worker, local, origin, listener, .. } = self.exchange;
        let gone = || worker.local().is_none_or(|now| now.snapshot.listener(origin.listener.id).is_none());
        if worker.is_leaving() || (worker.version() != local.version && gone()) {
            return Poll::Ready(End::Shutdown);
        }
        let until = self.moved_at.saturating_add(Clock::ticks(listener.plan.timeouts.tunnel)).saturating_add(1);
        if worker.clock.now() >= until {
            return Poll::Ready(End::Idle);
        }
        down.alarm.clear();
        down.alarm.lower(until);
        Poll::Pending
    }

    /// Pass on what the client sent; whether there may be more.
    fn take_in(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> bool {
        let Some(count) = receive(&self.relay, cx, batch) else { return false };
        for at in 0..count {
            let passed = batch.get(at).and_then(|(came, datagram)| self.hear(&came, datagram));
            if passed.is_none() {
                self.dropped(1);
            }
        }
        true
    }

    /// Pass on what servers sent; whether there may be more.
    fn take_out(&mut self, cx: &mut Context<'_>, batch: &mut Batch) -> bool {
        let (mut more, mut room) = (false, Vec::new());
        for family in 0..self.outward.len() {
            let Some(socket) = self.outward.get(family).and_then(Option::as_ref) else { continue };
            let Some(count) = receive(socket, cx, batch) else { continue };
            more = true;
            for at in 0..count {
                let passed = batch.get(at).and_then(|(came, said)| self.tell(&came, said, &mut room));
                if passed.is_none() {
                    self.dropped(1);
                }
            }
        }
        more
    }

    /// A datagram came to us; `None`: it goes nowhere.
    fn hear(&mut self, came: &Came, datagram: &[u8]) -> Option<()> {
        let peer = came.peer.filter(|peer| peer.ip().to_canonical() == self.client && !came.truncated)?;
        if self.port.is_some_and(|port| port != peer.port()) {
            return None;
        }
        let (said, payload) = socks::split(datagram)?;
        self.port = Some(peer.port());
        let (now, hold) = self.times();
        match self.destinations.find(said, now, hold) {
            Some(Way::Open(to)) => self.send(to, payload),
            Some(Way::Closed) => None,
            Some(Way::Asking) => {
                let asked = self.asked.iter_mut().find(|asked| *asked.said == *said)?;
                (asked.waiting.len() < WAITING).then(|| asked.waiting.push(payload.into()))
            }
            None => self.begin(said, payload),
        }
    }

    /// Send to a server; `None` where it did not go.
    fn send(&mut self, to: SocketAddr, payload: &[u8]) -> Option<()> {
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = self.outward.get_mut(usize::from(to.is_ipv6()))?;
        if socket.is_none() {
            *socket = Some(bind(any).ok()?);
        }
        pass(socket.as_ref()?, to, payload)?;
        self.count(0, payload.len());
        Some(())
    }

    /// Send to the client what a server said, behind a header in `room`.
    fn tell(&mut self, came: &Came, said: &[u8], room: &mut Vec<u8>) -> Option<()> {
        let from = came.peer.filter(|from| !came.truncated && self.destinations.has(*from))?;
        room.clear();
        socks::write_header(from, room);
        room.extend_from_slice(said);
        pass(&self.relay, SocketAddr::new(self.client, self.port?), room)?;
        self.count(1, said.len());
        Some(())
    }

    fn count(&mut self, way: usize, bytes: usize) {
        let Exchange { worker, origin, .. } = self.exchange;
        let (bytes, counters) = (bytes as u64, origin.listener.counters.of(worker.index));
        let total = if way == 0 { &counters.bytes_in } else { &counters.bytes_out };
        total.add(bytes);
        counters.datagrams.iter().skip(way).take(1).for_each(|count| count.add(1));
        self.bytes.iter_mut().skip(way).take(1).for_each(|count| *count += bytes);
        self.datagrams.iter_mut().skip(way).take(1).for_each(|count| *count += 1);
        self.moved_at = worker.clock.now();
    }

    fn dropped(&self, count: u64) {
        let Exchange { worker, origin, .. } = self.exchange;
        origin.listener.counters.of(worker.index).datagrams[2].add(count);
    }

    /// Step 9, record.
    fn record(&self, began: Instant, end: End) {
        let Exchange { worker, origin, .. } = self.exchange;
        let counters = origin.listener.counters.of(worker.index);
        counters.sessions.iter().skip(end.index()).take(1).for_each(|counter| counter.add(1));
        let Some(local) = worker.local() else { return };
        let Some(log) = &local.snapshot.plan.access_log else { return };
        let record = SessionRecord {
            peer: origin.peer,
            user: self.user.as_deref(),
            sni: None,
            listener: &origin.listener.name,
            route: "",
            upstream: ORIGINS,
            endpoint: "",
            bytes_in: self.bytes[0],
            bytes_out: self.bytes[1],
            datagrams: Some(self.datagrams),
            queued: Duration::ZERO,
            connect: Duration::ZERO,
            total: began.elapsed(),
            attempts: 1,
            open: [worker.counters().connections.get() + worker.counters().sessions.get(), counters.open.get()],
            in_flight: 0,
            end,
        };
        access_log::add_session(log.format, &record, &mut worker.records.borrow_mut());
        worker.counters().records.add(1);
    }
}

/// The connection on which the association was asked for: what is said on it further means nothing, its end is the end.
fn poll_client(cx: &mut Context<'_>, down: &mut H1) -> Poll<End> {
    for _ in 0..TURN {
        down.wire.release();
        match down.wire.poll_fill(cx, crate::buffers::SMALL, false) {
            Poll::Ready(Ok(0)) => return Poll::Ready(End::ClientClosed),
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(End::ClientReset),
            Poll::Pending => return Poll::Pending,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn pass(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> Option<()> {
    let datagram = Outgoing { to: Some(to), from: None, bytes, segment: None };
    datagrams::send(socket.as_fd(), &[datagram]).is_ok_and(|count| count == 1).then_some(())
}
