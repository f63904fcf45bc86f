//! What no safe library offers: system calls, one function each, and an allocator that is patient; reviewed (docs/safety.md R11). Nothing
//! else is decided here, and what has a safe wrapper elsewhere does not belong here.

pub mod datagrams;
pub mod memory;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Bytes written to a connected stream socket that its peer's system has not taken yet (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
/// What the system says: the descriptor is no such socket.
pub fn untaken(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one `int` to its argument, which is a live one of ours; the descriptor is borrowed, so it is
    // open during the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Seconds that local time is ahead of UTC, so many seconds since 1970 (localtime_r(3)); 0 where nobody knows.
pub fn ahead_of_utc(at: i64) -> i64 {
    let at: libc::time_t = at;
    let mut local = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both arguments are live and of the types that are asked for; `tm` is plain numbers and a pointer that is not followed, so
    // zeros are a valid one, and what the call writes is, too.
    let local = unsafe {
        libc::localtime_r(&raw const at, local.as_mut_ptr());
        local.assume_init()
    };
    local.tm_gmtoff
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn local_time_is_less_than_a_day_from_utc() {
        assert!(ahead_of_utc(1_796_000_400).abs() <= 14 * 3600);
    }

    #[test]
    fn what_the_peer_has_not_taken_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert_eq!(untaken(ours.as_fd()).unwrap(), 0);
        ours.set_nonblocking(true).unwrap();
        let written = std::iter::from_fn(|| ours.write(&[0; 65536]).ok()).sum::<usize>();
        let left = untaken(ours.as_fd()).unwrap();
        assert!(0 < left && left < written);
        theirs.read_exact(&mut vec![0; written]).unwrap();
        assert_eq!(untaken(ours.as_fd()).unwrap(), 0);
        assert!(untaken(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
