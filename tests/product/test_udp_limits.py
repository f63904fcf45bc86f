"""How many sessions of datagrams there may be, how fast they may come, and who gives way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.product.datagrams import Client, Endpoint, config, ended
from tests.product.waiting import wait_for

import penstock


def test_who_was_used_least_recently_gives_way() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address, limits={"sessions": 3})) as proxy:
        clients = [Client(proxy.address("dns")) for _ in range(3)]
        for client in clients:
            assert client.ask(b"1") == b"1"
        assert clients[0].ask(b"2") == b"2"
        assert Client(proxy.address("dns")).ask(b"new") == b"new"
        assert (ended(proxy, "evicted"), proxy.stats().listeners[0].connections) == (1, 3)
        assert len(endpoint.peers) == 4
        assert clients[0].ask(b"3") == b"3"
        assert (len(endpoint.peers), ended(proxy, "evicted")) == (4, 1)
        assert clients[1].ask(b"again") == b"again"
        assert (len(endpoint.peers), ended(proxy, "evicted")) == (5, 2)


def test_a_flood_of_new_clients_ends_nobody_who_has_spoken_twice() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address, limits={"sessions": 40})) as proxy:
        known = [Client(proxy.address("dns")) for _ in range(20)]
        for client in known * 2:
            assert client.ask(b"x") == b"x"
        for number in range(400):
            # Each an address of its own: a port that was closed may be had again.
            with closing(Client(proxy.address("dns"), source=f"127.1.{number // 200}.{number % 200 + 1}")) as flood:
                flood.send(b"?")
            # No more than the system has room for.
            if number % 50 == 49:
                wait_for(lambda number=number: proxy.stats().listeners[0].accepted == 21 + number, "all have come")
        assert (ended(proxy, "evicted"), proxy.stats().listeners[0].connections) == (380, 40)
        for client in known:
            assert client.ask(b"still") == b"still"
        assert proxy.stats().listeners[0].accepted == 420, "none of them needed a new session"


def test_one_client_has_only_so_many() -> None:
    with Endpoint() as endpoint:
        plan = config(endpoint.address, limits={"sessions_per_client": 2}, responses=1)
        plan["listeners"]["dns"]["responses"] = 2
        with penstock.Proxy(plan) as proxy:
            kept = [Client(proxy.address("dns")) for _ in range(2)]
            for client in kept:
                assert client.ask(b"x") == b"x"
            third = Client(proxy.address("dns"))
            assert not third.is_answered(b"y")
            assert proxy.stats().rejected["too_many_per_client"] == 1
            assert Client(proxy.address("dns"), source="127.0.0.2").ask(b"z") == b"z"
            row = proxy.stats().listeners[0]
            assert (row.refused, row.datagrams_dropped, row.connections) == (1, 1, 3)


def test_new_sessions_come_only_so_fast() -> None:
    with Endpoint() as endpoint:
        limits = {"session_rate_per_client": "3/s", "session_rate": "5/s"}
        with penstock.Proxy(config(endpoint.address, limits=limits)) as proxy:

            def come(source: str, count: int) -> list[Client]:
                clients = [Client(proxy.address("dns"), source=source) for _ in range(count)]
                for client in clients:
                    client.send(b"x")
                return clients

            first = come("127.0.0.1", 30)[0]
            wait_for(lambda: proxy.stats().rejected["session_rate"] >= 25, "most are refused")
            come("127.0.0.2", 3)
            wait_for(lambda: proxy.stats().listeners[0].accepted >= 5, "another client is not held to account")
            assert proxy.stats().listeners[0].accepted <= 8
            # Who has a session is not asked.
            assert first.hear() == b"x"
            for number in range(20):
                assert first.ask(b"%d" % number) == b"%d" % number


def test_the_example_does_what_it_says(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "examples/udp.toml").read_text("utf-8")
    with Endpoint("a") as one, Endpoint("b") as other:
        for old, new in ((":8080", "127.0.0.1:0"), ("127.0.0.1:9000", one.address), ("127.0.0.1:9001", other.address)):
            text = text.replace(old, new)
        file = tmp_path / "udp.toml"
        file.write_text(text, "utf-8")
        with penstock.Proxy(file) as proxy:
            clients = [Client(proxy.address("dns")) for _ in range(40)]
            assert {client.ask(b"question")[:1] for client in clients} == {b"a", b"b"}
            wait_for(lambda: ended(proxy, "answered") == 40, "each has ended with its answer")
            probes = [endpoint.probe for endpoint in proxy.stats().upstreams[0].endpoints]
            assert all(probe is None or probe.passed for probe in probes)


def test_an_endpoint_has_only_so_many() -> None:
    with Endpoint("a") as one, Endpoint("b") as other:
        plan = config(upstream={"balance": "first"})
        plan["upstreams"]["main"]["endpoints"] = [
            {"address": one.address, "max_connections": 1},
            {"address": other.address, "max_connections": 1},
        ]
        with penstock.Proxy(plan) as proxy:
            clients = [Client(proxy.address("dns")) for _ in range(3)]
            assert [client.ask(b"x") for client in clients[:2]] == [b"ax", b"bx"]
            assert not clients[2].is_answered(b"x")
            assert (proxy.stats().failures["queue_full"], ended(proxy, "failed")) == (1, 1)
