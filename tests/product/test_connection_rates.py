"""New connections beyond a rate are refused at once, counted and named; each client has its own, over workers and
reloads. What time does to a rate is tested where there is no clock (`rules::limit::rate`): here the rate is that of an
hour, and a burst is all there is."""

from __future__ import annotations

import http.client
import socket
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

from tests.product.test_tcp import config
from tests.product.waiting import wait_for

import penstock

if TYPE_CHECKING:
    from tests.wire.peers import Origin

BURST = 6
RATE = {"rate": "6/h"}


def burst(proxy: penstock.Proxy, count: int, source: str = "127.0.0.1") -> tuple[int, int]:
    """How many of so many connections at once were taken in, and how many refused."""
    before = proxy.stats().listeners[0]
    with ExitStack() as kept:
        for _ in range(count):
            # A refusal can come before the client knows that it is connected.
            with suppress(ConnectionResetError):
                client = socket.create_connection(proxy.address(), timeout=5, source_address=(source, 0))
                kept.enter_context(closing(client))

        def counts() -> tuple[int, int]:
            now = proxy.stats().listeners[0]
            return now.accepted - before.accepted, now.refused - before.refused

        wait_for(lambda: sum(counts()) == count, "all have come")
        return counts()


def test_a_listener_takes_so_many_and_no_more(scripted: Origin) -> None:
    plan = config(scripted.address, workers=2, limits={"connection_rate": RATE})
    with penstock.Proxy(plan) as proxy:
        assert burst(proxy, 20) == (BURST, 20 - BURST)
        assert proxy.stats().rejected["connection_rate"] == 20 - BURST
        # A reload is no way around what was spent, and whose limit is gone comes in again.
        plan["upstreams"]["main"]["retry"] = False
        proxy.apply(plan)
        assert burst(proxy, 5, "127.0.0.2") == (0, 5)
        del plan["listeners"]["db"]["limits"]
        proxy.apply(plan)
        assert burst(proxy, 5) == (5, 0)


def test_each_client_has_a_rate_of_its_own(scripted: Origin) -> None:
    limits = {"connection_rate_per_client": RATE, "connections_per_client": 100}
    with penstock.Proxy(config(scripted.address, workers=2, limits=limits)) as proxy:
        assert burst(proxy, 10) == (BURST, 10 - BURST)
        assert burst(proxy, 10) == (0, 10)
        assert burst(proxy, 10, "127.0.0.2") == (BURST, 10 - BURST)
        assert proxy.stats().rejected["connection_rate_per_client"] == 18


def test_an_http_client_is_told() -> None:
    limits = {"connection_rate_per_client": {"rate": "1/h", "burst": 2}}
    web: dict[str, Any] = {"bind": "127.0.0.1:0", "limits": limits}
    plan = {
        "listeners": {"web": web},
        "engine": {"workers": 2},
        "routes": [{"respond": {"status": 204}}],
    }
    with penstock.Proxy(plan) as proxy:
        seen = []
        for _ in range(4):
            connection = http.client.HTTPConnection(*proxy.address(), timeout=5)
            connection.request("GET", "/")
            answer = connection.getresponse()
            answer.read()
            seen.append((answer.status, answer.getheader("retry-after")))
            connection.close()
        assert seen == [(204, None)] * 2 + [(503, "1")] * 2
        # A connection that is kept is one, however much is asked on it, and proxies that are believed are not counted.
        web["trusted_proxies"] = ["127.0.0.0/8"]
        proxy.apply(plan)
        assert burst(proxy, 10) == (10, 0)
