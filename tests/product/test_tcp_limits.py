"""How many sessions there may be: of a listener, of one client, at one endpoint; who waits, and who is sent where."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tests.product.test_tcp import config, ended, is_turned_away, opened
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, connect

import penstock


def _accepts(origin: Origin) -> int:
    return len(origin.accept_all())


def test_more_connections_than_allowed_get_a_reset(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address, limits={"connections": 2})) as proxy:
        kept = [opened(proxy, scripted, number) for number in (1, 2)]
        assert is_turned_away(proxy)
        assert proxy.stats().rejected["too_many_connections"] == 1
        for client, behind in kept:
            client.send(b"still")
            behind.read_until(lambda got: got == b"still")
        kept[0][0].close()
        kept[0][1].read_until(lambda _: False)
        kept[0][1].close()
        wait_for(lambda: proxy.stats().listeners[0].connections == 1, "there is a place")
        opened(proxy, scripted, 3)[0].close()


def test_one_client_has_only_so_many(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address, limits={"connections_per_client": 1})) as proxy:
        opened(proxy, scripted)
        assert is_turned_away(proxy)
        other = connect(proxy.address("db"), source="127.0.0.2")
        other.send(b"me")
        scripted.read_until(lambda got: got == b"me")


def _one_place(origin: Origin, **queue: Any) -> dict[str, Any]:
    plan = config()
    plan["upstreams"]["main"] = {
        "endpoints": [{"address": origin.address, "max_connections": 1}],
        **({"queue": queue} if queue else {}),
    }
    return plan


def test_who_waits_in_line_gets_the_next_place(scripted: Origin) -> None:
    with penstock.Proxy(_one_place(scripted, size=1, timeout="5s")) as proxy:
        client, behind = opened(proxy, scripted)
        waits = connect(proxy.address("db"))
        waits.send(b"mine")
        wait_for(lambda: proxy.stats().upstreams[0].waiting == 1, "one waits")
        assert is_turned_away(proxy)
        assert proxy.stats().failures["queue_full"] == 1
        client.close()
        behind.read_until(lambda _: False)
        behind.close()
        scripted.read_until(lambda got: got == b"mine")
        assert proxy.stats().upstreams[0].waiting == 0


def test_who_waits_too_long_or_goes_away_has_no_place(scripted: Origin) -> None:
    with penstock.Proxy(_one_place(scripted, timeout="300ms")) as proxy:
        opened(proxy, scripted)
        assert is_turned_away(proxy)
        assert proxy.stats().failures["queue_timeout"] == 1
        gone = connect(proxy.address("db"))
        wait_for(lambda: proxy.stats().upstreams[0].waiting == 1, "one waits")
        gone.reset()
        wait_for(lambda: proxy.stats().upstreams[0].waiting == 0, "it has left")
        assert _accepts(scripted) == 1


def test_a_client_keeps_its_endpoint_and_most_do_when_another_goes() -> None:
    with closing(Origin()) as one, closing(Origin()) as two, closing(Origin()) as three:
        origins = {origin.address: origin for origin in (one, two, three)}
        plan = config(*origins)
        plan["upstreams"]["main"]["balance"] = {"hash": "client.ip"}
        clients = [f"127.0.0.{number}" for number in range(1, 61)]

        def places(proxy: penstock.Proxy) -> dict[str, str]:
            found = {}
            for client in clients:
                before = {address: len(origin.connections) for address, origin in origins.items()}
                session = connect(proxy.address("db"), source=client)
                session.send(b"x")
                wait_for(lambda before=before: [a for a in origins if _accepts(origins[a]) > before[a]], "it arrives")
                found[client] = next(a for a in origins if len(origins[a].connections) > before[a])
                session.reset()
            return found

        with penstock.Proxy(plan) as proxy:
            first = places(proxy)
            assert set(first.values()) == set(origins)
            assert places(proxy) == first
            plan["upstreams"]["main"]["endpoints"] = list(origins)[:2]
            proxy.apply(plan)
            second = places(proxy)
        moved = [client for client in clients if first[client] in list(origins)[:2] and first[client] != second[client]]
        assert len(moved) <= len(clients) * 0.02 + 1


def test_a_route_sends_some_clients_elsewhere(scripted: Origin) -> None:
    with closing(Origin()) as special:
        plan = config(scripted.address)
        plan["upstreams"]["special"] = {"endpoints": [special.address]}
        plan["routes"] = [{"listeners": ["db"], "match": 'client.ip == "127.0.0.9"', "upstream": "special"}]
        with penstock.Proxy(plan) as proxy:
            for source, origin in (("127.0.0.9", special), ("127.0.0.8", scripted)):
                client = connect(proxy.address("db"), source=source)
                client.send(source.encode())
                origin.read_until(lambda got, source=source: got == source.encode())
            del plan["listeners"]["db"]["upstream"]
            del plan["upstreams"]["main"]
            proxy.apply(plan)
            assert is_turned_away(proxy, source="127.0.0.8")
            assert ended(proxy, "failed") == 1
            assert proxy.stats().failures["no_route"] == 1


def test_an_endpoint_that_is_down_gets_no_session(scripted: Origin) -> None:
    broken = Origin()
    plan = config(broken.address, scripted.address)
    check = {"tcp": True, "interval": "100ms", "timeout": "1s", "fall": 1, "rise": 1}
    plan["upstreams"]["main"] |= {"balance": "first", "health_check": check}
    with penstock.Proxy(plan) as proxy:
        broken.close()
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].state == "down", "its probe fails")
        client = connect(proxy.address("db"))
        client.send(b"hello")
        scripted.read_until(lambda got: got == b"hello")
        assert proxy.stats().upstreams[0].endpoints[0].requests == 0


def test_an_endpoint_is_told_who_the_client_is(scripted: Origin) -> None:
    plan = config(scripted.address)
    plan["upstreams"]["main"]["proxy_protocol"] = "v1"
    with penstock.Proxy(plan) as proxy:
        client = connect(proxy.address("db"), source="127.0.0.5")
        client.send(b"hello")
        (host, port), (_, ours) = proxy.address("db"), client.sock.getsockname()
        header = f"PROXY TCP4 127.0.0.5 {host} {ours} {port}\r\n".encode()
        scripted.read_until(lambda got: got == header + b"hello")
