//! Listening sockets: opened by the control side, accepted from by the workers.

use crate::admit::{self, Place};
use crate::clear::ClearStream;
use crate::connection;
use crate::respond;
use crate::session::{self, Relay};
use crate::snapshot::SharedListener;
use crate::worker::{Shared, Worker};
use arc_swap::ArcSwap;
use penstock_plan::Protocol as Spoken;
use penstock_rules::error::Kind;
use penstock_system::datagrams;
use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, spawn_local};

/// Connections that wait to be accepted, per socket. The system caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Bytes of datagrams that wait, per socket. The system caps it at `net.core.rmem_max` and `net.core.wmem_max`.
const DATAGRAMS: usize = 4 << 20;
/// A peer that acknowledges nothing for so long is gone.
const VANISHED: Duration = Duration::from_secs(30);
/// How long a worker that has no descriptor left waits before it accepts again.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// One listening socket of one worker.
pub(crate) struct Socket {
    /// What it was bound for; the same in all workers.
    pub(crate) key: String,
    /// The listener it belongs to now: a reload may give it to another.
    pub(crate) owner: Arc<ArcSwap<SharedListener>>,
    pub(crate) raw: RawSocket,
    pub(crate) port: Option<u16>,
    /// Whether datagrams come to it.
    pub(crate) spoken: Spoken,
}

/// A set of sockets on one address, one a worker.
pub(crate) struct Bound {
    pub(crate) sockets: Vec<RawSocket>,
    /// The real address, as text.
    pub(crate) address: String,
    pub(crate) port: Option<u16>,
}

/// Open `workers` sockets on `bind`.
///
/// # Errors
/// What the system says.
pub(crate) fn open(bind: &str, spoken: Spoken, workers: usize) -> io::Result<Bound> {
    match bind.strip_prefix("unix:") {
        Some(path) => open_unix(Path::new(path), workers),
        None => open_ip(bind, spoken, workers),
    }
}

/// Why `bind` could not be opened, in words that name the remedy where there is one. `holder` is the listener of ours that has its
/// port, and where.
pub(crate) fn refusal(bind: &str, error: &io::Error, holder: Option<(&str, &str)>) -> String {
    let why = match (error.kind(), holder) {
        (io::ErrorKind::AddrInUse, Some((name, address))) => {
            format!(
                "listener {name} has the port on {address}; give that up with one change, and bind this with the next"
            )
        }
        (io::ErrorKind::AddrInUse, None) => "the address is in use by another process".to_owned(),
        (io::ErrorKind::PermissionDenied, _) => {
            "permission denied (ports below 1024 need CAP_NET_BIND_SERVICE)".to_owned()
        }
        (io::ErrorKind::AddrNotAvailable, _) => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot listen on {bind}: {why}")
}

/// Whether two places cannot be bound beside each other: the same port, and an address that is the same or stands for all.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let place = |bind: &str| -> Option<SocketAddr> {
        let every = bind.strip_prefix(':').map(|port| format!("[::]:{port}"));
        every.as_deref().unwrap_or(bind).parse().ok()
    };
    let (Some(one), Some(other)) = (place(one), place(other)) else { return false };
    // A socket on every IPv6 address takes those of IPv4 as well.
    let takes =
        |every: &SocketAddr, one: &SocketAddr| every.ip().is_unspecified() && (every.is_ipv6() || one.is_ipv4());
    one.port() == other.port() && (one.ip() == other.ip() || takes(&one, &other) || takes(&other, &one))
}

/// Whether a connection to `address` would come to a socket of ours.
pub(crate) fn is_own(shared: &Shared, address: SocketAddr) -> bool {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let (binds, withheld) = (shared.binds.load(), shared.withheld.load());
    let bound = binds.values().filter_map(|bind| bind.address.parse::<SocketAddr>().ok());
    bound.chain(withheld.iter().copied()).filter(|own| own.port() == port).any(|own| match own.ip().to_canonical() {
        // Nobody but the system knows all of this machine's addresses: it lets a socket have them, and no other.
        every if every.is_unspecified() => ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok(),
        one => one == ip,
    })
}

fn open_ip(bind: &str, spoken: Spoken, workers: usize) -> io::Result<Bound> {
    let wanted = match bind.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            // One socket for both families, where the machine has both.
            match open_sockets(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), spoken, workers) {
                Err(error) if is_without_ipv6(&error) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
                opened => return opened,
            }
        }
        None => bind.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
    };
    open_sockets(wanted, spoken, workers)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn open_sockets(wanted: SocketAddr, spoken: Spoken, workers: usize) -> io::Result<Bound> {
    let socket = if spoken == Spoken::Udp { datagram_socket } else { stream_socket };
    if wanted.port() != 0 {
        // SO_REUSEPORT would let a second process of ours share the port unseen: ask once without it.
        socket(wanted, false)?.bind(&wanted.into())?;
    }
    let mut address = wanted;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = socket(address, true)?;
        socket.bind(&address.into())?;
        if spoken != Spoken::Udp {
            socket.listen(BACKLOG)?;
        }
        if let Some(real) = socket.local_addr()?.as_socket() {
            address = real;
        }
        sockets.push(socket);
    }
    Ok(Bound { sockets, address: address.to_string(), port: Some(address.port()) })
}

fn stream_socket(address: SocketAddr, shared: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit these: no call per connection.
    socket.set_tcp_nodelay(true)?;
    watch_peer(&SockRef::from(&socket))?;
    Ok(socket)
}

/// Not with `SO_REUSEADDR`: for datagrams that lets a second process take them away.
fn datagram_socket(address: SocketAddr, shared: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_nonblocking(true)?;
    // What comes while the worker does something else. The system gives as much as it allows.
    let _ = socket.set_recv_buffer_size(DATAGRAMS);
    let _ = socket.set_send_buffer_size(DATAGRAMS);
    if address.ip().is_unspecified() {
        datagrams::say_own_address(socket.as_fd(), address.is_ipv6())?;
    }
    // Where the system cannot, they come one by one.
    if datagrams::sends_segments(socket.as_fd()) {
        let _ = datagrams::take_segments(socket.as_fd());
    }
    Ok(socket)
}

/// Notice within 30 s a peer that vanished without a word, whether it owes us anything or not (safety.md 169): while nothing is under
/// way the keep-alive asks, and while something is, the system waits no longer for it to be acknowledged.
pub(crate) fn watch_peer(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(VANISHED / 2).with_interval(VANISHED / 6).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(VANISHED))
}

fn open_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    // Left behind by a process that is gone; anything but a socket stays.
    if let Ok(found) = std::fs::symlink_metadata(path) {
        use std::os::unix::fs::FileTypeExt;
        if found.file_type().is_socket() {
            std::fs::remove_file(path)?;
        }
    }
    let socket = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    let sockets = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
    Ok(Bound { sockets, address: format!("unix:{}", path.display()), port: None })
}

enum Queue {
    Tcp(AsyncFd<TcpListener>),
    Unix(UnixListener),
}

/// Who takes in what comes to a socket.
pub(crate) enum Listening {
    Connections(Rc<Acceptor>),
    Datagrams(Rc<Relay>),
}

/// Take in what comes to a socket, in a task of its own.
///
/// # Errors
/// What the system says.
pub(crate) fn begin(worker: &Rc<Worker>, socket: Socket) -> io::Result<(AbortHandle, Listening)> {
    Ok(match socket.spoken {
        Spoken::Udp => {
            let relay = Relay::new(Rc::clone(worker), socket)?;
            (spawn_local(Rc::clone(&relay).run()).abort_handle(), Listening::Datagrams(relay))
        }
        Spoken::Http | Spoken::Tcp | Spoken::Forward => {
            let acceptor = Acceptor::new(Rc::clone(worker), socket)?;
            (spawn_local(Rc::clone(&acceptor).run()).abort_handle(), Listening::Connections(acceptor))
        }
    })
}

impl Listening {
    /// The socket is to be closed; its task has ended.
    pub(crate) fn close(&self) {
        match self {
            // Who is in the queue already has a connection: it is served.
            Listening::Connections(acceptor) => acceptor.accept_waiting(),
            Listening::Datagrams(relay) => relay.close(),
        }
    }
}

/// Accepts on one socket of one worker.
pub(crate) struct Acceptor {
    worker: Rc<Worker>,
    listening: Queue,
    owner: Arc<ArcSwap<SharedListener>>,
    port: Option<u16>,
}

/// Who connected, and to what.
pub(crate) struct Accepted {
    pub(crate) stream: ClearStream,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) place: Place,
    /// What is known already where a listener of `tcp` hands it to one of `http`.
    pub(crate) handed: Option<Box<Handed>>,
}

/// What was read of a connection before it was handed over.
pub(crate) struct Handed {
    /// The beginning of its TLS.
    pub(crate) said: Vec<u8>,
    /// What the client connected to, where somebody is told of it.
    pub(crate) destination: Option<SocketAddr>,
}

impl Acceptor {
    pub(crate) fn new(worker: Rc<Worker>, socket: Socket) -> io::Result<Rc<Acceptor>> {
        let listening = match socket.port {
            Some(_) => Queue::Tcp(watched(socket.raw.into())?),
            None => Queue::Unix(UnixListener::from_std(socket.raw.into())?),
        };
        Ok(Rc::new(Acceptor { worker, listening, owner: socket.owner, port: socket.port }))
    }

    /// Accept until the task is ended.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            match std::future::poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((stream, peer)) => self.begin(stream, peer),
                // The client was gone before we looked.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(_) => {
                    admit::refused(&self.worker, &self.owner.load(), Kind::OutOfDescriptors);
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    }

    /// Take in who waits already, without waiting for more.
    pub(crate) fn accept_waiting(&self) {
        // The system is asked itself: the event loop may not have looked yet.
        match &self.listening {
            Queue::Tcp(listener) => {
                while let Ok((stream, peer)) = accept(listener.get_ref()) {
                    self.begin(stream, peer);
                }
            }
            Queue::Unix(listener) => {
                let socket = SockRef::from(listener);
                while let Ok((accepted, _)) = socket.accept() {
                    if accepted.set_nonblocking(true).is_ok()
                        && let Ok(stream) = UnixStream::from_std(accepted.into())
                    {
                        self.begin(ClearStream::Unix(stream), None);
                    }
                }
            }
        }
    }

    fn poll_accept(&self, cx: &mut std::task::Context<'_>) -> Poll<io::Result<(ClearStream, Option<SocketAddr>)>> {
        match &self.listening {
            Queue::Tcp(listener) => loop {
                let mut ready = ready!(listener.poll_read_ready(cx))?;
                if let Ok(accepted) = ready.try_io(|listener| accept(listener.get_ref())) {
                    return Poll::Ready(accepted);
                }
            },
            Queue::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| (ClearStream::Unix(stream), None)),
        }
    }

    /// What is spoken here, and whether that is with TLS.
    fn spoken(&self) -> (Spoken, bool) {
        let id = self.owner.load().id;
        let found = self.worker.local_of(id);
        let listener = found.as_ref().and_then(|(local, _)| Some(local.snapshot.listener(id)?.1));
        listener.map_or((Spoken::Http, false), |listener| (listener.plan.protocol, listener.tls.is_some()))
    }

    fn begin(&self, stream: ClearStream, peer: Option<SocketAddr>) {
        let admitted = admit::admit(&self.worker, self.owner.load_full(), peer.map(|peer| peer.ip()));
        match (admitted, self.spoken()) {
            (Ok(place), (protocol, _)) => {
                let accepted = Accepted { stream, peer, port: self.port, place, handed: None };
                let worker = Rc::clone(&self.worker);
                match protocol {
                    Spoken::Http | Spoken::Forward => spawn_local(connection::run(worker, accepted)),
                    // Sockets that take connections have no listener of datagrams.
                    Spoken::Tcp | Spoken::Udp => spawn_local(session::run(worker, accepted)),
                };
            }
            // There is nothing to say it in; an end in order would be taken for an answer.
            (Err(_), (Spoken::Tcp | Spoken::Udp, _)) => stream.break_off(),
            // In clear a client that shakes hands would take it for broken TLS.
            (Err(_), (Spoken::Http | Spoken::Forward, true)) => {}
            (Err(kind), (Spoken::Http | Spoken::Forward, false)) => respond::turn_away(&self.worker, &stream, kind),
        }
    }
}

#[expect(
    deprecated,
    reason = "unsound for types that change their descriptor, which a listener does not; its heir is unsafe"
)]
fn watched(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    AsyncFd::with_interest(listener, Interest::READABLE)
}

/// Accept one connection; the event loop hears of it when there is something to wait for.
fn accept(listener: &TcpListener) -> io::Result<(ClearStream, Option<SocketAddr>)> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    Ok((ClearStream::Fresh(Some(socket.into())), peer))
}
