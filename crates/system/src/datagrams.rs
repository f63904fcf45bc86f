//! Datagrams, many with one call (recvmmsg(2), sendmmsg(2)), each with what it came to and what it is sent from (ip(7), ipv6(7)), and
//! several of one length as one (`UDP_GRO`, `UDP_SEGMENT`, udp(7)). Libraries that wrap these calls have one set of options for all
//! datagrams of a call, or set more on a socket than is wanted.

mod options;
mod send;

pub use options::{say_own_address, sends_segments, take_segments};
pub use send::{send, send_joined};

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Datagrams of one call.
pub const BATCH: usize = 32;
/// Bytes for one: none is longer, nor are several that came as one.
const ROOM: usize = 64 * 1024;
/// 8-byte words for what is told beside a datagram: the address it came to (20 bytes) and a length (4), each with a head of 16.
const CONTROL: usize = 12;

/// What is known of a datagram that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// Who sent it; `None` if that is no address of IP.
    pub peer: Option<SocketAddr>,
    /// What it came to, where the socket was told to say.
    pub own: Option<IpAddr>,
    /// Bytes.
    pub len: usize,
    /// Several came as one: the length of each but the last, which may be shorter.
    pub segment: Option<u16>,
    /// It was longer than there is room for.
    pub truncated: bool,
}

/// Room for datagrams that come. Memory that none has filled is not used.
pub struct Batch {
    memory: Vec<u8>,
    came: [Option<Came>; BATCH],
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { memory: vec![0; BATCH * ROOM], came: [None; BATCH] }
    }
}

/// A datagram that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'b> {
    /// To whom; `None`: the peer of a connected socket.
    pub to: Option<SocketAddr>,
    /// From which of our addresses, as [`Came::own`] had it; `None`: the system chooses.
    pub from: Option<IpAddr>,
    /// What it says; several, if `segment` is given.
    pub bytes: &'b [u8],
    /// The length of each but the last.
    pub segment: Option<u16>,
}

impl Batch {
    /// Take in at most `most` datagrams that wait, into the places from `first` on; how many.
    ///
    /// # Errors
    /// What the system says; `WouldBlock`: none waits.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, first: usize, most: usize) -> io::Result<usize> {
        let first = first.min(BATCH);
        let count = most.min(BATCH - first);
        if count == 0 {
            return Ok(0);
        }
        let mut names = [const { MaybeUninit::<libc::sockaddr_in6>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<[u64; CONTROL]>::uninit() }; BATCH];
        let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        let rooms = self.memory.chunks_exact_mut(ROOM).skip(first);
        let places = names.iter_mut().zip(&mut controls).zip(vectors.iter_mut().zip(&mut headers));
        for (((name, control), (vector, header)), room) in places.zip(rooms).take(count) {
            *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: ROOM };
            // SAFETY: all fields of the structure are integers and pointers, for which zero is a value.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of::<[u64; CONTROL]>();
            header.write(message);
        }
        // SAFETY: the first `count` headers were written above, each with a name, a vector and control room that live until the end of
        // this function and are nobody else's, and with their true lengths; the vector's is a part of `memory`, which is borrowed here.
        let done = unsafe {
            let headers = headers.as_mut_ptr().cast();
            libc::recvmmsg(socket.as_raw_fd(), headers, count as libc::c_uint, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let done = usize::try_from(done).map_err(|_| io::Error::last_os_error())?.min(count);
        for (at, header) in headers.iter().take(done).enumerate() {
            // SAFETY: the header was written above, and the call has filled in as many as it says.
            let came = unsafe { read(header.assume_init_ref()) };
            if let Some(place) = self.came.get_mut(first + at) {
                *place = Some(came);
            }
        }
        Ok(done)
    }

    /// What came last into a place; nothing, if nothing did.
    pub fn get(&self, at: usize) -> Option<(Came, &[u8])> {
        let came = (*self.came.get(at)?)?;
        Some((came, self.memory.chunks_exact(ROOM).nth(at)?.get(..came.len)?))
    }
}

/// What a call says of a datagram.
///
/// # Safety
/// The header is one that `recvmmsg` has filled in, and its name and control room are alive.
unsafe fn read(message: &libc::mmsghdr) -> Came {
    let header = &message.msg_hdr;
    // SAFETY: the name has room for the longest address of IP and begins with a family; one that is shorter was not given.
    let peer = unsafe { read_address(header.msg_name.cast(), header.msg_namelen) };
    let truncated = header.msg_flags & libc::MSG_TRUNC != 0;
    let mut came = Came { peer, own: None, len: message.msg_len as usize, segment: None, truncated };
    // SAFETY: the header's control room and its length are those that the system left, which these macros walk.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: a head that is not null lies in the control room, with all of its fields.
    while let Some(head) = unsafe { next.as_ref() } {
        // SAFETY: what is told begins there.
        let told = unsafe { libc::CMSG_DATA(next) };
        // SAFETY: each kind is read only where the system has given as many bytes as it has.
        let holds = |len: usize| head.cmsg_len >= unsafe { libc::CMSG_LEN(len as libc::c_uint) } as usize;
        match (head.cmsg_level, head.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
                // SAFETY: as above; it need not be aligned.
                let info = unsafe { told.cast::<libc::in_pktinfo>().read_unaligned() };
                came.own = Some(IpAddr::V4(u32::from_be(info.ipi_spec_dst.s_addr).into()));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds(size_of::<libc::in6_pktinfo>()) => {
                // SAFETY: as above.
                let info = unsafe { told.cast::<libc::in6_pktinfo>().read_unaligned() };
                let own = std::net::Ipv6Addr::from(info.ipi6_addr.s6_addr);
                came.own = (!own.is_multicast()).then_some(IpAddr::V6(own));
            }
            (libc::SOL_UDP, libc::UDP_GRO) if holds(size_of::<libc::c_int>()) => {
                // SAFETY: as above.
                let length = unsafe { told.cast::<libc::c_int>().read_unaligned() };
                let length = u16::try_from(length).ok().filter(|length| *length > 0);
                came.segment = length.filter(|length| usize::from(*length) < came.len);
            }
            _ => {}
        }
        // SAFETY: as for the first.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    came
}

/// # Safety
/// `name` points at `len` bytes that the system has written, in room for a `sockaddr_in6`.
unsafe fn read_address(name: *const libc::sockaddr_in6, len: libc::socklen_t) -> Option<SocketAddr> {
    let holds = |size: usize| len as usize >= size;
    if !holds(size_of::<libc::sa_family_t>()) {
        return None;
    }
    // SAFETY: the family is the first field of all of them, and was written.
    let family = unsafe { (&raw const (*name).sin6_family).read() };
    match libc::c_int::from(family) {
        libc::AF_INET if holds(size_of::<libc::sockaddr_in>()) => {
            // SAFETY: as many bytes were written.
            let address = unsafe { name.cast::<libc::sockaddr_in>().read() };
            let ip = u32::from_be(address.sin_addr.s_addr).into();
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(address.sin_port))))
        }
        libc::AF_INET6 if holds(size_of::<libc::sockaddr_in6>()) => {
            // SAFETY: as many bytes were written.
            let address = unsafe { name.read() };
            let (ip, port) = (address.sin6_addr.s6_addr.into(), u16::from_be(address.sin6_port));
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn pair(bind: &str) -> (UdpSocket, UdpSocket) {
        (UdpSocket::bind(bind).unwrap(), UdpSocket::bind(bind).unwrap())
    }

    #[test]
    fn many_come_with_one_call_whole_and_in_order() {
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let (ours, theirs) = pair(bind);
            let (mut batch, to) = (Batch::default(), ours.local_addr().unwrap());
            assert_eq!(batch.receive(ours.as_fd(), 0, BATCH).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            for word in [&b"first"[..], b"", &[7; 65_000], b"last"] {
                theirs.send_to(word, to).unwrap();
            }
            assert_eq!(batch.receive(ours.as_fd(), 1, 3).unwrap(), 3);
            assert_eq!(batch.receive(ours.as_fd(), 4, BATCH).unwrap(), 1);
            let (came, bytes) = batch.get(1).unwrap();
            assert_eq!(
                (came.peer, came.own, came.segment, bytes),
                (theirs.local_addr().ok(), None, None, &b"first"[..])
            );
            assert_eq!((batch.get(2).unwrap().1.len(), batch.get(3).unwrap().1), (0, &[7; 65_000][..]));
            assert_eq!((batch.get(4).unwrap().1, batch.get(5)), (&b"last"[..], None));
            assert_eq!(batch.receive(ours.as_fd(), BATCH, 1).unwrap(), 0);
        }
    }

    #[test]
    fn what_came_to_an_address_is_answered_from_it() {
        for (bind, ipv6, client, to) in [
            ("0.0.0.0:0", false, "127.0.0.1:0", "127.0.0.7"),
            ("[::]:0", true, "127.0.0.1:0", "127.0.0.9"),
            ("[::]:0", true, "[::1]:0", "::1"),
        ] {
            let (ours, theirs) = (UdpSocket::bind(bind).unwrap(), UdpSocket::bind(client).unwrap());
            say_own_address(ours.as_fd(), ipv6).unwrap();
            let to = SocketAddr::new(to.parse().unwrap(), ours.local_addr().unwrap().port());
            theirs.send_to(b"ask", to).unwrap();
            let mut batch = Batch::default();
            assert_eq!(batch.receive(ours.as_fd(), 0, BATCH).unwrap(), 1);
            let (came, bytes) = batch.get(0).unwrap();
            assert_eq!(came.own.map(|own| own.to_canonical()), Some(to.ip()));
            let answer = Outgoing { to: came.peer, from: came.own, bytes, segment: None };
            assert_eq!(send(ours.as_fd(), &[answer, answer]).unwrap(), 2);
            let mut room = [0; 9];
            assert_eq!(theirs.recv_from(&mut room).unwrap(), (3, to));
        }
    }

    #[test]
    fn segments_are_sent_and_taken_as_one() {
        let (ours, theirs) = pair("127.0.0.1:0");
        if !sends_segments(theirs.as_fd()) || take_segments(ours.as_fd()).is_err() {
            return;
        }
        let bytes: Vec<u8> = (0..2500).map(|at| at as u8).collect();
        let to = ours.local_addr().ok();
        assert_eq!(
            send(theirs.as_fd(), &[Outgoing { to, from: None, bytes: &bytes, segment: Some(1000) }]).unwrap(),
            1
        );
        let mut batch = Batch::default();
        let count = batch.receive(ours.as_fd(), 0, BATCH).unwrap();
        let came: Vec<u8> = (0..count).flat_map(|at| batch.get(at).unwrap().1.to_vec()).collect();
        assert_eq!(came, bytes);
        assert_eq!(batch.get(0).unwrap().0.segment, (count == 1).then_some(1000));
    }
}
