"""An endpoint that counts what it was asked, and fails as it is told."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Self

from tests.load.origin import parse_message

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[bytes, bytes, int], bytes | None]
    """From head, body and the request's number on its connection, from 0, to what is sent; `None` closes instead."""


def ok(body: bytes, *fields: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole response."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class Endpoint:
    """Listens on a port of its own and answers each connection in a thread."""

    def __init__(self, answer: Answer, *, resets: bool = False, at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        """`resets`: where it closes instead of answering, it resets the connection."""
        self.targets: list[bytes] = []
        """Of every request that came, in order."""
        self.connections = 0
        self.open = 0
        self._answer, self._resets = answer, resets
        self._lock = threading.Lock()
        self._listener = socket.create_server(at, backlog=512)
        self._socks: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """As it is written in a configuration."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # `shutdown` ends the accept that waits in the other thread; closing alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._socks:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with self._lock:
                    self.connections += 1
                    self.open += 1
                    self._socks.add(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._converse(sock)
        with self._lock:
            self.open -= 1
            self._socks.discard(sock)
        sock.close()

    def _converse(self, sock: socket.socket) -> None:
        received, number = b"", 0
        while more := sock.recv(65536):
            received += more
            while (message := parse_message(received)) is not None:
                head, body, size = message
                received = received[size:]
                with self._lock:
                    self.targets.append(head.split(b" ", 2)[1])
                answer = self._answer(head, body, number)
                number += 1
                if answer is None:
                    if self._resets:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                sock.sendall(answer)


def config(*addresses: str, routes: list[dict[str, Any]] | None = None, **upstream: Any) -> dict[str, Any]:
    """One listener, one worker, and one upstream over these addresses."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 1, "drain_timeout": "5s"},
        "upstreams": {"app": {"endpoints": list(addresses), **upstream}},
        "routes": routes or [{"name": "app", "upstream": "app"}],
    }
