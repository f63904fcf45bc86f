"""Wait until the other end of a loopback connection has read everything, by asking the kernel for its receive queue.

Without it, bytes sent one by one pile up and are read at once; with it, a cut in the bytes is a cut for the reader too.
"""

from __future__ import annotations

import functools
import socket
import struct
import threading
import time

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG, linux/netlink.h
_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY, linux/sock_diag.h
_REQUEST = 1  # NLM_F_REQUEST
_ERROR = 2  # NLMSG_ERROR
_NO_COOKIE = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_QUEUES_AT = _HEADER.size + 4 + 48  # after four bytes of state and the socket's identity
_one_at_a_time = threading.Lock()


def wait_until_read(sock: socket.socket, limit: float) -> bool:
    """True once the peer has read all that was sent; False if it has not within `limit`, or if that cannot be known."""
    if sock.family != socket.AF_INET:
        return False
    end = time.monotonic() + limit
    try:
        peer, local = sock.getpeername(), sock.getsockname()
        while True:
            with _one_at_a_time:
                waiting = _unread(peer, local)
            if waiting == 0:
                return True
            if waiting is None or time.monotonic() > end:
                return False
    except OSError:
        return False


@functools.cache
def _asker() -> socket.socket:
    """The socket that questions go over; opened once."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)


def _unread(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    identity = (
        struct.pack(">HH", local[1], remote[1])
        + socket.inet_aton(local[0]).ljust(16, b"\0")
        + socket.inet_aton(remote[0]).ljust(16, b"\0")
        + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    )
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
    _asker().send(_HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST, 1, 0) + body)
    answer = _asker().recv(8192)
    if _HEADER.unpack_from(answer)[1] == _ERROR:
        return None
    _expires, unread = struct.unpack_from("=II", answer, _QUEUES_AT)
    return int(unread)
