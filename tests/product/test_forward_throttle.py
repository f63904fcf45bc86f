"""Throttled requests and tunnels of a forward proxy: no faster than their rule says, and nobody else slower."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.product.forwarding import config, whole
from tests.wire.peers import Connection, Origin, connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 256 << 10
AMOUNT = 192 << 10
"""Takes three quarters of a second, less what comes at once."""
LEAST = 0.4


@pytest.fixture
def proxy() -> Iterator[penstock.Proxy]:
    """Throttles what goes to /slow, and every tunnel."""
    rules = [{"match": 'path == "/slow" or method == "CONNECT"', "throttle": "256KB/s"}]
    with penstock.Proxy(config(connect_ports=["1-65535"], rules=rules)) as running:
        yield running


def took(wait: Connection) -> float:
    """Seconds until all of it is there, behind a head or without one."""
    began = time.monotonic()
    wait.read_until(lambda got: got.endswith(b"x" * AMOUNT), deadline=20)
    return time.monotonic() - began


def test_an_answer_is_no_faster(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    for path in ("/slow", "/fast", "/slow"):
        client.received.clear()
        client.send(f"GET http://{scripted.address}{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        origin = scripted.connection(1)
        origin.read_until(lambda got: b"\r\n\r\n" in got)
        origin.received.clear()
        origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (AMOUNT, b"x" * AMOUNT))
        seconds = took(client)
        assert (seconds >= LEAST) == (path == "/slow"), (path, seconds)


def test_an_upload_is_no_faster_and_is_not_called_slow(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    head = f"POST http://{scripted.address}/slow HTTP/1.1\r\nHost: a\r\nContent-Length: {AMOUNT}\r\n\r\n"
    client.send(head.encode() + b"x" * AMOUNT)
    origin = scripted.connection(1)
    assert took(origin) >= LEAST
    origin.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    client.read_until(whole)
    assert client.received.endswith(b"ok")


def test_a_tunnel_is_no_faster_either_way(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    client.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    behind = scripted.connection(1)
    for source, sink in ((client, behind), (behind, client)):
        sink.received.clear()
        source.send(b"x" * AMOUNT)
        assert took(sink) >= LEAST
    # A word passes at once.
    client.send(b"ping")
    behind.received.clear()
    behind.read_until(lambda got: got == b"ping")


def test_it_is_explained(proxy: penstock.Proxy) -> None:
    found = proxy.explain("GET", "http://a.example/slow", listener="out")
    assert (found.action, found.throttle) == ("forward", RATE)
