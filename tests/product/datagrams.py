"""Peers of sessions of datagrams, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    import penstock

LONGEST = 65_507
"""Bytes of the longest datagram over IPv4."""


def config(*addresses: str, workers: int = 1, upstream: dict[str, Any] | None = None, **listener: Any) -> Any:
    """A listener of datagrams in front of these endpoints."""
    return {
        "listeners": {"dns": {"bind": "127.0.0.1:0", "protocol": "udp", "upstream": "main", **listener}},
        "upstreams": {"main": {"endpoints": list(addresses), **(upstream or {})}},
        "engine": {"workers": workers, "drain_timeout": "5s"},
    }


def ended(proxy: penstock.Proxy, word: str) -> int:
    """Sessions of the listener that have ended so."""
    return proxy.stats().listeners[0].sessions[word]


class Endpoint(threading.Thread):
    """Answers each datagram with what `answer` makes of it: so many datagrams, none to be silent."""

    def __init__(
        self, name: str = "", answer: Callable[[bytes], list[bytes]] | None = None, at: tuple[str, int] | None = None
    ) -> None:
        super().__init__(daemon=True)
        host = (at or ("127.0.0.1", 0))[0]
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(at or ("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.peers: set[Any] = set()
        self.got: list[bytes] = []
        self.keeps = True  # whether it remembers what came, and from whom
        self._answer = answer or (lambda said: [name.encode() + said])
        self._ending = False
        self.start()

    def run(self) -> None:
        while True:
            try:
                said, peer = self.sock.recvfrom(1 << 16)
            except OSError:
                return
            if self._ending:
                return
            if self.keeps:
                self.peers.add(peer)
                self.got.append(said)
            for answer in self._answer(said):
                with contextlib.suppress(OSError):
                    self.sock.sendto(answer, peer)

    def close(self) -> None:
        """Nobody listens there any more, when this returns."""
        self._ending = True
        with contextlib.suppress(OSError):
            # Wakes the thread: closing a socket does not.
            self.sock.shutdown(socket.SHUT_RDWR)
        self.join(10)
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Client:
    """One address and port that sends datagrams and hears answers."""

    def __init__(self, to: tuple[str, int], source: str | None = None) -> None:
        family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.settimeout(20)
        if source:
            self.sock.bind((source, 0))
        # Connected, so that an answer from another address would not be heard.
        self.sock.connect(to)

    def send(self, said: bytes) -> None:
        self.sock.send(said)

    def hear(self) -> bytes:
        return self.sock.recv(1 << 16)

    def ask(self, said: bytes) -> bytes:
        self.send(said)
        return self.hear()

    def is_answered(self, said: bytes, within: float = 0.3) -> bool:
        """Whether an answer comes, where none may."""
        self.send(said)
        self.sock.settimeout(within)
        try:
            return bool(self.hear())
        except TimeoutError:
            return False
        finally:
            self.sock.settimeout(20)

    def close(self) -> None:
        self.sock.close()
