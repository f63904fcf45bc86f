"""What people decide about endpoints: tiers, limits, states and weights, in the configuration and by command."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from test_health import CHECK, answers, endpoints, states
from tests.wire.peers import Refusal
from waiting import wait_for

import penstock
from penstock.errors import ControlError, EngineError
from product import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from product import Running


def over(members: list[Any], workers: int = 1, **upstream: Any) -> dict[str, Any]:
    """One upstream with these members."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": workers},
        "upstreams": {"app": {"endpoints": members, "balance": "round_robin", **upstream}},
        "routes": [{"upstream": "app"}],
    }


def who(proxy: penstock.Proxy, count: int = 60) -> Counter[str]:
    """How often each endpoint answered, over a connection for each request, so that every worker is asked."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
        connection.request("GET", "/")
        answer = connection.getresponse()
        seen[answer.read().decode()] += 1
        assert answer.status == 200
        connection.close()
    return seen


def test_orders_hold_at_once_for_all_workers_and_over_reloads() -> None:
    with endpoints("a", "b") as (a, b):
        addresses = [f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"]
        plan = over(addresses, workers=2)
        with penstock.Proxy(plan) as proxy:
            assert set(who(proxy)) == {"a", "b"}
            proxy.endpoint("app", addresses[0], "drain")
            assert set(who(proxy)) == {"b"}
            proxy.apply(over(addresses, workers=2, host="upstream"))
            assert set(who(proxy)) == {"b"}, "a reload of the unchanged endpoint keeps the order"
            assert [row.admin for row in proxy.stats().upstreams[0].endpoints] == ["draining", "ready"]
            proxy.endpoint("app", addresses[0], "ready")
            proxy.endpoint("app", addresses[1], "weight=0")
            assert set(who(proxy)) == {"a"}
            proxy.endpoint("app", addresses[0], "disable")
            connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
            connection.request("GET", "/")
            assert connection.getresponse().status == 503
            connection.close()
            proxy.apply(over([{"address": addresses[0], "state": "draining"}, {"address": addresses[1], "weight": 2}]))
            assert set(who(proxy)) == {"b"}, "what the file changes goes before what was ordered"
            proxy.apply(over(addresses))
            assert set(who(proxy)) == {"a", "b"}


@pytest.mark.parametrize(
    ("upstream", "address", "order", "error"),
    [
        ("shop", "x", "drain", "no upstream .shop.: there are app"),
        ("app", "10.9.9.9:1", "drain", "no endpoint .10.9.9.9:1.: there are 127"),
        ("app", "x", "drian", "no order .drian."),
        ("app", "x", "weight=257", "0 to 256"),
        ("app", "x", "weight=-1", "0 to 256"),
    ],
)
def test_orders_that_cannot_be(upstream: str, address: str, order: str, error: str) -> None:
    with penstock.Proxy(over(["127.0.0.1:9"])) as proxy, pytest.raises((ControlError, EngineError), match=error):
        proxy.endpoint(upstream, address, order)


def test_weights_change_by_command_also_for_a_hash() -> None:
    with endpoints("a", "b") as (a, b):
        addresses = [f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"]
        with penstock.Proxy(over(addresses)) as proxy:
            proxy.endpoint("app", addresses[0], "weight=3")
            assert who(proxy, 40) == {"a": 30, "b": 10}
        with penstock.Proxy(over(addresses, balance={"hash": "path"})) as proxy:
            (home,) = who(proxy, 4)
            proxy.endpoint("app", addresses["ab".index(home)], "weight=0")
            assert home not in who(proxy, 4)
            proxy.endpoint("app", addresses["ab".index(home)], "weight=1")
            assert set(who(proxy, 4)) == {home}


def test_a_spare_tier_is_used_while_the_first_is_down() -> None:
    with endpoints("a", "spare") as (a, spare):
        members = [f"127.0.0.1:{a.port}", {"address": f"127.0.0.1:{spare.port}", "priority": 1}]
        with penstock.Proxy(over(members, health_check=CHECK)) as proxy:
            assert answers(proxy) == {"a"}
            a.health = 503
            wait_for(lambda: states(proxy) == ["down", "up"], "the first is down")
            assert answers(proxy) == {"spare"}
            a.health = 200
            wait_for(lambda: states(proxy) == ["up", "up"], "the first is up again")
            assert answers(proxy) == {"a"}


def test_an_endpoint_that_came_up_starts_slowly() -> None:
    with endpoints("a", "b") as (a, b):
        members = [{"address": f"127.0.0.1:{one.port}", "slow_start": "1h"} for one in (a, b)]
        with penstock.Proxy(over(members, health_check=CHECK)) as proxy:
            assert who(proxy, 20) == {"a": 10, "b": 10}
            a.health = 503
            wait_for(lambda: states(proxy) == ["down", "up"], "the first is down")
            members[1].pop("slow_start")
            proxy.apply(over(members, health_check=CHECK))
            a.health = 200
            wait_for(lambda: states(proxy) == ["up", "up"], "the first is up again")
            assert who(proxy, 55) == {"a": 5, "b": 50}


@pytest.fixture
def origins() -> Iterator[list[Origin]]:
    """Two endpoints whose `/slow` waits."""
    started = [Origin("a"), Origin("b")]
    for origin in started:
        threading.Thread(target=origin.serve_forever, args=(0.02,), daemon=True).start()
    yield started
    for origin in started:
        origin.release.set()
        origin.shutdown()
        origin.server_close()


def test_an_endpoint_gets_no_more_requests_at_once_than_it_may_have(origins: list[Origin]) -> None:
    a, b = origins
    members = [{"address": a.address, "max_connections": 1}, {"address": b.address, "max_connections": 1}]
    with penstock.Proxy(over(members, workers=2, balance="first")) as proxy:
        held = [http.client.HTTPConnection(*proxy.address("web"), timeout=5) for _ in range(2)]
        held[0].request("GET", "/slow")
        assert a.entered.wait(5)
        assert set(who(proxy, 8)) == {"b"}, "what is full is passed over by every worker"
        held[1].request("GET", "/slow")
        assert b.entered.wait(5)
        for _ in range(4):
            late = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
            late.request("GET", "/")
            answer = late.getresponse()
            assert (answer.status, answer.getheader("retry-after")) == (503, "1")
            late.close()
        assert proxy.stats().failures["queue_full"] == 4
        a.release.set()
        assert held[0].getresponse().read() == b"a"
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 0, "the place is given back")
        assert set(who(proxy, 8)) == {"a"}
        b.release.set()
        for connection in held:
            connection.close()


def test_a_place_is_free_before_the_client_has_its_answer() -> None:
    """Whichever worker the next request goes to. The other way round, one of some hundred was refused."""
    with endpoints("a") as (a,):
        member = {"address": f"127.0.0.1:{a.port}", "max_connections": 1}
        with penstock.Proxy(over([member], workers=2)) as proxy:
            assert who(proxy, 1000) == {"a": 1000}
        with penstock.Proxy(over([member["address"]], workers=2, limits={"requests": 1})) as proxy:
            assert who(proxy, 1000) == {"a": 1000}


def test_an_attempt_that_failed_is_counted_also_where_another_made_it_good() -> None:
    with endpoints("a") as (a,), closing(Refusal()) as refusal:
        members = [refusal.address, f"127.0.0.1:{a.port}"]
        with penstock.Proxy(over(members, balance="first")) as proxy:
            assert who(proxy, 1) == {"a": 1}
            assert proxy.stats().failures["connect_refused"] == 1


def test_the_command_orders_and_the_status_shows_it(start: Callable[..., Running], origin: Origin) -> None:
    running = start()
    done = running.command("endpoint", "app", origin.address, "drain")
    assert done.stdout == f"app {origin.address}: draining, weight 1, 0 in flight\n", done.stderr
    assert running.get("/")[0] == 503
    (row,) = running.status()["upstreams"][0]["endpoints"]
    assert (row["admin"], row["labels"]) == ("draining", {})
    assert "up, draining" in running.command("status").stdout
    told = running.command("explain", "GET", "http://a/", "--running").stdout
    assert f"{origin.address}  weight 1  up, draining  not a candidate\n" in told
    assert running.command("endpoint", "app", origin.address, "ready").returncode == 0
    assert running.get("/")[0] == 200
    refused = running.command("endpoint", "app", origin.address, "stop")
    assert refused.returncode == 1
    assert "there are drain, ready, disable and weight=N" in refused.stderr
