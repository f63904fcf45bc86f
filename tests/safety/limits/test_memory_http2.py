"""Answers in HTTP/2 that nobody reads, more than there is memory for: new requests get 503 (safety.md 116)."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from tests.product.waiting import wait_for
from tests.safety.limits.process import Process, get

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[listeners.web]
bind = "127.0.0.1:0"
timeouts = {{ write = "5m" }}
[upstreams.app]
endpoints = ["{origin}"]
protocol = "h2c"
limits = {{ streams = 1000 }}
timeouts = {{ body = "5m" }}
[[routes]]
match = 'path == "/here"'
respond = {{ body = "here" }}
[[routes]]
upstream = "app"
[engine]
workers = 2
memory = "{memory}B"
[admin]
bind = "127.0.0.1:0"
"""
SPARE = 40 << 20
MOST = 1500
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
PIECE = bytes(16_000)


def frame(kind: int, stream: int, body: bytes = b"", flags: int = 0) -> bytes:
    return struct.pack(">IBI", len(body) << 8 | kind, flags, stream) + body


class Lavish:
    """An endpoint whose answers have no end: on each stream as much as its window takes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            stream = sock.makefile("rb")
            stream.read(24)
            sock.sendall(frame(SETTINGS, 0))
            room: dict[int, int] = {0: 65_535}
            window = 65_535
            while head := stream.read(9):
                length, kind = int.from_bytes(head[:3]), head[3]
                number = int.from_bytes(head[5:]) & 0x7FFFFFFF
                body = stream.read(length)
                if kind == SETTINGS and not head[4]:
                    told = {body[at + 1]: int.from_bytes(body[at + 2 : at + 6]) for at in range(0, length, 6)}
                    window = told.get(4, window)
                    sock.sendall(frame(SETTINGS, 0, flags=1))
                elif kind == HEADERS:
                    room[number] = window
                    # Status 200, from the static table.
                    sock.sendall(frame(HEADERS, number, b"\x88", flags=4))
                elif kind == WINDOW_UPDATE:
                    room[number] = room.get(number, 0) + int.from_bytes(body)
                self._fill(sock, room, number)

    @staticmethod
    def _fill(sock: socket.socket, room: dict[int, int], number: int) -> None:
        for stream in [number] if number else [stream for stream in room if stream]:
            pieces = min(room.get(stream, 0), room[0]) // len(PIECE)
            sock.sendall(frame(DATA, stream, PIECE) * pieces)
            room[0] -= pieces * len(PIECE)
            room[stream] -= pieces * len(PIECE)


@pytest.mark.safety(116)
def test_answers_that_nobody_reads_stay_under_the_limit(tmp_path: Path) -> None:
    with Lavish() as endpoint:
        roomy = CONFIG.format(origin=endpoint.address, memory=1 << 30)
        with Process(roomy, tmp_path) as penstock, contextlib.ExitStack() as crowd:
            for _ in range(20):
                assert get(penstock.address(), "/here") == (200, "here")
            most = penstock.resident() + SPARE
            (tmp_path / "penstock.toml").write_text(CONFIG.format(origin=endpoint.address, memory=most), "utf-8")
            penstock.process.send_signal(signal.SIGHUP)
            wait_for(lambda: penstock.metrics().get("penstock_memory_limit_bytes") == most, "the limit")
            highest, refused, asked = 0, 0, 0
            while refused < 100:
                assert asked < MOST, "nothing is refused"
                clients = [crowd.enter_context(socket.socket()) for _ in range(20)]
                for client in clients:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                    client.connect(penstock.address())
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                asked += len(clients)
                # As long as a busy machine takes to bring them all to their limits.
                end = time.monotonic() + 0.05
                while time.monotonic() < end:
                    if (resident := penstock.resident()) > highest:
                        highest, end = resident, time.monotonic() + 0.05
                refused += sum(client.recv(12) == b"HTTP/1.1 503" for client in clients)
            assert highest < most, f"{highest >> 20} of {most >> 20} MB"
            assert asked - refused > 100
            crowd.close()
            wait_for(lambda: get(penstock.address(), "/here")[0] == 200, "service")
            assert penstock.metrics()["penstock_panics_total"] == 0
