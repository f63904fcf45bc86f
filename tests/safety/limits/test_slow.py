"""Clients that are slow on purpose: heads, bodies and reading drop by drop (safety.md 112, 113)."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.product.waiting import wait_for
from tests.safety.limits.process import ask, status
from tests.wire.peers import DEADLINE, Connection, Origin, connect

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 1000
HEAD = b"GET /slow HTTP/1.1\r\nHost: a\r\nX-Filler: "
LARGE = 10 << 20


def config(origin: Origin | None = None, **listener: Any) -> dict[str, Any]:
    """A listener with these settings before an answer of its own and, if there is one, an endpoint."""
    own = {"match": 'path == "/here"', "respond": {"body": "here"}}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", **listener}},
        "upstreams": {"app": {"endpoints": [origin.address]}} if origin else {},
        "routes": [own, {"upstream": "app"}] if origin else [own],
        "engine": {"workers": 2, "drain_timeout": "0s"},
    }


def trickle(clients: list[Connection], pieces: Callable[[Connection], bytes], seconds: float) -> float:
    """Let each client send `pieces` ten times a second until all are ended; how long that took."""
    began = time.monotonic()
    due = began
    with selectors.DefaultSelector() as left:
        for client in clients:
            left.register(client.sock, selectors.EVENT_READ, client)
        while left.get_map():
            assert time.monotonic() - began < seconds, f"{len(left.get_map())} of {len(clients)} are still open"
            for key, _ in left.select(max(0.0, due - time.monotonic())):
                key.data.read_some()
                if key.data.ended:
                    left.unregister(key.fileobj)
            if time.monotonic() >= due:
                due += 0.1
                for key in left.get_map().values():
                    with contextlib.suppress(OSError):
                        key.data.sock.send(pieces(key.data))
    return time.monotonic() - began


def asked(client: Connection) -> float:
    """Seconds that a question takes."""
    began = time.monotonic()
    assert ask(client, "/here") == 200
    return time.monotonic() - began


def closed(client: Connection, patience: float) -> bool:
    """Whether the other side ends a connection within so many seconds."""
    with selectors.DefaultSelector() as ready:
        ready.register(client.sock, selectors.EVENT_READ)
        if ready.select(patience):
            client.read_some()
    return client.ended


def rejected(proxy: penstock.Proxy, reason: str) -> int:
    """How many were refused for this."""
    return proxy.stats().rejected[reason]


@pytest.mark.safety(112)
def test_a_thousand_heads_that_trickle_end_at_the_deadline_and_nobody_else_notices() -> None:
    with penstock.Proxy(config(timeouts={"head": "1s"})) as proxy:
        address = proxy.address("web")
        sentinel = connect(address)
        usual = max(asked(sentinel) for _ in range(200))
        slow = [connect(address) for _ in range(MANY)]
        for client in slow:
            client.send(HEAD)
        worst = 0.0

        def one_byte(_: Connection) -> bytes:
            return b"x"

        began = time.monotonic()
        while time.monotonic() - began < 0.7:
            worst = max(worst, asked(sentinel))
        assert worst < 0.25 + usual, "as long as it took before, and what a busy machine adds"
        assert all(not client.ended for client in slow)
        trickle(slow, one_byte, 3.0)
        assert time.monotonic() - began < 3.0
        assert {status(client) for client in slow} == {408}
        assert all(b"connection: close" in bytes(client.received).lower() for client in slow)
        assert rejected(proxy, "head_timeout") == len(slow)
        assert ask(sentinel, "/here") == 200
        for client in [sentinel, *slow]:
            client.close()


@pytest.mark.safety(112)
def test_the_deadline_holds_for_every_head_and_for_none() -> None:
    with penstock.Proxy(config(timeouts={"head": "1s"})) as proxy:
        kept, silent = connect(proxy.address("web")), connect(proxy.address("web"))
        assert ask(kept, "/here") == 200
        # The time between two requests is not that of a head; it is counted from the first byte of the next.
        began = time.monotonic()
        silent.read_until(lambda _: False)
        assert silent.ended
        assert silent.received == b""
        assert 0.9 < time.monotonic() - began < 2.0
        kept.received.clear()
        kept.send(HEAD)
        took = trickle([kept], lambda _: b"x", 3.0)
        assert status(kept) == 408
        assert 0.9 < took < 2.0
        for client in (kept, silent):
            client.close()


@pytest.mark.safety(113)
def test_a_body_that_comes_byte_by_byte_is_ended(scripted: Origin) -> None:
    limits, timeouts = {"body_rate": 500}, {"rate": "1s"}
    with penstock.Proxy(config(scripted, limits=limits, timeouts=timeouts)) as proxy:
        slow, brisk = connect(proxy.address("web")), connect(proxy.address("web"))
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
        slow.send(head)
        brisk.send(head)
        sent = 0

        def both(_: Connection) -> bytes:
            nonlocal sent
            sent += 200  # 2000 bytes a second, four times the rate
            brisk.sock.send(b"y" * 200)
            return b"x"

        took = trickle([slow], both, 4.0)
        assert status(slow) == 408
        assert 0.9 < took < 2.5
        assert rejected(proxy, "body_too_slow") == 1
        # What was sent brisk enough goes on.
        brisk.send(b"y" * (1_000_000 - sent))
        brisk.finish_sending()
        assert not brisk.ended
        for client in (slow, brisk):
            client.close()


def download(address: tuple[str, int] | str) -> Connection:
    """A client with small buffers that has asked for much."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    client = Connection(sock)
    client.send(b"GET /much HTTP/1.1\r\nHost: a\r\n\r\n")
    return client


def much(scripted: Origin) -> None:
    """Answer the next request with 10 MB, as fast as they are taken."""
    connection = scripted.read_until(lambda got: got.startswith(b"GET /much") and b"\r\n\r\n" in got)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode()
    connection.send(head + b"z" * LARGE)


@pytest.mark.safety(113)
@pytest.mark.parametrize("step", [1, 0], ids=["a byte at a time", "not at all"])
def test_who_reads_an_answer_so_slowly_is_cut_off(scripted: Origin, step: int) -> None:
    with penstock.Proxy(config(scripted, timeouts={"rate": "1s"})) as proxy:
        client = download(proxy.address("web"))
        much(scripted)
        began = time.monotonic()

        def looked() -> bool:
            if step:
                with contextlib.suppress(OSError):
                    client.sock.recv(step)
            return rejected(proxy, "client_too_slow") == 1

        wait_for(looked, "an end")
        assert time.monotonic() - began < 4.0
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "no connection left")
        # A reset: what the system had buffered is not kept until the client deigns to read it.
        client.read_until(lambda _: False)
        assert client.was_reset
        client.close()


@pytest.mark.safety(113)
def test_a_slow_endpoint_and_a_client_that_reads_are_not_blamed(scripted: Origin) -> None:
    # A connection that rests is closed after more than twice the patience for slow ones: it tells when they had it.
    with penstock.Proxy(config(scripted, timeouts={"rate": "1s", "idle": "2500ms"})) as proxy:
        client, clock = connect(proxy.address("web")), connect(proxy.address("web"))
        assert ask(clock, "/here") == 200
        client.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        endpoint = scripted.read_until(lambda got: got.startswith(b"GET /events") and b"\r\n\r\n" in got)
        endpoint.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        events = 0
        while not closed(clock, 0.2):
            events += 1
            endpoint.send(b"data: 1\n\n")
            client.read_until(lambda got: got.count(b"data: 1") >= events)  # noqa: B023 - called at once
        assert not client.ended
        assert events > 2
        client.close()

        # Faster than the rate, and slower than the endpoint: the proxy waits for it nearly all the time.
        steady, clock = download(proxy.address("web")), connect(proxy.address("web"))
        assert ask(clock, "/here") == 200
        much(scripted)
        while not closed(clock, 0.05):
            steady.sock.recv(16_384)
        assert not rejected(proxy, "client_too_slow")
        steady.close()
