"""Clients that a table binds: over weights, workers and reloads, for requests and for connections, seen and cleared by
command."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from test_affinity import Client, address, over
from test_health import CHECK, Endpoint, endpoints, states
from tests.product.waiting import wait_for
from tests.wire.peers import connect

import penstock
from penstock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from product import Running

TABLE = {"affinity": {"table": 'header["X-User"]'}}
USERS = [f"user-{number}" for number in range(24)]


@pytest.fixture
def three() -> Iterator[list[Endpoint]]:
    """Three endpoints that say their names."""
    with endpoints("a", "b", "c") as started:
        yield started


def homes(proxy: penstock.Proxy, users: list[str] = USERS) -> dict[str, str]:
    """Who answers each user, on connections of their own, which all workers take."""
    found = {}
    for user in users:
        names = {Client(proxy).ask(**{"X-User": user}) for _ in range(3)}
        ((found[user], given),) = names
        assert not given, "a table sets no cookie"
    return found


def weighed(members: list[Endpoint], *weights: int) -> list[dict[str, Any]]:
    """The endpoints with these weights."""
    pairs = zip(members, weights, strict=True)
    return [{"address": f"127.0.0.1:{one.port}", "weight": weight} for one, weight in pairs]


def test_nobody_moves_when_weights_change_by_command_or_reload(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, **TABLE)) as proxy:
        before = homes(proxy)
        assert set(before.values()) == {"a", "b", "c"}
        for one in three[:2]:
            proxy.endpoint("app", f"127.0.0.1:{one.port}", "weight=0")
        assert homes(proxy) == before
        assert {Client(proxy).ask(**{"X-User": f"new-{number}"})[0] for number in range(12)} == {"c"}
        proxy.apply(over(three, **TABLE, endpoints=weighed(three, 0, 256, 1), balance="p2c"))
        assert homes(proxy) == before
        # Another expression knows nobody; this one knows nobody any more, either.
        proxy.apply(over(three, affinity={"table": 'header["X-Other"]'}))
        assert row(proxy)["clients"] == 0


def row(proxy: penstock.Proxy) -> dict[str, Any]:
    """What the status says of the table."""
    affinity = proxy.stats().upstreams[0].affinity
    assert affinity is not None
    return {name: getattr(affinity, name) for name in ("clients", "size", "ttl", "evicted", "memory")}


def test_a_draining_endpoint_keeps_its_clients_and_a_dead_one_loses_them(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, health_check=CHECK, **TABLE)) as proxy:
        before = homes(proxy)
        proxy.endpoint("app", address(three, "a"), "drain")
        assert homes(proxy) == before
        three[0].health = 503
        wait_for(lambda: states(proxy)[0] == "down", "it is down")
        after = homes(proxy)
        assert {user for user in USERS if after[user] != before[user]} == {u for u in USERS if before[u] == "a"}
        # A reload that takes one away moves its clients alone.
        proxy.apply(over(three[1:2], health_check=CHECK, **TABLE))
        assert set(homes(proxy).values()) == {"b"}
        proxy.apply(over(three[1:], health_check=CHECK, **TABLE))
        assert set(homes(proxy).values()) == {"b"}, "nobody comes back by himself"


def test_the_table_is_seen_and_cleared(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, affinity={**TABLE["affinity"], "size": 16, "ttl": "1h"})) as proxy:
        last = homes(proxy)
        told = row(proxy)
        assert (told["clients"], told["size"], told["ttl"], told["evicted"]) == (16, 16, 3600.0, 8)
        assert 0 < told["memory"] < 64 << 10
        clients = {user: proxy.affinity("app", user).client for user in USERS}
        bound = {user: one.endpoint for user, one in clients.items() if one is not None and one.endpoint is not None}
        assert bound == {user: address(three, last[user]) for user in bound}
        assert len(bound) == 16
        ages = [one.seen for one in clients.values() if one is not None and one.seen is not None]
        assert len(ages) == 16
        assert max(ages) < 60
        counts = Counter(bound.values())
        assert {one.address: one.clients for one in proxy.affinity("app").endpoints} == {
            address(three, name): counts[address(three, name)] for name in "abc"
        }
        assert proxy.affinity("app", next(iter(bound)), clear=True).cleared == 1
        del bound[next(iter(bound))]
        of_b = proxy.affinity("app", endpoint=address(three, "b"), clear=True).cleared
        assert of_b == Counter(bound.values())[address(three, "b")]
        assert proxy.affinity("app", clear=True).cleared == 15 - of_b
        assert (row(proxy)["clients"], row(proxy)["memory"]) == (0, 0)


@pytest.mark.parametrize(
    ("upstream", "query", "error"),
    [
        ("ap", {}, 'no upstream "ap": there are app'),
        ("app", {"endpoint": "1.2.3.4:5", "clear": True}, 'no endpoint "1.2.3.4:5": there are '),
        ("app", {"key": "a", "endpoint": "", "clear": True}, "no endpoint"),
    ],
)
def test_what_is_not_there_is_named(three: list[Endpoint], upstream: str, query: dict[str, Any], error: str) -> None:
    with penstock.Proxy(over(three, **TABLE)) as proxy:
        with pytest.raises(EngineError, match=error):
            proxy.affinity(upstream, **query)
        with pytest.raises(EngineError, match="one client or those of one endpoint"):
            proxy.affinity("app", "a", endpoint=address(three, "a"), clear=True)
        proxy.apply(over(three))
        with pytest.raises(EngineError, match="has no affinity table"):
            proxy.affinity("app")


def answered(proxy: penstock.Proxy, source: str) -> str:
    """Who answers a connection from this address."""
    client = connect(proxy.address("db"), source=source)
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    client.read_until(lambda _: False)
    client.close()
    return bytes(client.received).rpartition(b"\r\n\r\n")[2].decode()


def of_tcp(members: list[Endpoint], **upstream: Any) -> dict[str, Any]:
    """The same for connections."""
    config = over(members, affinity={"table": "client.ip"}, **upstream)
    config["listeners"] = {"db": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "app"}}
    del config["routes"]
    return config


def test_connections_are_bound_the_same_way(three: list[Endpoint]) -> None:
    sources = [f"127.0.0.{number}" for number in range(2, 26)]
    with penstock.Proxy(of_tcp(three)) as proxy:
        before = {source: answered(proxy, source) for source in sources}
        assert set(before.values()) == {"a", "b", "c"}
        again = lambda: {source: answered(proxy, source) for source in sources}  # noqa: E731
        proxy.endpoint("app", address(three, "a"), "weight=0")
        proxy.apply(of_tcp(three, endpoints=weighed(three, 0, 200, 1)))
        assert again() == before
        proxy.endpoint("app", address(three, "b"), "drain")
        assert again() == before
        proxy.apply(of_tcp(three[1:]))
        after = again()
        assert {one for one in sources if after[one] != before[one]} == {one for one in sources if before[one] == "a"}
        known = proxy.affinity("app", sources[0]).client
        assert known is not None
        assert known.endpoint == address(three, after[sources[0]])
        wait_for(lambda: row(proxy)["clients"] == len(sources), "all are known")


def test_the_command(three: list[Endpoint], start: Callable[..., Running], config: Path) -> None:
    config.write_text(
        f"""\
[listeners.web]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["127.0.0.1:{three[0].port}"]
affinity = {{ table = "client.ip", size = 2 }}
[[routes]]
upstream = "app"
""",
        "utf-8",
    )
    running = start()
    assert running.get("/")[0] == 200
    at = f"127.0.0.1:{three[0].port}"
    assert running.command("affinity", "app", "127.0.0.1").stdout.startswith(f"127.0.0.1 is bound to {at}, seen ")
    assert running.command("affinity", "app", "10.0.0.1").stdout == "10.0.0.1 is not bound\n"
    table, *rows = running.command("affinity", "app").stdout.splitlines()
    assert table.startswith("affinity: 1 of 2 clients, for 30m 0s, 0 evicted, ")
    assert [line.split() for line in rows] == [[at, "1", "clients"]]
    assert table in running.command("status").stdout
    told = json.loads(running.command("affinity", "app", "127.0.0.1", "--json").stdout)
    assert (told["client"]["endpoint"], told["cleared"]) == (at, None)
    metrics = running.get("/metrics", running.admin)[1]
    assert 'penstock_upstream_affinity_clients{upstream="app"} 1\n' in metrics
    assert running.command("affinity", "app", "--endpoint", at).returncode == 2
    assert running.command("affinity", "app", "--endpoint", at, "--clear").stdout == "1 clients forgotten\n"
    assert running.command("affinity", "app", "127.0.0.1").stdout == "127.0.0.1 is not bound\n"
    assert running.command("affinity", "other").returncode == 1
