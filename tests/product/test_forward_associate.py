"""Datagrams through a forward proxy (SOCKS 5, UDP ASSOCIATE): whose they are, where they may go, and when that ends."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.product.forwarding import ask, config, status
from tests.product.test_forward_socks import GREETING, said
from tests.product.users import named
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import Connection, Origin, connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Place = tuple[str, int]
ANYWHERE = b"\x01" + bytes(6)
OWN = "127.0.0.7"
"""The client's address."""


def settings(**listener: Any) -> dict[str, Any]:
    """A forward proxy whose clients may send everywhere."""
    return config(**{"connect_ports": ["1-65535"], **listener})


def associated(proxy: penstock.Proxy, greeting: bytes = GREETING, login: bytes = b"") -> tuple[Connection, Place]:
    """An association: the connection that it lasts as long as, and where its datagrams are awaited."""
    client = connect(proxy.address("out"), OWN)
    client.send(greeting)
    assert said(client, 2) == b"\x05" + greeting[-1:]
    if login:
        client.send(login)
        assert said(client, 2) == b"\x01\x00"
    client.send(b"\x05\x03\x00" + ANYWHERE)
    got = said(client, 10)
    assert got[:4] == b"\x05\x00\x00\x01"
    return client, (socket.inet_ntoa(got[4:8]), *struct.unpack(">H", got[8:]))


def to(host: str, port: int) -> bytes:
    """How a destination is said: by address where it is one."""
    try:
        return b"\x01" + socket.inet_aton(host) + struct.pack(">H", port)
    except OSError:
        return b"\x03" + bytes([len(host)]) + host.encode() + struct.pack(">H", port)


@contextmanager
def bound(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A socket for datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(5)
        yield sock


def arrives(sender: socket.socket, relay: Place, datagram: bytes, server: socket.socket, payload: bytes) -> Place:
    """Whence what the client sends comes to a server: first of all that is there."""
    sender.sendto(datagram, relay)
    got, peer = server.recvfrom(65_536)
    assert got == payload
    return (peer[0], peer[1])


def dropped(proxy: penstock.Proxy, count: int) -> None:
    """So many datagrams went nowhere."""
    wait_for(lambda: proxy.stats().listeners[0].datagrams_dropped == count, f"{count} are dropped")


def test_whoever_says_all_at_once_is_served() -> None:
    # What is there when the connection is accepted is read before the event loop knows it.
    with penstock.Proxy(settings()) as proxy:
        for _ in range(30):
            client = connect(proxy.address("out"), OWN)
            client.send(GREETING + b"\x05\x03\x00" + ANYWHERE)
            assert said(client, 2) == b"\x05\x00"
            assert said(client, 10)[:4] == b"\x05\x00\x00\x01"
            client.close()


def test_a_name_is_asked_for_and_the_name_server_is_asked_through_it(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with NameServer("127.0.0.1") as names, bound() as server, bound(OWN) as client:
        made = settings() | {"dns": {"servers": [names.address]}, "log": {"access": {"to": str(log)}}}
        question = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x01a\x07example\0\0\x01\0\x01"
        with penstock.Proxy(made) as proxy:
            connection, relay = associated(proxy)
            assert relay[0] == "127.0.0.1"
            host, port = names.address.split(":")
            client.sendto(b"\0\0\0" + to(host, int(port)) + question, relay)
            answer, peer = client.recvfrom(65_536)
            assert (peer, answer[:10], answer[10:12]) == (relay, b"\0\0\0" + to(host, int(port)), b"\x12\x34")
            assert answer.endswith(socket.inet_aton("127.0.0.1"))
            # By name, which the proxy asks for: several wait for one answer, and the client hears of the address.
            here = server.getsockname()[1]
            outward = arrives(client, relay, b"\0\0\0" + to("shop.example", here) + b"ping", server, b"ping")
            assert outward[0] == "127.0.0.1"
            server.sendto(b"pong", outward)
            assert client.recvfrom(65_536) == (b"\0\0\0" + to("127.0.0.1", here) + b"pong", relay)
            # The largest that there is, and the smallest.
            for payload in (b"x" * 60_000, b""):
                arrives(client, relay, b"\0\0\0" + to("127.0.0.1", here) + payload, server, payload)
            assert (names.asked, proxy.stats().listeners[0].datagrams_dropped) == (2, 0)
            connection.close()
            wait_for(lambda: log.exists() and log.read_text(), "the session is recorded")
            listener = proxy.stats().listeners[0]
        assert (listener.datagrams_in, listener.datagrams_out, listener.bytes_in) == (4, 2, len(question) + 60_004)
        assert {word: count for word, count in listener.sessions.items() if count} == {"client_closed": 1}
    row = json.loads(log.read_text())
    assert [row[key] for key in ("client", "protocol", "upstream", "datagrams_in", "datagrams_out", "ended")] == [
        OWN, "udp", "_origins", 4, 2, "client_closed",
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_rules_can_tell_datagrams_from_tunnels(protocol: str) -> None:
    rules = [
        {"name": "tunnels", "match": f'dest.protocol == "{protocol}" and method == "CONNECT"', "allow": True},
        {"name": "requests", "match": 'dest.protocol == "tcp" and method == "GET"', "deny": 451},
        {"name": "others", "deny": 403},
    ]
    with (
        penstock.Proxy(settings(rules=rules)) as proxy,
        bound() as server,
        bound(OWN) as client,
        closing(Origin()) as origin,
    ):
        _, relay = associated(proxy)
        datagram = b"\0\0\0" + to("127.0.0.1", server.getsockname()[1]) + b"ping"
        if protocol == "udp":
            arrives(client, relay, datagram, server, b"ping")
        else:
            client.sendto(datagram, relay)
            dropped(proxy, 1)
        assert status(ask(proxy, f"CONNECT {origin.address}")) == (403 if protocol == "udp" else 200)
        assert status(ask(proxy, f"GET http://{origin.address}/")) == 451
        assert proxy.stats().listeners[0].rules == {"tunnels": 1, "requests": 1, "others": 1}


def test_what_is_no_datagram_of_this_client_goes_nowhere() -> None:
    with penstock.Proxy(settings()) as proxy, bound() as server, bound(OWN) as client, bound(OWN) as other:
        _, relay = associated(proxy)
        place = to("127.0.0.1", server.getsockname()[1])
        wrong = [
            b"",
            b"\0\0",
            b"\0\0\0",
            b"\0\0\x01" + place + b"fragment",
            b"\0\x01\0" + place + b"reserved",
            b"\0\0\0\x05" + place[1:] + b"kind",
            b"\0\0\0" + place[:6],
            b"\0\0\0\x03\xff" + place[1:],
            b"\0\0\0\x03\x00\x00\x35name",
            b"\0\0\0\x03\x03a\0b\x00\x35name",
            b"\0\0\0" + to("127.0.0.1", 0) + b"port",
            b"\0\0\0" + to("0.0.0.0", 53) + b"unspecified",
            b"\0\0\0" + to("224.0.0.1", 53) + b"multicast",
        ]
        for datagram in wrong:
            client.sendto(datagram, relay)
        dropped(proxy, len(wrong))
        outward = arrives(client, relay, b"\0\0\0" + place + b"right", server, b"right")
        # Somebody else's: another port, another address, and a server that nobody has asked.
        other.sendto(b"\0\0\0" + place + b"other port", relay)
        with bound("127.0.0.8") as stranger, bound() as unasked:
            stranger.sendto(b"\0\0\0" + place + b"other address", relay)
            unasked.sendto(b"unasked", outward)
            dropped(proxy, len(wrong) + 3)
        server.sendto(b"asked", outward)
        assert client.recvfrom(100)[0] == b"\0\0\0" + place + b"asked"
        arrives(client, relay, b"\0\0\0" + place + b"still", server, b"still")


@pytest.mark.parametrize(
    ("listener", "cause"),
    [
        ({"allow_private": False}, "address_forbidden"),
        ({"connect_ports": [443]}, "port_forbidden"),
        ({"rules": [{"match": 'dest.ip in ["127.0.0.0/8"]', "deny": 403}]}, "rule_denied"),
        ({"rules": [{"match": 'method == "CONNECT"', "deny": "close"}]}, "rule_denied"),
    ],
)
def test_where_tunnels_may_not_go_datagrams_do_not(listener: dict[str, Any], cause: str) -> None:
    with penstock.Proxy(settings(**listener)) as proxy, bound() as server, bound(OWN) as client:
        connection, relay = associated(proxy)
        for _ in range(3):
            client.sendto(b"\0\0\0" + to("127.0.0.1", server.getsockname()[1]) + b"no", relay)
        dropped(proxy, 3)
        # Decided once.
        assert proxy.stats().rejected[cause] == 1
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(1)
        connection.close()


def test_users_are_those_of_the_connection(tmp_path: Path) -> None:
    rules = [{"match": 'user == "ada"', "allow": True}, {"deny": 403}]
    made = named(tmp_path, rules=rules, connect_ports=["1-65535"])
    log = tmp_path / "access.log"
    made["log"] = {"access": {"to": str(log)}}
    with penstock.Proxy(made) as proxy, bound() as server:
        place = to("127.0.0.1", server.getsockname()[1])
        for user, count in ((b"bob", 1), (b"ada", 1)):
            login = b"\x01\x03" + user + b"\x08password"
            connection, relay = associated(proxy, b"\x05\x01\x02", login)
            with bound(OWN) as client:
                if user == b"ada":
                    arrives(client, relay, b"\0\0\0" + place + user, server, user)
                else:
                    client.sendto(b"\0\0\0" + place + user, relay)
                    dropped(proxy, count)
            connection.close()
        wait_for(lambda: len(log.read_text().splitlines()) == 2, "both are recorded")
    assert [json.loads(line)["user"] for line in log.read_text().splitlines()] == ["bob", "ada"]


def test_destinations_are_few() -> None:
    with penstock.Proxy(settings()) as proxy, bound() as server, bound(OWN) as client:
        _, relay = associated(proxy)
        here = server.getsockname()[1]
        for host in range(1, 66):
            client.sendto(b"\0\0\0" + to(f"127.0.1.{host}", here) + b"no one", relay)
        dropped(proxy, 1)
        assert proxy.stats().listeners[0].datagrams_in == 64


def test_it_ends_with_its_listener() -> None:
    before = settings()
    with penstock.Proxy(before) as proxy, bound() as server, bound(OWN) as client:
        connection, relay = associated(proxy)
        place = to("127.0.0.1", server.getsockname()[1])
        arrives(client, relay, b"\0\0\0" + place + b"one", server, b"one")
        # What is said on the connection means nothing.
        connection.send(b"hello" * 1000)
        proxy.apply(before | {"listeners": {"out": {**before["listeners"]["out"], "via": False}}})
        arrives(client, relay, b"\0\0\0" + place + b"two", server, b"two")
        proxy.apply(before | {"listeners": {"more": before["listeners"]["out"]}})
        connection.read_until(lambda _: False)
        assert connection.ended
