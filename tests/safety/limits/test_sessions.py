"""Sessions of layer 4 in numbers: what a silent one costs, and who comes when there is no more room."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.product.waiting import wait_for
from tests.safety.limits.process import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """
[listeners.db]
bind = "127.0.0.1:0"
protocol = "tcp"
upstream = "main"
{more}
[upstreams.main]
endpoints = ["{address}"]
[engine]
workers = 1
[admin]
bind = "127.0.0.1:0"
"""
WARM, COUNT = 200, 1500
EACH = 1500
"""Bytes that a silent session may cost the process."""
AT_ONCE = 0.1
"""Seconds in which somebody is refused."""


class Sink(threading.Thread):
    """Sends back the first byte of each connection and keeps it open; one that says nothing it closes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "{}:{}".format(*self._listener.getsockname())
        self._kept: list[socket.socket] = []
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                if first := sock.recv(1):
                    sock.sendall(first)
                    self._kept.append(sock)
                else:
                    sock.close()

    def close(self) -> None:
        """End it, and all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self.join()
        for sock in (self._listener, *self._kept):
            sock.close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    with contextlib.closing(Sink()) as sink:
        yield sink


def opened(address: tuple[str, int], count: int) -> list[socket.socket]:
    """So many sessions, over each of which a byte has gone both ways."""
    clients = []
    for _ in range(count):
        client = socket.create_connection(address, 10)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        clients.append(client)
    return clients


def test_a_silent_session_costs_little(tmp_path: Path, sink: Sink) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 2 * (WARM + COUNT) + 200:
        pytest.skip("too few descriptors: ulimit -n 4096")
    with Process(CONFIG.format(address=sink.address, more=""), tmp_path) as penstock:
        kept = opened(penstock.address("db"), WARM)
        before = penstock.resident()
        kept += opened(penstock.address("db"), COUNT)
        each = (penstock.resident() - before) / COUNT
        assert penstock.metrics()['penstock_listener_connections{listener="db"}'] == WARM + COUNT
        for client in kept:
            client.close()
    assert each <= EACH, f"{each:.0f} bytes a session"


@pytest.mark.safety(115)
def test_without_descriptors_those_who_are_here_go_on(tmp_path: Path, sink: Sink) -> None:
    with Process(CONFIG.format(address=sink.address, more=""), tmp_path, descriptors=256) as penstock:
        address = penstock.address("db")
        kept = opened(address, 40)
        refused = []
        for _ in range(200):
            with contextlib.suppress(ConnectionResetError):
                refused.append(socket.create_connection(address, 10))
        wait_for(lambda: penstock.metrics()['penstock_listener_refused_total{listener="db"}'] > 0, "some are refused")
        for client in kept:
            client.sendall(b"still here")
        for client in refused:
            client.close()
        wait_for(lambda: _opens(address), "there is room again")
        assert penstock.process.poll() is None
        for client in kept:
            client.close()


@pytest.mark.safety(114)
@pytest.mark.parametrize("limit", ["connections", "connections_per_client"])
def test_sessions_beyond_the_limit_get_a_reset_at_once(tmp_path: Path, sink: Sink, limit: str) -> None:
    config = CONFIG.format(address=sink.address, more=f"limits = {{ {limit} = 5 }}")
    with Process(config, tmp_path) as penstock:
        address = penstock.address("db")
        kept = opened(address, 5)
        for _ in range(20):
            began = time.monotonic()
            with pytest.raises(ConnectionResetError):
                opened(address, 1)
            assert time.monotonic() - began < AT_ONCE
        word = "too_many_connections" if limit == "connections" else "too_many_per_client"
        assert penstock.metrics()[f'penstock_rejected_total{{reason="{word}"}}'] == 20
        assert penstock.admin("/healthz") == (200, "ok\n")
        for client in kept:
            client.sendall(b"still here")
        # An end alone is passed on, and the endpoint may go on for as long as it likes.
        gone = kept.pop()
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        wait_for(lambda: _opens(address), "a place that became free")
        for client in kept:
            client.close()


def _opens(address: tuple[str, int]) -> bool:
    try:
        for client in opened(address, 1):
            client.close()
    except (OSError, AssertionError):
        return False
    return True
