"""What a change must not touch: connections, tunnels, requests under way, counters; and what a refused one must not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, connect, refuses
from tests.wire.tunnels import open_tunnel

import penstock


def _config(origin: Origin, version: str, *, listeners: tuple[str, ...] = ("web",)) -> dict[str, Any]:
    return {
        "listeners": {name: {"bind": "127.0.0.1:0"} for name in listeners},
        "upstreams": {"app": {"endpoints": [origin.address]}},
        "routes": [
            {"name": "version", "match": 'path == "/version"', "respond": {"status": 200, "body": version}},
            {"name": "app", "upstream": "app"},
        ],
        "engine": {"workers": 1, "drain_timeout": "5s"},
    }


def _version(client: Connection) -> bytes:
    client.received.clear()
    client.send(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
    client.read_until(lambda got: b"\r\n\r\n" in got and not got.endswith(b"\r\n\r\n"))
    return bytes(client.received).rpartition(b"\r\n\r\n")[2]


def test_a_kept_connection_sees_the_change(scripted: Origin) -> None:
    with penstock.Proxy(_config(scripted, "one")) as proxy:
        client = connect(proxy.address("web"))
        assert _version(client) == b"one"
        address = proxy.address("web")
        proxy.apply(_config(scripted, "two"))
        assert proxy.address("web") == address
        assert _version(client) == b"two"
        client.close()


def test_a_request_under_way_ends_as_it_began(scripted: Origin) -> None:
    with penstock.Proxy(_config(scripted, "one")) as proxy:
        client = connect(proxy.address("web"))
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        behind = scripted.read_until(lambda got: got.endswith(b"\r\n\r\n"))
        other = _config(scripted, "two")
        other["routes"] = other["routes"][:1]
        other["upstreams"] = {}
        proxy.apply(other)
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        client.read_until(lambda got: got.endswith(b"slow"))
        assert _version(client) == b"two"
        client.close()


def test_a_tunnel_outlives_its_route(scripted: Origin) -> None:
    with penstock.Proxy(_config(scripted, "one")) as proxy:
        client, behind = open_tunnel(proxy.address("web"), scripted)
        for number in range(5):
            proxy.apply(_config(scripted, str(number)))
        client.send(b"ping")
        behind.read_until(lambda got: got == b"ping")
        behind.send(b"pong")
        client.read_until(lambda got: got == b"pong")
        client.close()


def test_counters_go_on(scripted: Origin) -> None:
    with penstock.Proxy(_config(scripted, "one")) as proxy:
        client = connect(proxy.address("web"))
        for number in range(10):
            _version(client)
            proxy.apply(_config(scripted, str(number)))
        stats = proxy.stats()
        assert {route.name: route.requests for route in stats.routes}["version"] == 10
        assert [listener.accepted for listener in stats.listeners] == [1]
        assert stats.version == 11
        client.close()


def test_a_listener_comes_and_goes(scripted: Origin) -> None:
    with penstock.Proxy(_config(scripted, "one")) as proxy:
        proxy.apply(_config(scripted, "two", listeners=("web", "side")))
        side = proxy.address("side")
        client = connect(side)
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        behind = scripted.read_until(lambda got: got.endswith(b"\r\n\r\n"))
        proxy.apply(_config(scripted, "three"))
        wait_for(lambda: refuses(side), "the removed listener accepts no more")
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")
        client.read_until(lambda got: got.endswith(b"last"))
        client.read_until(lambda _: False)
        assert client.ended
        client.close()


def test_a_refused_change_changes_nothing(scripted: Origin) -> None:
    with penstock.Proxy(_config(scripted, "one")) as proxy:
        client = connect(proxy.address("web"))
        broken = _config(scripted, "two", listeners=("web", "side"))
        broken["routes"][1]["upstream"] = "missing"
        with pytest.raises(penstock.ConfigError) as refused:
            proxy.apply(broken)
        assert "missing" in str(refused.value)
        taken = _config(scripted, "three", listeners=("web", "side"))
        taken["listeners"]["side"]["bind"] = scripted.address
        with pytest.raises(penstock.PenstockError):
            proxy.apply(taken)
        assert _version(client) == b"one"
        client.close()
