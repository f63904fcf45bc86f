"""Proxies that a forward proxy goes through: Penstock itself, and one of SOCKS 5 that does what a test says."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Self

from tests.product.forwarding import config

if TYPE_CHECKING:
    from tests.wire.peers import Connection


class SocksParent:
    """A SOCKS 5 proxy: who is asked for what, and the way there."""

    def __init__(self, login: tuple[str, str] | None = None, reply: int = 0, early: bytes = b"") -> None:
        """`reply`: what it answers every request with; `early` is said right behind that."""
        self.asked: list[tuple[str, int]] = []
        self.logins: list[tuple[str, str]] = []
        self._wanted, self._reply, self._early = login, reply, early
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listening.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        """It listens already."""
        return self

    def __exit__(self, *_: object) -> None:
        """No more are served."""
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError, EOFError):
            client.settimeout(20)
            _, count = _read(client, 2)
            methods = _read(client, count)
            method = 2 if self._wanted else 0
            client.sendall(bytes([5, method if method in methods else 255]))
            if self._wanted and not self._is_wanted(client):
                client.sendall(b"\x01\x01")
                return
            if self._wanted:
                client.sendall(b"\x01\x00")
            place = self._place(client)
            self.asked.append(place)
            if self._reply:
                client.sendall(bytes([5, self._reply, 0, 1]) + bytes(6))
                return
            with socket.create_connection(place, 20) as server:
                client.sendall(b"\x05\x00\x00\x01" + bytes(6) + self._early)
                back = threading.Thread(target=_pass, args=(server, client), daemon=True)
                back.start()
                _pass(client, server)
                back.join(20)

    def _is_wanted(self, client: socket.socket) -> bool:
        _read(client, 1)
        said = tuple(_read(client, _read(client, 1)[0]).decode() for _ in range(2))
        self.logins.append((said[0], said[1]))
        return said == self._wanted

    @staticmethod
    def _place(client: socket.socket) -> tuple[str, int]:
        _, _, _, kind = _read(client, 4)
        if kind == 3:
            host = _read(client, _read(client, 1)[0]).decode()
        else:
            family = socket.AF_INET if kind == 1 else socket.AF_INET6
            host = socket.inet_ntop(family, _read(client, 4 if kind == 1 else 16))
        return host, struct.unpack(">H", _read(client, 2))[0]


def _read(sock: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        more = sock.recv(count - len(got))
        if not more:
            raise EOFError
        got += more
    return got


def _pass(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while more := source.recv(65536):
            sink.sendall(more)
        sink.shutdown(socket.SHUT_WR)


def through(*endpoints: str, rules: list[dict[str, Any]] | None = None, **upstream: Any) -> dict[str, Any]:
    """A forward proxy that goes out through these, unless a rule says otherwise."""
    settings = config(connect_ports=["1-65535"], parent="corp", rules=rules or [])
    settings["upstreams"] = {"corp": {"endpoints": list(endpoints), **upstream}}
    return settings


def answered_by(connection: Connection, answer: bytes) -> bytes:
    """The head that comes on this connection of a scripted parent, once it is answered."""
    connection.read_until(lambda got: b"\r\n\r\n" in got)
    head = bytes(connection.received)
    connection.received.clear()
    connection.send(answer)
    return head
