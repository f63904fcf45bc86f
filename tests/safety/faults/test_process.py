"""The process is reloaded, given a broken configuration, and told to end, while it serves."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket
from websockets.sync.server import ServerConnection, serve

from tests.load.origin import EchoOrigins
from tests.load.reloading import CONFIG, run_storm
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, ok
from tests.wire.peers import connect, refuses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.product.product import Running

EXAMPLE = """\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{}"]
[[routes]]
upstream = "app"
[engine]
workers = 2
drain_timeout = "{}"
"""


def _address(running: Running) -> tuple[str, int]:
    host, _, port = running.address().rpartition(":")
    return host, int(port)


class Asking:
    """A client that asks again and again over kept connections, and notes every answer."""

    def __init__(self, running: Running, count: int = 4) -> None:
        self.statuses: list[int | str] = []
        self._end = threading.Event()
        address = _address(running)
        self._threads = [threading.Thread(target=self._ask, args=(address, number)) for number in range(count)]

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(20)

    def _ask(self, address: tuple[str, int], number: int) -> None:
        connection = http.client.HTTPConnection(*address, timeout=20)
        while not self._end.is_set():
            try:
                connection.request("POST" if number % 2 else "GET", "/", b"x" * 1000 if number % 2 else None)
                answer = connection.getresponse()
                answer.read()
                self.statuses.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                self.statuses.append(repr(error))
                connection.close()
        connection.close()


@pytest.mark.safety(156)
def test_a_storm_of_reloads_costs_nobody_anything(start: Callable[..., Running]) -> None:
    with EchoOrigins("a", "b") as origins:
        running = start(CONFIG.format(*origins.addresses.values()))
        storm = run_storm(running, requests=20_000, reloads=100, signals=1000)
    assert storm.tally.wrong == 0, storm.tally.examples
    assert storm.tally.answered >= 20_000 - 1
    assert storm.tunnels_lost == 0
    assert storm.applied >= 100
    assert running.process.poll() is None
    assert not [line for line in running.lines if line["level"] in ("error", "raw")]
    # Pools were kept: connections to endpoints are far fewer than requests.
    assert storm.connects < storm.tally.answered / 20


@pytest.mark.safety(158)
def test_a_change_that_cannot_be_is_refused_and_nobody_notices(start: Callable[..., Running]) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with Endpoint(lambda head, body, number: ok(b"well")) as origin:
        running = start(EXAMPLE.format(origin.address, "5s"))
        good = running.config.read_text("utf-8")
        extra = f'[listeners.side]\nbind = "127.0.0.1:{port}"\n'
        changes = {
            "upstream = 'nope'": good.replace('upstream = "app"', 'upstream = "nope"'),
            "is not TOML": good + "\n[[[",
            "unknown key": good.replace("workers", "wokers"),
            "in use": good + extra,
            "cannot open": good + '[log.access]\nto = "no/such/folder/access.log"\n',
            "No such file": None,
        }
        with Asking(running) as asking:
            for text in changes.values():
                if text is None:
                    running.config.unlink()
                else:
                    running.config.write_text(text, "utf-8")
                seen = len(asking.statuses)
                refused = running.command("reload")
                assert refused.returncode == 2, refused.stdout
                assert "penstock.toml" in refused.stderr, refused.stderr
                running.signal(signal.SIGHUP)
                wait_for(lambda seen=seen: len(asking.statuses) > seen + 50, "it serves on")
            running.config.write_text(good, "utf-8")
            assert running.command("reload").returncode == 0
        assert set(asking.statuses) == {200}
        assert running.get("/") == (200, "well")
    taken.close()


@pytest.mark.safety(159)
def test_a_stopping_process_finishes_what_it_began(start: Callable[..., Running]) -> None:
    release = threading.Event()

    def slow(head: bytes, body: bytes, number: int) -> bytes:
        if b"/slow" in head:
            release.wait(20)
        return ok(b"whole")

    with Endpoint(slow) as origin:
        running = start(EXAMPLE.format(origin.address, "10s"))
        address = _address(running)
        waiting, idle = connect(address), connect(address)
        idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        idle.read_until(lambda got: got.endswith(b"whole"))
        waiting.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: b"/slow" in origin.targets, "it is under way")
        with Asking(running, 8) as asking:
            wait_for(lambda: len(asking.statuses) > 100, "others ask, too")
            running.signal(signal.SIGTERM)
            wait_for(lambda: refuses(address), "nothing new is accepted")
        # Of the others, none got half an answer; those whose connection was closed saw it between two requests.
        assert not [status for status in asking.statuses if isinstance(status, int) and status != 200]
        assert not [status for status in asking.statuses if "Incomplete" in str(status)]
        idle.read_until(lambda _: False)
        assert not idle.was_reset
        assert running.process.poll() is None
        release.set()
        waiting.read_until(lambda got: got.endswith(b"whole"))
        assert b"connection: close" in bytes(waiting.received).lower()
        waiting.read_until(lambda _: False)
        assert running.ends() == 0


@pytest.mark.safety(159)
def test_what_does_not_finish_ends_with_the_drain(start: Callable[..., Running]) -> None:
    with Endpoint(lambda head, body, number: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") as origin:
        running = start(EXAMPLE.format(origin.address, "300ms"))
        client = connect(_address(running))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_until(lambda got: got.endswith(b"half"))
        began = time.monotonic()
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
        assert 0.3 <= time.monotonic() - began < 5
        client.read_until(lambda _: False)
        assert bytes(client.received).endswith(b"half")


@contextlib.contextmanager
def _websockets(talk: Callable[[ServerConnection], None]) -> Iterator[str]:
    with serve(talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host, port = server.socket.getsockname()
        yield f"{host}:{port}"
        server.shutdown()
        thread.join(5)


def _last_word(client: ClientConnection) -> ConnectionClosed:
    while True:
        try:
            assert set(client.recv(timeout=10)) == {"x"}
        except ConnectionClosed as closed:
            return closed


@pytest.mark.safety(159)
@pytest.mark.parametrize("busy", [False, True])
def test_websockets_are_told_to_go_away(busy: bool, start: Callable[..., Running]) -> None:
    def talk(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            connection.send("hello")
            while busy:  # frames without a pause: the close must find its place between two of them
                connection.send("x" * 100_000)
            connection.recv()

    with _websockets(talk) as address:
        running = start(EXAMPLE.format(address, "300ms"))
        with contextlib.ExitStack() as stack:
            url = f"ws://{running.address()}/"
            clients = [stack.enter_context(connect_websocket(url, max_size=None)) for _ in range(5)]
            for client in clients:
                assert client.recv(timeout=5) == "hello"
            running.signal(signal.SIGTERM)
            for client in clients:
                closed = _last_word(client)
                assert closed.rcvd is not None, "cut without a word"
                assert closed.rcvd.code == 1001
        assert running.ends() == 0
