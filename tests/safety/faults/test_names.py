"""Names whose server is down, whose answers hold for no time, and whose addresses change."""

from __future__ import annotations

import http.client
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.ports import Reserved
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, config, ok
from tests.safety.faults.name_server import NameServer

if TYPE_CHECKING:
    from collections.abc import Iterator


def _on(host: str, port: int) -> Endpoint:
    return Endpoint(lambda head, body, number: ok(host.encode()), at=(host, port))


@pytest.fixture
def pair() -> Iterator[tuple[Endpoint, Endpoint, int]]:
    """Two endpoints on one port, at 127.0.0.1 and 127.0.0.2."""
    with closing(Reserved()) as port, _on("127.0.0.1", port.number) as old, _on("127.0.0.2", port.number) as new:
        yield old, new, port.number


def _plan(server: NameServer, port: int) -> dict[str, Any]:
    return {**config(f"app.test:{port}"), "dns": {"servers": [server.address]}}


def _ask(proxy: penstock.Proxy) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


@pytest.mark.safety(179)
def test_a_changed_address_is_followed_and_the_old_connections_are_closed(
    pair: tuple[Endpoint, Endpoint, int],
) -> None:
    old, new, port = pair
    with NameServer("127.0.0.1") as server, penstock.Proxy(_plan(server, port)) as proxy:
        assert _ask(proxy) == (200, b"127.0.0.1")
        assert old.open == 1
        # With a time to live of 0 the name is asked again and again, though not for every request.
        asked = server.asked
        wait_for(lambda: server.asked >= asked + 2, "the name is asked again")
        server.addresses = ("127.0.0.2",)
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].resolved == (f"127.0.0.2:{port}",), "it is followed")
        wait_for(lambda: old.open == 0, "the kept connection to the old address is closed")
        assert _ask(proxy) == (200, b"127.0.0.2")
        assert len(old.targets) == 1
        assert len(new.targets) == 1


@pytest.mark.safety(179)
@pytest.mark.parametrize("how", ["silent", "failing"])
def test_a_server_that_is_down_leaves_the_last_good_address(how: str, pair: tuple[Endpoint, Endpoint, int]) -> None:
    old, _, port = pair
    with NameServer("127.0.0.1") as server, penstock.Proxy(_plan(server, port)) as proxy:
        assert _ask(proxy) == (200, b"127.0.0.1")
        asked = server.asked
        setattr(server, how, True)
        wait_for(lambda: server.asked >= asked + 2, "the name is asked in vain", 20)
        assert proxy.stats().upstreams[0].endpoints[0].resolved == (f"127.0.0.1:{port}",)
        assert [_ask(proxy) for _ in range(20)] == [(200, b"127.0.0.1")] * 20
        assert len(old.targets) == 21


@pytest.mark.safety(179)
def test_a_reload_asks_other_servers(pair: tuple[Endpoint, Endpoint, int]) -> None:
    _, _, port = pair
    with (
        NameServer("127.0.0.1", ttl=300) as first,
        NameServer("127.0.0.2") as second,
        penstock.Proxy(_plan(first, port)) as proxy,
    ):
        assert _ask(proxy) == (200, b"127.0.0.1")
        proxy.apply(_plan(second, port))
        wait_for(lambda: _ask(proxy) == (200, b"127.0.0.2"), "the new server's answer holds")
