//! Sending: each to its peer, from the address and in the lengths that it is told.

use super::{BATCH, CONTROL, Outgoing};
use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Bytes of datagrams that are joined: longer ones do not fit into a frame of most networks with IPv6, and would have to be parted.
const LONGEST_JOINED: usize = 1452;

/// Send the first [`BATCH`] of `datagrams`; how many went.
///
/// # Errors
/// What the system says of the first: none went.
pub fn send(socket: BorrowedFd<'_>, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
    send_in_runs(socket, datagrams, |_| 1)
}

/// As [`send`], but neighbours of one length and one way are one to the system until the last moment (`UDP_SEGMENT`, udp(7)): what they
/// have in common it does once. Only where [`sends_segments`].
///
/// # Errors
/// As [`send`].
pub fn send_joined(socket: BorrowedFd<'_>, datagrams: &[Outgoing<'_>]) -> io::Result<usize> {
    match send_in_runs(socket, datagrams, alike) {
        // Their way takes no datagrams of that length, or none that are joined.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE)) => {
            send(socket, datagrams)
        }
        sent => sent,
    }
}

/// How many of the first can go as one: all as long as the first, but the last, which may be shorter.
fn alike(datagrams: &[Outgoing<'_>]) -> usize {
    let Some(first) = datagrams.first() else { return 0 };
    let len = first.bytes.len();
    if first.segment.is_some() || !(1..=LONGEST_JOINED).contains(&len) {
        return 1;
    }
    let same_way = |one: &Outgoing<'_>| one.segment.is_none() && (one.to, one.from) == (first.to, first.from);
    let equal = datagrams.iter().take_while(|one| one.bytes.len() == len && same_way(one)).count();
    let shorter = |one: &Outgoing<'_>| (1..len).contains(&one.bytes.len()) && same_way(one);
    equal + usize::from(datagrams.get(equal).is_some_and(shorter))
}

/// `run`: how many of the first go as one.
fn send_in_runs(
    socket: BorrowedFd<'_>,
    datagrams: &[Outgoing<'_>],
    run: impl Fn(&[Outgoing<'_>]) -> usize,
) -> io::Result<usize> {
    let datagrams = datagrams.get(..BATCH).unwrap_or(datagrams);
    let mut names = [const { MaybeUninit::<libc::sockaddr_in6>::uninit() }; BATCH];
    let mut controls = [const { MaybeUninit::<[u64; CONTROL]>::uninit() }; BATCH];
    let mut vectors = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; BATCH];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    for (vector, one) in vectors.iter_mut().zip(datagrams) {
        // The system only reads what is sent.
        *vector = libc::iovec { iov_base: one.bytes.as_ptr().cast_mut().cast(), iov_len: one.bytes.len() };
    }
    // How many datagrams each message is of.
    let mut runs = [0; BATCH];
    let (mut rest, mut count) = (datagrams, 0);
    let places = names.iter_mut().zip(&mut controls).zip(headers.iter_mut().zip(&mut runs));
    for ((name, control), (header, len)) in places {
        let Some(first) = rest.first() else { break };
        *len = run(rest).clamp(1, rest.len());
        // SAFETY: all fields of the structure are integers and pointers, for which zero is a value.
        let mut message: libc::mmsghdr = unsafe { zeroed() };
        message.msg_hdr.msg_iov = vectors.as_mut_ptr().wrapping_add(datagrams.len() - rest.len());
        message.msg_hdr.msg_iovlen = *len;
        if let Some(to) = first.to {
            message.msg_hdr.msg_name = name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = write_address(name, to);
        }
        let joined = if *len > 1 { u16::try_from(first.bytes.len()).ok() } else { None };
        let told = Outgoing { segment: joined.or(first.segment), ..*first };
        if told.from.is_some() || told.segment.is_some() {
            let room = control.write([0; CONTROL]);
            message.msg_hdr.msg_control = room.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = write_control(room, &told);
        }
        header.write(message);
        rest = rest.get(*len..).unwrap_or_default();
        count += 1;
    }
    // SAFETY: the first `count` headers were written above, each with as many vectors as it says, which are those of a part of
    // `datagrams` and no longer than that, and perhaps a name and control room, with their true lengths. All of them live until the end
    // of this function; the bytes are borrowed for as long.
    let done = unsafe {
        let headers = headers.as_mut_ptr().cast();
        libc::sendmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    let done = usize::try_from(done).map_err(|_| io::Error::last_os_error())?;
    Ok(runs.iter().take(done).sum())
}

fn write_address(to: &mut MaybeUninit<libc::sockaddr_in6>, address: SocketAddr) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let written = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the room is that of a `sockaddr_in6`, which is longer and aligned as strictly.
            unsafe { to.as_mut_ptr().cast::<libc::sockaddr_in>().write(written) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            to.write(libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            });
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Say from where and in which lengths a datagram goes; the bytes that this takes.
fn write_control(room: &mut [u64; CONTROL], datagram: &Outgoing<'_>) -> usize {
    let mut used = 0;
    match datagram.from {
        Some(IpAddr::V4(own)) => {
            let address = libc::in_addr { s_addr: u32::from(own).to_be() };
            let info =
                libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: address, ipi_addr: libc::in_addr { s_addr: 0 } };
            used += put(room, used, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
        }
        Some(IpAddr::V6(own)) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: own.octets() }, ipi6_ifindex: 0 };
            used += put(room, used, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
        }
        None => {}
    }
    if let Some(segment) = datagram.segment {
        used += put(room, used, (libc::SOL_UDP, libc::UDP_SEGMENT), segment);
    }
    used
}

/// One thing that is told beside a datagram; the bytes that it takes.
fn put<T: Copy>(room: &mut [u64; CONTROL], at: usize, (level, kind): (libc::c_int, libc::c_int), value: T) -> usize {
    let len = size_of::<T>() as libc::c_uint;
    // SAFETY: these two only reckon.
    let (space, len) = unsafe { (libc::CMSG_SPACE(len) as usize, libc::CMSG_LEN(len) as usize) };
    if !at.is_multiple_of(size_of::<u64>()) || size_of_val(room) < at + space {
        return 0;
    }
    let head = room.as_mut_ptr().wrapping_byte_add(at).cast::<libc::cmsghdr>();
    // SAFETY: the head and what follows it lie in the room, as was looked at above; the room is aligned to 8 bytes, as a head must
    // be, and so is every place in it, because a space is a multiple of that.
    unsafe {
        head.write(libc::cmsghdr { cmsg_len: len, cmsg_level: level, cmsg_type: kind });
        libc::CMSG_DATA(head).cast::<T>().write_unaligned(value);
    }
    space
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagrams::{Batch, take_segments};
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn pair(bind: &str) -> (UdpSocket, UdpSocket) {
        (UdpSocket::bind(bind).unwrap(), UdpSocket::bind(bind).unwrap())
    }

    #[test]
    fn neighbours_of_one_length_are_joined_and_arrive_as_they_were() {
        let words = [&b"four"[..], b"four", b"two", b"", b"four", b"longer", b"five5"];
        let there = "127.0.0.1:1".parse().ok();
        let one = |bytes| Outgoing { to: None, from: None, bytes, segment: None };
        assert_eq!(alike(&words.map(one)), 3);
        assert_eq!(alike(&[one(b"")]), 1);
        assert_eq!(alike(&[one(b"a"), Outgoing { to: there, ..one(b"a") }]), 1);
        assert_eq!(alike(&[Outgoing { segment: Some(1), ..one(b"a") }, one(b"a")]), 1);
        assert_eq!(alike(&[one(&[0; LONGEST_JOINED + 1]); 2]), 1);
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let (ours, theirs) = pair(bind);
            let to = ours.local_addr().ok();
            let all = words.map(|bytes| Outgoing { to, ..one(bytes) });
            assert_eq!(send_joined(theirs.as_fd(), &all).unwrap(), words.len());
            let mut batch = Batch::default();
            let count = batch.receive(ours.as_fd(), 0, BATCH).unwrap();
            assert_eq!((0..count).map(|at| batch.get(at).unwrap().1).collect::<Vec<_>>(), words);
        }
    }

    #[test]
    fn a_failure_is_told_when_nothing_went() {
        let (ours, theirs) = pair("127.0.0.1:0");
        let to = theirs.local_addr().ok();
        let long = vec![0; 65_508];
        let [good, bad] = [&b"good"[..], &long].map(|bytes| Outgoing { to, from: None, bytes, segment: None });
        assert_eq!(send(ours.as_fd(), &[good, bad]).unwrap(), 1);
        assert_eq!(send(ours.as_fd(), &[bad]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        assert!(take_segments(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
