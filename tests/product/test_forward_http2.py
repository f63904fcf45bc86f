"""HTTP/2 to a forward proxy, with TLS: tunnels on streams (RFC 9113 §8.5), requests whose authority says where to."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import context, write
from tests.http2 import Client, Fields, data, reset, room
from tests.product.forwarding import answered, config, fields
from tests.product.users import basic, users
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, TimedOutError

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANY = ["1024-65535"]
PROTOCOL_ERROR, CONNECT_ERROR = 1, 10


@contextmanager
def secured(folder: Path, **listener: Any) -> Iterator[penstock.Proxy]:
    """One that speaks TLS, in either version."""
    tls = {"certificates": [write(folder / "keys", "proxy", "shop.example")]}
    settings = config(**{"connect_ports": ANY, "tls": tls, **listener})
    with penstock.Proxy(settings | {"log": {"access": {"to": str(folder / "access.log"), "format": "json"}}}) as proxy:
        yield proxy


def client(proxy: penstock.Proxy, window: int = 1 << 24) -> Client:
    """A connection of HTTP/2 to it, which takes a lot at once."""
    trust = context()
    trust.set_alpn_protocols(["h2"])
    made = Client(proxy.address("out"), trust=trust, window=window)
    made.send(room(0, 1 << 24))
    return made


def get(place: str, path: str = "/", scheme: str = "http") -> Fields:
    """What asks for a resource there."""
    return ((":method", "GET"), (":scheme", scheme), (":authority", place), (":path", path))


def connect(place: str) -> Fields:
    """What asks for a tunnel to there."""
    return ((":method", "CONNECT"), (":authority", place))


def tunnel(peer: Client, stream: int, origin: Origin | str) -> dict[str, str]:
    """Open one; the head of the answer."""
    peer.send(peer.headers(stream, connect(origin if isinstance(origin, str) else origin.address), ends=False))
    seen = peer.streams[stream]
    peer.read_until(lambda: seen.heads or seen.over)
    return seen.heads[0]


def pour(peer: Client, stream: int) -> None:
    """Send for as long as the window of a stream opens."""
    sent, piece = 0, 16_000
    while sent < 64 << 20:
        for _ in range((peer.window + peer.credit[stream] - sent) // piece):
            peer.send(data(stream, b"x" * piece, ends=False))
            sent += piece
        peer.read_until(lambda wanted=sent + piece: peer.window + peer.credit[stream] >= wanted, 1)


def records(folder: Path, count: int) -> list[dict[str, Any]]:
    """That many lines of the access log."""
    path = folder / "access.log"
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= count, f"{count} records")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_request_goes_to_the_server_that_it_names(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path) as proxy, client(proxy) as peer:
        for stream in (1, 3):
            peer.send(peer.headers(stream, (*get(scripted.address, "//a/./b?x=%7e"), ("x-forwarded-for", "6.6.6.6"))))
            head = answered(scripted)
            assert head.startswith(f"GET //a/./b?x=%7e HTTP/1.1\r\nhost: {scripted.address}\r\n".encode())
            assert set(fields(head)) == {"host", "via"}
            assert fields(head)["via"].startswith("2.0 penstock-")
            assert (peer.outcome(stream).status, peer.streams[stream].body) == (200, b"hi")
        assert len(scripted.accept_all()) == 1
        for row in records(tmp_path, 2):
            assert (row["target"], row["version"]) == (f"http://{scripted.address}//a/./b?x=%7e", "2.0")


def test_a_body_goes_with_it(tmp_path: Path, scripted: Origin) -> None:
    post = ((":method", "POST"), *get(scripted.address)[1:])
    with secured(tmp_path) as proxy, client(proxy) as peer:
        peer.send(peer.headers(1, post, ends=False), data(1, b"abc"))
        connection = scripted.connection(1)
        connection.read_until(lambda got: got.endswith(b"0\r\n\r\n"))
        assert b"\r\n3\r\nabc\r\n" in connection.received
        connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert peer.outcome(1).status == 204


def test_a_tunnel_passes_bytes_both_ways(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path) as proxy, client(proxy) as peer:
        # What is sent ahead of the answer is for the other end, too.
        peer.send(peer.headers(1, connect(scripted.address), ends=False), data(1, b"\x16early", ends=False))
        behind = scripted.connection(1)
        behind.read_until(lambda got: got == b"\x16early")
        large = bytes(range(256)) * 8192
        behind.send(large)
        seen = peer.streams[1]
        peer.read_until(lambda: len(seen.body) == len(large))
        assert (seen.heads, seen.body) == ([{":status": "200"}], large)
        # An end is passed on in its own direction only.
        peer.send(data(1, b"", ends=True))
        behind.read_until(lambda _: False)
        assert not behind.was_reset
        behind.send(b"last words")
        behind.half_close()
        assert peer.outcome(1).body.endswith(b"last words")
        assert (seen.ended, seen.reset) == (True, None)
        row = records(tmp_path, 1)[0]
        assert (row["method"], row["target"], row["status"], row["version"]) == (
            "CONNECT",
            scripted.address,
            200,
            "2.0",
        )
        assert row["bytes_out"] >= len(large)


def test_one_that_ends_with_its_head_is_half_open(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path) as proxy, client(proxy) as peer:
        peer.send(peer.headers(1, connect(scripted.address)))
        behind = scripted.connection(1)
        behind.read_until(lambda _: False)
        behind.send(b"hello")
        behind.close()
        assert (peer.outcome(1).body, peer.streams[1].ended) == (b"hello", True)


def test_a_break_is_passed_on(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path) as proxy, client(proxy) as peer:
        for stream, sent in ((1, b""), (3, b"x" * 100)):
            tunnel(peer, stream, scripted)
            behind = scripted.connection((stream + 1) // 2)
            if sent:
                peer.send(data(stream, sent, ends=False))
                behind.read_until(bool)
            peer.send(reset(stream))
            behind.read_until(lambda _: False)
            assert behind.was_reset
        tunnel(peer, 5, scripted)
        scripted.connection(3).reset()
        assert peer.outcome(5).reset == CONNECT_ERROR
        # One that has said its end can still be broken.
        tunnel(peer, 7, scripted)
        peer.send(data(7, b"", ends=True))
        scripted.connection(4).read_until(lambda _: False)
        peer.send(reset(7))
        wait_for(lambda: proxy.stats().listeners[0].tunnels == 0, "all tunnels have ended")
        # So can one whose other end reads nothing.
        tunnel(peer, 9, scripted)
        for _ in range(10):
            peer.send(data(9, b"x" * 16_000, ends=False))
        peer.send(reset(9))
        wait_for(lambda: proxy.stats().listeners[0].tunnels == 0, "that one, too")


def test_a_connection_that_ends_breaks_its_tunnels(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path) as proxy:
        peer = client(proxy)
        tunnel(peer, 1, scripted)
        peer.close()
        scripted.connection(1).read_until(lambda _: False)
        assert scripted.connection(1).was_reset
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "the connection is gone")


def test_nobody_waits_for_a_tunnel_that_moves_nothing(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path) as proxy, client(proxy, window=1000) as peer:
        tunnel(peer, 1, scripted)
        tunnel(peer, 3, scripted)
        slow, other = scripted.connection(1), scripted.connection(2)
        # The client takes no more than its window of one, and of the other all.
        slow.send(b"s" * 30_000)
        seen = peer.streams[1]
        peer.read_until(lambda: len(seen.body) == 1000)
        other.send(b"hi")
        peer.read_until(lambda: peer.streams[3].body == b"hi")
        assert len(seen.body) == 1000
        peer.send(room(1, 1 << 20))
        peer.read_until(lambda: len(seen.body) == 30_000)
        # What the other end does not take is not taken of the client either: its window stays closed.
        with pytest.raises(TimedOutError):
            pour(peer, 1)
        other.send(b" there")
        peer.read_until(lambda: peer.streams[3].body == b"hi there")


@pytest.mark.parametrize(
    ("asked", "outcome"),
    [
        ((*connect("{}"), (":path", "/")), PROTOCOL_ERROR),
        ((*connect("{}"), (":scheme", "http")), PROTOCOL_ERROR),
        ((*connect("{}"), ("content-length", "5")), PROTOCOL_ERROR),
        (((":method", "CONNECT"),), PROTOCOL_ERROR),
        (((":method", "CONNECT"), ("host", "{}")), PROTOCOL_ERROR),
        (connect("u:p@{}"), PROTOCOL_ERROR),
        ((*connect("{}"), ("host", "other:443")), PROTOCOL_ERROR),
        ((*connect("{}"), (":protocol", "connect-udp")), PROTOCOL_ERROR),
        (connect("127.0.0.1"), 400),
        (connect("127.0.0.1:0"), PROTOCOL_ERROR),
        (connect("127.0.0.1:22"), 403),
        (get("127.0.0.1:22"), 403),
        (get("u@{}"), PROTOCOL_ERROR),
        (get("{}", scheme="ftp"), PROTOCOL_ERROR),
        (get("{}", "no-path"), PROTOCOL_ERROR),
        (((":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "{}")), PROTOCOL_ERROR),
        (((":method", "TRACE"), *get("{}")[1:]), 405),
    ],
    ids=str,
)
def test_what_leads_nowhere_is_refused(tmp_path: Path, scripted: Origin, asked: Fields, outcome: int) -> None:
    with secured(tmp_path) as proxy, client(proxy) as peer:
        said = tuple((name, value.format(scripted.address)) for name, value in asked)
        peer.send(peer.headers(1, said, ends=False))
        seen = peer.outcome(1)
        assert (seen.status if seen.reset != PROTOCOL_ERROR else seen.reset) == outcome, seen
        # The others go on.
        peer.send(peer.headers(3, get(scripted.address)))
        answered(scripted)
        assert peer.outcome(3).body == b"hi"
        assert len(scripted.accept_all()) == 1


def test_addresses_inside_and_our_own_are_not_reached(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path, allow_private=False) as proxy, client(proxy) as peer:
        assert peer.ask(1, get(scripted.address)).status == 403
        assert tunnel(peer, 3, scripted)[":status"] == "403"
        assert peer.ask(5, get("2130706433:8080")).status == 403
    with secured(tmp_path) as proxy, client(proxy) as peer:
        assert tunnel(peer, 1, "127.0.0.1:{}".format(proxy.address("out")[1]))[":status"] == "403"
    assert scripted.accept_all() == []


def test_who_asks_has_to_prove_who_that_is(tmp_path: Path, scripted: Origin) -> None:
    rules = [{"name": "not-bob", "match": 'user == "bob"', "deny": 403}]
    with secured(tmp_path, users=users(tmp_path), rules=rules) as proxy, client(proxy) as peer:
        asked = tunnel(peer, 1, scripted)
        assert (asked[":status"], asked["proxy-authenticate"]) == ("407", 'Basic realm="penstock", charset="UTF-8"')
        name, _, said = basic().partition(": ")
        peer.send(peer.headers(3, (*connect(scripted.address), (name.lower(), said)), ends=False))
        behind = scripted.connection(1)
        behind.send(b"hello")
        peer.read_until(lambda: peer.streams[3].body == b"hello")
        peer.send(data(3, b""))
        behind.close()
        peer.outcome(3)
        said = basic("bob").partition(": ")[2]
        assert peer.ask(5, (*get(scripted.address), (name.lower(), said))).status == 403
        rows = records(tmp_path, 3)
        assert [(row.get("user"), row.get("rule")) for row in rows] == [(None, None), ("ada", None), ("bob", "not-bob")]
    assert "cGFzc3dvcmQ" not in (tmp_path / "access.log").read_text()


def test_a_rule_can_close_without_a_word(tmp_path: Path, scripted: Origin) -> None:
    rules = [{"match": 'method == "CONNECT"', "deny": "close"}]
    with secured(tmp_path, rules=rules) as proxy, client(proxy) as peer:
        peer.send(peer.headers(1, connect(scripted.address), ends=False))
        assert (peer.outcome(1).heads, peer.streams[1].reset is None) == ([], False)
        peer.send(peer.headers(3, get(scripted.address)))
        answered(scripted)
        assert peer.outcome(3).status == 200


def test_tunnels_are_captured(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path, capture={"memory": "1MB"}) as proxy, client(proxy) as peer:
        tunnel(peer, 1, scripted)
        scripted.connection(1).send(b"hello")
        peer.read_until(lambda: peer.streams[1].body == b"hello")
        scripted.connection(1).reset()
        assert peer.outcome(1).reset == CONNECT_ERROR
        wait_for(lambda: entries(proxy) == 1, "it is kept")


def entries(proxy: penstock.Proxy) -> int:
    """Exchanges that the listener keeps."""
    found = proxy.stats().listeners[0].capture
    assert found is not None
    return found.entries


def test_a_listener_may_speak_one_version_alone(tmp_path: Path, scripted: Origin) -> None:
    certificate = write(tmp_path / "keys", "proxy", "shop.example")
    tls = {"certificates": [certificate], "alpn": ["http/1.1"]}
    trust = context()
    trust.set_alpn_protocols(["h2", "http/1.1"])
    with secured(tmp_path, tls=tls) as proxy:
        peer = Client(proxy.address("out"), trust=trust, begin=False)
        assert peer.sock.selected_alpn_protocol() == "http/1.1"  # type: ignore[attr-defined]
        peer.send_raw(f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answered(scripted)
        assert peer.sock.recv(100).startswith(b"HTTP/1.1 200 ")
        peer.close()
