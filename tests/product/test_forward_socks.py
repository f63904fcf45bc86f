"""SOCKS at a forward proxy: the same port, the same rules, told apart by the first byte."""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from tests.product.forwarding import config
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GREETING = b"\x05\x01\x00"
GRANTED = b"\x05\x00\x00\x01" + bytes(6)


@pytest.fixture
def proxy() -> Iterator[penstock.Proxy]:
    """One whose clients may reach this machine."""
    with penstock.Proxy(config(connect_ports=["1024-65535"])) as running:
        yield running


def place(origin: Origin) -> tuple[str, int]:
    """Where it listens."""
    host, _, port = origin.address.rpartition(":")
    return host, int(port)


def named(name: bytes, port: int, command: int = 1) -> bytes:
    """A request of version 5 for a name."""
    return b"\x05" + bytes([command]) + b"\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", port)


def said(client: Connection, length: int) -> bytes:
    """What comes, of this length."""
    client.read_until(lambda got: len(got) >= length)
    got = bytes(client.received[:length])
    del client.received[:length]
    return got


def goes_both_ways(client: Connection, behind: Connection) -> None:
    """Bytes go through."""
    client.send(b"ping")
    behind.read_until(lambda got: got == b"ping")
    behind.send(b"pong")
    client.read_until(lambda got: got == b"pong")


@pytest.mark.parametrize("pieces", [1, 1000])
def test_version_5_by_name_and_by_address(proxy: penstock.Proxy, scripted: Origin, pieces: int) -> None:
    host, port = place(scripted)
    by_address = b"\x05\x01\x00\x01" + socket.inet_aton(host) + struct.pack(">H", port)
    mapped = b"\x05\x01\x00\x04" + socket.inet_pton(socket.AF_INET6, f"::ffff:{host}") + struct.pack(">H", port)
    for number, request in enumerate((named(b"localhost", port), by_address, mapped), 1):
        client = connect(proxy.address("out"))
        for block in (GREETING, request):
            client.send(*(block[at : at + pieces] for at in range(0, len(block), pieces)))
            if block is GREETING:
                assert said(client, 2) == b"\x05\x00"
        assert said(client, 10) == GRANTED
        goes_both_ways(client, scripted.connection(number))


def test_all_can_be_said_at_once(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    client.send(GREETING + named(b"localhost", place(scripted)[1]) + b"early")
    scripted.connection(1).read_until(lambda got: got == b"early")
    assert said(client, 12) == b"\x05\x00" + GRANTED


@pytest.mark.parametrize("name", [None, b"localhost"])
def test_version_4_and_4a(proxy: penstock.Proxy, scripted: Origin, name: bytes | None) -> None:
    host, port = place(scripted)
    address = socket.inet_aton(host) if name is None else b"\0\0\0\x07"
    client = connect(proxy.address("out"))
    client.send(b"\x04\x01" + struct.pack(">H", port) + address + b"me\0" + (b"" if name is None else name + b"\0"))
    assert said(client, 8) == b"\x00\x5a" + bytes(6)
    goes_both_ways(client, scripted.connection(1))


@pytest.mark.safety(147, 148, 151)
@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (named(b"localhost", 443), b"\x02"),
        (named(b"127.1", 443), b"\x02"),
        (named(b"192.0.2.1", 25), b"\x02"),
        (b"\x05\x01\x00\x04" + bytes(15) + b"\x01\x01\xbb", b"\x02"),
        (b"\x05\x01\x00\x01\xa9\xfe\xa9\xfe\x01\xbb", b"\x02"),
        (named(b"no-such-name.invalid", 443), b"\x04"),
        (named(b"a", 443, command=2), b"\x07"),
        (named(b"a", 443, command=4), b"\x07"),
        (b"\x05\x01\x00\x05", b"\x08"),
        (named(b"a\0b", 443), b"\x01"),
        (named(b"a b", 443), b"\x01"),
        (named(b"", 443), b"\x01"),
        (named(b"a", 0), b"\x01"),
        (named(b"1.2.3.256", 443), b"\x01"),
    ],
)
def test_what_is_refused_is_told(request_: bytes, answer: bytes) -> None:
    with penstock.Proxy(config(allow_private=False)) as proxy:
        client = connect(proxy.address("out"))
        client.send(GREETING)
        assert said(client, 2) == b"\x05\x00"
        client.send(request_)
        client.read_until(lambda _: False)
        assert client.received[:2] == b"\x05" + answer
        assert len(client.received) == 10


def test_version_4_is_refused_in_its_own_words() -> None:
    with penstock.Proxy(config(allow_private=False)) as proxy:
        client = connect(proxy.address("out"))
        client.send(b"\x04\x01\x01\xbb\x7f\0\0\x01\0")
        client.read_until(lambda _: False)
        assert bytes(client.received) == b"\x00\x5b" + bytes(6)


def test_who_offers_nothing_that_is_known_is_told(proxy: penstock.Proxy) -> None:
    client = connect(proxy.address("out"))
    client.send(b"\x05\x01\x01")
    client.read_until(lambda _: False)
    assert bytes(client.received) == b"\x05\xff"
    wait_for(lambda: proxy.stats().rejected["bad_socks"] == 1, "it is counted")


@pytest.mark.parametrize("said_", [b"\x05", b"\x05\xff\x00", b"\x04\x01\x01", b"\x05\x01\x00\x05\x01\x00\x03\xff"])
def test_half_of_a_greeting_is_not_waited_for_long(said_: bytes) -> None:
    with penstock.Proxy(config(timeouts={"head": "300ms"})) as proxy:
        client = connect(proxy.address("out"))
        client.send(said_)
        client.read_until(lambda _: False)
        wait_for(lambda: proxy.stats().rejected["head_timeout"] == 1, "it is counted")
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "it is closed")


@pytest.mark.parametrize("said_", [b"\x05\x00", b"\x04\x01\x01\xbb\x01\x01\x01\x01" + b"u" * 300, b"\x06\x01\x00"])
def test_absurd_ones_end_at_once(proxy: penstock.Proxy, said_: bytes) -> None:
    client = connect(proxy.address("out"))
    client.send(said_)
    client.read_until(lambda _: False)
    wait_for(lambda: sum(proxy.stats().rejected.values()) == 1, "it is counted")


def test_rules_and_the_log_know_of_it(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    rules = [{"name": "never", "match": 'dest.host == "never.example"', "deny": 451}]
    settings = config(rules=rules, connect_ports=["1-65535"]) | {"log": {"access": {"to": str(log)}}}
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        client.send(GREETING + named(b"never.example", 443))
        client.read_until(lambda _: False)
        assert bytes(client.received[2:4]) == b"\x05\x02"
        client = connect(proxy.address("out"))
        client.send(GREETING + named(b"localhost", place(scripted)[1]))
        assert said(client, 12) == b"\x05\x00" + GRANTED
        client.close()
        scripted.connection(1).read_until(lambda _: False)
        scripted.connection(1).close()
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "both are in the log")
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["rule"], first["status"], first["host"]) == ("never", 451, "never.example")
    assert (second["method"], second["status"], second["endpoint"]) == (
        "CONNECT",
        200,
        f"localhost:{place(scripted)[1]}",
    )


def test_who_asks_when_memory_is_short_is_told_so(scripted: Origin) -> None:
    settings = config(connect_ports=["1024-65535"])
    with penstock.Proxy(settings) as proxy:
        # While nothing is under way, nothing is refused: a tunnel is.
        tunnel, client = connect(proxy.address("out")), connect(proxy.address("out"))
        for one in (tunnel, client):
            one.send(GREETING)
            assert said(one, 2) == b"\x05\x00"
        tunnel.send(named(b"127.0.0.1", place(scripted)[1]))
        assert said(tunnel, 10)[1] == 0
        # Less than any process has.
        settings["engine"]["memory"] = "1MB"
        proxy.apply(settings)
        wait_for(lambda: proxy.stats().memory.pressure == 2, "it is noticed")
        client.send(named(b"127.0.0.1", place(scripted)[1]))
        assert said(client, 10)[1] == 1, "a general failure"
    assert len(scripted.accept_all()) == 1


def test_tunnels_are_captured(scripted: Origin) -> None:
    with penstock.Proxy(config(connect_ports=["1024-65535"], capture={})) as proxy:
        assert ask_v5(proxy, scripted)[1] == 0
        scripted.connection(1).close()
        wait_for(lambda: (found := proxy.stats().listeners[0].capture) is not None and found.entries == 1, "it is kept")


def ask_v5(proxy: penstock.Proxy, origin: Origin) -> bytes:
    """The answer to a client of version 5 that goes away with it."""
    client = connect(proxy.address("out"))
    try:
        client.send(GREETING)
        assert said(client, 2) == b"\x05\x00"
        client.send(named(b"127.0.0.1", place(origin)[1]))
        return said(client, 10)
    finally:
        client.close()
