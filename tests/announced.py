"""Headers of the PROXY protocol, as the proxies in front send them, and an endpoint that keeps those that it gets."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

from tests.certificates import DEADLINE

if TYPE_CHECKING:
    import ssl

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
CLIENT = "203.0.113.9"
"""Whom a proxy in front speaks for."""
LINE = f"PROXY TCP4 {CLIENT} 198.51.100.1 40000 443\r\n".encode()
LOCAL = SIGNATURE + b"\x20\0\0\0"


def binary(client: str = CLIENT, tlvs: bytes = b"", *, length: int | None = None) -> bytes:
    """A header of version 2."""
    source = ipaddress.ip_address(client)
    ends = [source, ipaddress.ip_address("198.51.100.1" if source.version == 4 else "2001:db8::1")]
    content = b"".join(end.packed for end in ends) + (40000).to_bytes(2) + (443).to_bytes(2) + tlvs
    size = len(content) if length is None else length
    return SIGNATURE + (b"\x21\x11" if ends[0].version == 4 else b"\x21\x21") + size.to_bytes(2) + content


def request(*fields: str, path: str = "/") -> bytes:
    """A request head."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: shop.example", *fields, "", ""]).encode()


def read_all(sock: socket.socket) -> bytes:
    """What comes until the end, however that comes."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(65_536):
            got += more
    return got


def connect(address: tuple[str, int] | str) -> socket.socket:
    """A connection to an address or a unix socket."""
    if isinstance(address, tuple):
        return socket.create_connection(address, DEADLINE)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    return sock


class Recorder:
    """Answers each request with 200, and keeps what each connection began with and the heads on it.

    `header`: of which version a header comes first (`"v1"`, `"v2"`), or none does."""

    def __init__(self, header: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.headers: list[bytes] = []
        self.heads: list[list[bytes]] = []
        """By connection."""
        self._header, self._tls = header, tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._listener, *self._socks]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def requests(self) -> int:
        """Over all connections."""
        return sum(map(len, self.heads))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._socks.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.headers.append(self._read_header(sock))
            heads: list[bytes] = []
            self.heads.append(heads)
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
            while True:
                heads.append(_until(sock, b"\r\n\r\n"))
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def _read_header(self, sock: socket.socket) -> bytes:
        if self._header == "v1":
            return _until(sock, b"\r\n")
        if self._header == "v2":
            start = _exactly(sock, 16)
            return start + _exactly(sock, int.from_bytes(start[14:]))
        return b""


def _until(sock: socket.socket, end: bytes) -> bytes:
    got = b""
    while not got.endswith(end):
        got += _exactly(sock, 1)
    return got


def _exactly(sock: Any, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        if not more:
            raise EOFError
        got += more
    return got
