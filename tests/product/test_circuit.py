"""Limits of a whole upstream, over all workers: what is beyond gets 503 at once, and no endpoint is blamed for it."""

from __future__ import annotations

import http.client
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_for

import penstock
from penstock.cli.control import status_lines
from product import Origin

if TYPE_CHECKING:
    from penstock.engine.stats import EndpointStats, LimitStats


def over(*addresses: str, **limits: int) -> dict[str, Any]:
    """An upstream with these limits, and two workers."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {"app": {"endpoints": list(addresses), "limits": limits, "outlier": {"failures": 1}}},
        "routes": [{"upstream": "app"}],
    }


def ask(proxy: penstock.Proxy, path: str = "/") -> http.client.HTTPConnection:
    """Send a request on a connection of its own, which any worker may take, and do not wait for its answer."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
    connection.request("GET", path)
    return connection


def status_of(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    """Of the answer: its status and how long to stay away."""
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.getheader("retry-after")


def leave_one_unused(proxy: penstock.Proxy) -> None:
    """Let a request be over, its connection kept."""
    assert status_of(ask(proxy)) == (200, None)
    wait_for(lambda: sum(one.in_flight for one in proxy.stats().upstreams[0].endpoints) == 0, "nothing is under way")


def limit(proxy: penstock.Proxy, name: str) -> LimitStats:
    """How this limit fares."""
    return proxy.stats().upstreams[0].limits[name]


def endpoint(proxy: penstock.Proxy) -> EndpointStats:
    """How the first endpoint fares."""
    return proxy.stats().upstreams[0].endpoints[0]


@pytest.mark.parametrize("name", ["requests", "connections"])
def test_what_is_beyond_a_limit_is_refused_at_once(busy: Origin, name: str) -> None:
    with penstock.Proxy(over(busy.address, **{name: 3})) as proxy:
        held = [ask(proxy, "/slow") for _ in range(3)]
        wait_for(lambda: limit(proxy, name).taken == 3, "all places are taken")
        assert [status_of(ask(proxy)) for _ in range(6)] == [(503, "1")] * 6
        upstream = proxy.stats().upstreams[0]
        assert (upstream.limits[name].most, upstream.limits[name].refused) == (3, 6)
        assert set(upstream.limits) == {name}, "what is not limited is not counted"
        assert proxy.stats().failures["upstream_full"] == 6
        endpoint = upstream.endpoints[0]
        assert (endpoint.state, endpoint.failures, endpoint.failures_in_a_row) == ("up", 0, 0)
        busy.release.set()
        assert [status_of(connection) for connection in held] == [(200, None)] * 3
        wait_for(lambda: status_of(ask(proxy)) == (200, None), "there is room again")
        if name == "requests":
            wait_for(lambda: limit(proxy, name).taken == 0, "every place was given back")


def test_a_reload_keeps_the_counts(busy: Origin) -> None:
    with penstock.Proxy(over(busy.address, requests=2)) as proxy:
        held = [ask(proxy, "/slow") for _ in range(2)]
        wait_for(lambda: limit(proxy, "requests").taken == 2, "all places are taken")
        proxy.apply(over(busy.address, requests=1))
        assert status_of(ask(proxy)) == (503, "1")
        proxy.apply(over(busy.address, requests=3))
        assert status_of(ask(proxy)) == (200, None)
        busy.release.set()
        assert [status_of(connection) for connection in held] == [(200, None)] * 2
        wait_for(lambda: limit(proxy, "requests").taken == 0, "every place was given back")


def test_an_unused_connection_makes_room_for_another_endpoint(busy: Origin) -> None:
    others = [Origin("b"), Origin("c")]
    for other in others:
        threading.Thread(target=other.serve_forever, args=(0.02,), daemon=True).start()
    try:
        config = over(busy.address, *(other.address for other in others), connections=2)
        config["engine"]["workers"] = 1
        config["upstreams"]["app"]["balance"] = "round_robin"
        with penstock.Proxy(config) as proxy:
            leave_one_unused(proxy)
            held = ask(proxy, "/slow")
            wait_for(lambda: limit(proxy, "connections").taken == 2, "one is unused, one is held")
            assert status_of(ask(proxy)) == (200, None)
            assert limit(proxy, "connections").refused == 0
            for origin in (busy, *others):
                origin.release.set()
            assert status_of(held) == (200, None)
    finally:
        for other in others:
            other.shutdown()
            other.server_close()


def test_an_unused_connection_makes_room_for_another_worker(busy: Origin) -> None:
    # The kernel deals connections out to the workers: it is tried until one has an unused one and the other is asked.
    for _ in range(40):
        with penstock.Proxy(over(busy.address, connections=2)) as proxy:
            leave_one_unused(proxy)
            held = ask(proxy, "/slow")
            wait_for(busy.entered.is_set, "one is held")
            found = limit(proxy, "connections").taken == 2 and status_of(ask(proxy)) == (503, "1")
            if found:
                wait_for(lambda: endpoint(proxy).idle == 0, "the other worker gives up what it does not use")
                wait_for(lambda: limit(proxy, "connections").taken == 1, "and its place with it")
                # Had the one that is held been given back, it would have been closed in the other's place.
                assert endpoint(proxy).in_flight == 1
            busy.release.set()
            assert status_of(held) == (200, None)
        busy.release.clear()
        busy.entered.clear()
        if found:
            return
    pytest.fail("one worker got every connection")


def test_requests_that_wait_for_a_connection_are_limited() -> None:
    # The queue of a socket that nobody accepts on is full after two: the next connections are not made.
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = "{}:{}".format(*deaf.getsockname())
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        with penstock.Proxy(over(address, pending=2)) as proxy:
            held = [ask(proxy) for _ in range(2)]
            wait_for(lambda: limit(proxy, "pending").taken == 2, "two wait for a connection")
            assert status_of(ask(proxy)) == (503, "1")
            assert limit(proxy, "pending").refused == 1
            for connection in held:
                connection.close()
        for filler in fillers:
            filler.close()


def test_requests_in_line_are_pending(busy: Origin) -> None:
    config = over(busy.address, pending=1)
    config["upstreams"]["app"] |= {"endpoints": [{"address": busy.address, "max_connections": 1}], "queue": {"size": 9}}
    with penstock.Proxy(config) as proxy:
        held = ask(proxy, "/slow")
        assert busy.entered.wait(5)
        waiting = ask(proxy)
        wait_for(lambda: limit(proxy, "pending").taken == 1, "one stands in line")
        assert status_of(ask(proxy)) == (503, "1")
        busy.release.set()
        assert [status_of(held), status_of(waiting)] == [(200, None)] * 2
        wait_for(lambda: limit(proxy, "pending").taken == 0, "nobody waits")


def test_the_status_shows_limits() -> None:
    upstream = {"name": "app", "balance": "p2c", "all_down": False, "endpoints": [], "waiting": 0, "mirror": None}
    upstream["limits"] = {"requests": {"most": 3, "taken": 2, "refused": 7}}
    upstream["affinity"] = {"clients": 2, "size": 9, "ttl": 1800.0, "evicted": 1, "memory": 640}
    rest: dict[str, Any] = dict.fromkeys(("listeners", "routes", "lists", "weights"), ())
    told = {"config": "x", "state": "serving", "plan_version": 1, "pid": 1, "uptime": 1.0, "workers": 1}
    lines = status_lines({**rest, **told, "last_refusal": None, "upstreams": [upstream]})
    assert any(line.split() == ["requests", "2", "of", "3", "7", "refused"] for line in lines)
    assert "  affinity: 2 of 9 clients, for 30m 0s, 1 evicted, 640 bytes" in lines
