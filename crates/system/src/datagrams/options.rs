//! What sockets can be asked to do with datagrams.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Let a socket say of each datagram what it came to.
///
/// # Errors
/// What the system says.
pub fn say_own_address(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    match ipv6 {
        true => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO),
    }
}

/// Let a socket give several datagrams of one length as one.
///
/// # Errors
/// The system cannot.
pub fn take_segments(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_UDP, libc::UDP_GRO)
}

/// Whether a socket can send several datagrams of one length as one.
pub fn sends_segments(socket: BorrowedFd<'_>) -> bool {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the call writes at most `len` bytes to `value`, which is ours and has as many.
    let done = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, &raw mut len)
    };
    done == 0
}

fn set(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the call reads as many bytes of `on` as it is told, which is what it has.
    let done = unsafe {
        let on = (&raw const on).cast();
        libc::setsockopt(socket.as_raw_fd(), level, option, on, size_of::<libc::c_int>() as libc::socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
