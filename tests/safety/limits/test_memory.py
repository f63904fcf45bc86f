"""More bodies than there is memory for: idle connections go, then new requests get 503 (safety.md 116)."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.product.waiting import wait_for
from tests.safety.limits.process import Process, ask, get
from tests.wire.peers import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
[listeners.web]
bind = "127.0.0.1:0"
timeouts = {{ body = "5m" }}
[upstreams.app]
endpoints = ["{origin}"]
timeouts = {{ write = "5m" }}
[[routes]]
match = 'path == "/here"'
respond = {{ body = "here" }}
[[routes]]
upstream = "app"
[engine]
workers = 2
memory = "{memory}"
[admin]
bind = "127.0.0.1:0"
"""
MANY = 1500
SPARE = 40 << 20
PIECE = b"x" * 65536
HEAD = b"POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n"


@pytest.fixture
def sink() -> Iterator[socket.socket]:
    """An endpoint that takes connections and reads nothing; closed, it resets them."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        yield listener


def config(sink: socket.socket, memory: int) -> str:
    """A configuration in front of `sink` with so much memory."""
    return CONFIG.format(origin=f"127.0.0.1:{sink.getsockname()[1]}", memory=f"{memory}B")


class Crowd:
    """Clients that send long bodies as fast as they are taken."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._selector = selectors.DefaultSelector()
        self.answers: list[bytes] = []

    def grow(self, count: int) -> None:
        """So many more."""
        for _ in range(count):
            client = socket.socket()
            # The system's own memory for sockets is to suffice.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
            client.setblocking(False)
            client.connect_ex(self._address)
            self._selector.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE, [HEAD])

    def push(self, seconds: float) -> None:
        """Send and listen for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, events in self._selector.select(0.01):
                try:
                    if events & selectors.EVENT_READ:
                        self._hear(key)
                    else:
                        piece = key.data.pop()
                        sent = key.fileobj.send(piece)  # type: ignore[union-attr]
                        key.data.append(piece[sent:] or PIECE)
                except BlockingIOError:
                    key.data.append(PIECE)
                except OSError:
                    self._leave(key)

    def _hear(self, key: selectors.SelectorKey) -> None:
        answer = key.fileobj.recv(4096)  # type: ignore[union-attr]
        if answer:
            self.answers.append(answer)
        else:
            self._leave(key)

    def _leave(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]

    def close(self) -> None:
        """Everybody goes."""
        for key in list(self._selector.get_map().values()):
            self._leave(key)
        self._selector.close()


def limit(penstock: Process, sink: socket.socket, memory: int) -> None:
    """Run with so much memory from now on."""
    penstock.config = config(sink, memory)
    (penstock.folder / "penstock.toml").write_text(penstock.config, "utf-8")
    penstock.process.send_signal(signal.SIGHUP)
    wait_for(lambda: penstock.metrics().get("penstock_memory_limit_bytes") == memory, "the limit")


@pytest.mark.safety(116)
def test_memory_stays_under_its_limit_and_service_comes_back(sink: socket.socket, tmp_path: Path) -> None:
    with Process(config(sink, 1 << 30), tmp_path) as penstock:
        for _ in range(20):
            assert get(penstock.address(), "/here") == (200, "here")
            penstock.metrics()
        most = penstock.resident() + SPARE
        limit(penstock, sink, most)
        idle = connect(penstock.address())
        assert ask(idle, "/here") == 200
        crowd, highest, told = Crowd(penstock.address()), 0, set()
        with contextlib.closing(crowd):
            for _ in range(MANY // 50):
                crowd.grow(50)
                crowd.push(0.05)
                began = time.monotonic()
                told.add(get(penstock.address(), "/here", deadline=2.0)[0])
                assert time.monotonic() - began < 2.0
                highest = max(highest, penstock.resident())
            assert penstock.admin("/healthz", deadline=2.0) == (200, "ok\n")
            metrics = penstock.metrics()
            highest = max(highest, penstock.resident())
        assert highest < most, f"{highest >> 20} of {most >> 20} MB"
        assert told == {200, 503}
        refused = [answer for answer in crowd.answers if answer.startswith(b"HTTP/1.1 503 ")]
        assert len(refused) > 100
        assert all(b"retry-after: 1" in answer.lower() for answer in refused)
        assert metrics['penstock_rejected_total{reason="overloaded"}'] >= len(refused)
        assert metrics["penstock_panics_total"] == 0
        # Who was idle went first.
        idle.read_until(lambda _: False)
        assert idle.ended
        assert metrics['penstock_shed_total{what="idle_connections"}'] >= 1
        levels = [line["pressure"] for line in penstock.lines if line.get("kind") == "memory"]
        assert levels[:2] == [1, 2]
        sink.close()
        wait_for(lambda: get(penstock.address(), "/here")[0] == 200, "service")
        wait_for(lambda: penstock.metrics()["penstock_memory_pressure"] == 0, "memory", 20.0)
        assert [line["pressure"] for line in penstock.lines if line.get("kind") == "memory"][-1] == 0
        client = connect(penstock.address())
        assert [ask(client, "/here") for _ in range(3)] == [200] * 3
        client.close()


@pytest.mark.safety(116)
def test_a_process_over_its_limit_by_itself_goes_on_serving(sink: socket.socket, tmp_path: Path) -> None:
    with Process(config(sink, 16 << 20), tmp_path) as penstock:
        assert penstock.metrics()["penstock_memory_pressure"] == 1
        # A look at memory that meets a request under way has those behind it refused until the next look.
        served = 0
        for _ in range(5000):
            served += get(penstock.address(), "/here")[0] == 200
            if served == 50:
                break
        assert served == 50


def test_the_limit_of_a_control_group_is_the_default(sink: socket.socket, tmp_path: Path) -> None:
    groups = Path("/sys/fs/cgroup")
    if not (groups / "cgroup.controllers").exists() or not os.access(groups / "cgroup.subtree_control", os.W_OK):
        pytest.skip("no control groups of version 2 that can be written to")
    group = groups / f"penstock-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.max").write_text(str(512 << 20), "ascii")
        text = config(sink, 0).replace('memory = "0B"\n', "")
        with Process(text, tmp_path, group=group) as penstock:
            assert penstock.metrics()["penstock_memory_limit_bytes"] == (512 << 20) // 10 * 9
    finally:
        wait_for(lambda: not (group / "cgroup.procs").read_text("ascii"), "an empty group")
        group.rmdir()
