"""A name server for one name, whose answer a test changes, or that says nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

_TYPE_A, _TYPE_AAAA = 1, 28
_SERVER_FAILURE = 2


class NameServer:
    """Answers every question for an address with those of its kind in `addresses`; with `ttl` seconds to live."""

    def __init__(self, *addresses: str, ttl: int = 0) -> None:
        self.addresses: tuple[str, ...] = addresses
        self.ttl = ttl
        self.silent = False
        """Says nothing at all."""
        self.failing = False
        """Says that it cannot answer."""
        self.asked = 0
        """Questions for IPv4 addresses."""
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """As it is written in a configuration."""
        host, port = self._sock.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.sendto(b"", self._sock.getsockname())  # wakes the thread, which ends
        self._thread.join(5)
        self._sock.close()

    def _serve(self) -> None:
        while True:
            question, peer = self._sock.recvfrom(2048)
            if not question:
                return
            if answer := self._answer(question):
                self._sock.sendto(answer, peer)

    def _answer(self, question: bytes) -> bytes | None:
        end = question.index(b"\0", 12) + 5
        (kind,) = struct.unpack_from(">H", question, end - 4)
        self.asked += kind == _TYPE_A
        if self.silent:
            return None
        family = {_TYPE_A: socket.AF_INET, _TYPE_AAAA: socket.AF_INET6}.get(kind)
        known = [] if self.failing or family is None else self.addresses
        found = [socket.inet_pton(family, one) for one in known if (":" in one) == (family == socket.AF_INET6)]
        flags = 0x8180 | (_SERVER_FAILURE if self.failing else 0)
        head = question[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0)
        rows = [struct.pack(">HHHIH", 0xC00C, kind, 1, self.ttl, len(one)) + one for one in found]
        return head + question[12:end] + b"".join(rows)
