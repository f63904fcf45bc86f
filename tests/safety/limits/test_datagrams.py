"""Sessions of datagrams in numbers: a flood of senders that nobody is, and what is left for those who are there."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.product.datagrams import Client, Endpoint
from tests.product.waiting import wait_for
from tests.safety.limits.process import Process

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[listeners.dns]
bind = "127.0.0.1:0"
protocol = "udp"
upstream = "main"
limits = {{ sessions = {sessions} }}
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.main]
endpoints = ["{address}"]
[[routes]]
respond = {{ body = "here" }}
[engine]
workers = 1
[admin]
bind = "127.0.0.1:0"
"""
SOURCES = 1_000_000
"""Of the catalogue; a tenth of them where all tests run."""
SESSIONS = 5_000
MEMORY = 24 << 20
"""Bytes that the flood may cost the process: a table that is full, and room for one turn's datagrams."""


def _flood(to: tuple[str, int], known: list[Client], sources: int) -> int:
    """A datagram from each of `sources` addresses and ports that nobody has, and between them questions of others."""
    dice = random.Random(7)
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW))
        except PermissionError:
            raw = None
        # Without the right to make addresses up, they are those of sockets, which takes longer.
        sources = sources if raw else sources // 20
        for made in range(sources):
            source, port = 0x7F000002 + dice.randrange(1 << 20), 1024 + dice.randrange(60_000)
            if raw:
                raw.sendto(_datagram(source, port, to), to)
            else:
                with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
                    sock.bind((socket.inet_ntoa(struct.pack("!I", source)), port))
                    sock.sendto(b"?", to)
            if made % 100 == 0:
                client = known[made // 100 % len(known)]
                # Where senders are faster than the system, theirs may be lost, too, and they ask again.
                assert any(client.is_answered(b"still here", 5) for _ in range(4)), made
    return sources


def _datagram(source: int, port: int, to: tuple[str, int]) -> bytes:
    """A whole packet; the system fills in the checksum of its head, and that of UDP may be missing (RFC 768)."""
    head = struct.pack("!BBHHHBBHI4s", 0x45, 0, 29, 0, 0, 64, 17, 0, source, socket.inet_aton(to[0]))
    return head + struct.pack("!4H", port, to[1], 9, 0) + b"?"


@pytest.mark.safety(111)
def test_a_million_senders_that_nobody_is_leave_the_others_alone(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with Endpoint(answer=lambda said: [] if said == b"?" else [said]) as endpoint:
        config = CONFIG.format(address=endpoint.address, sessions=SESSIONS)
        endpoint.keeps = False
        with Process(config, tmp_path) as penstock:
            known = [Client(penstock.address("dns")) for _ in range(50)]
            for client in known * 2:
                assert client.ask(b"hello") == b"hello"
            before = penstock.metrics()
            sources = _flood(
                penstock.address("dns"), known, SOURCES if request.config.getoption("--safety") else SOURCES // 10
            )
            after = penstock.metrics()
            open_now = after['penstock_listener_connections{listener="dns"}']
            taken = after['penstock_listener_accepted_total{listener="dns"}']
            # The one that is being taken in is counted before another makes room for it.
            assert open_now <= SESSIONS + 1
            assert taken >= sources / 2, "what the system let through was taken in"
            assert after['penstock_sessions_total{listener="dns",ended="evicted"}'] >= taken - SESSIONS - 100
            assert after["penstock_resident_memory_bytes"] - before["penstock_resident_memory_bytes"] <= MEMORY
            with closing(socket.create_connection(penstock.address("web"), 10)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert sock.makefile("rb").read().endswith(b"here")


@pytest.mark.safety(115)
def test_without_descriptors_sessions_give_way_and_connections_do_not(tmp_path: Path) -> None:
    with Endpoint() as endpoint:
        config = CONFIG.format(address=endpoint.address, sessions=100_000)
        with Process(config, tmp_path, descriptors=256) as penstock:
            kept = socket.create_connection(penstock.address("web"), 10)
            kept.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.recv(1 << 16).endswith(b"here")
            known = Client(penstock.address("dns"))
            assert [known.ask(b"x"), known.ask(b"y")] == [b"x", b"y"]
            for _ in range(1000):
                with closing(Client(penstock.address("dns"))) as client:
                    assert client.ask(b"new") == b"new"
            assert known.ask(b"z") == b"z"
            kept.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert kept.recv(1 << 16).endswith(b"here")
            kept.close()
            wait_for(
                lambda: penstock.metrics()['penstock_sessions_total{listener="dns",ended="evicted"}'] > 800, "they left"
            )
            assert penstock.metrics()["penstock_open_fds"] < 256
