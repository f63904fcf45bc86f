"""Listeners that pass bytes on: both ways, each end told in its own direction, over reloads and to the last byte."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, Refusal, connect, is_break_passed_on, refuses

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def config(*addresses: str, workers: int = 1, **listener: Any) -> dict[str, Any]:
    """A listener of connections in front of these endpoints."""
    return {
        "listeners": {"db": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "main", **listener}},
        "upstreams": {"main": {"endpoints": list(addresses)}},
        "engine": {"workers": workers, "drain_timeout": "5s"},
    }


def ended(proxy: penstock.Proxy, word: str, listener: int = 0) -> int:
    """Sessions of the listener that have ended so."""
    return proxy.stats().listeners[listener].sessions[word]


def opened(proxy: penstock.Proxy, origin: Origin, number: int = 1) -> tuple[Connection, Connection]:
    """A client and its endpoint, with a session between them."""
    client = connect(proxy.address("db"))
    return client, origin.connection(number)


def is_turned_away(proxy: penstock.Proxy, source: str | None = None) -> bool:
    """Whether a new client gets a reset, which can come before it knows that it is connected."""
    try:
        client = connect(proxy.address("db"), source=source)
    except ConnectionResetError:
        return True
    client.read_until(lambda _: False)
    return client.was_reset


def test_bytes_go_both_ways_whoever_speaks_first(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        behind.send(b"220 ready\r\n")
        client.read_until(lambda got: got == b"220 ready\r\n")
        client.send(b"\x00\xff\r\n\r\nGET / HTTP/1.1\r\n")
        behind.read_until(lambda got: got == b"\x00\xff\r\n\r\nGET / HTTP/1.1\r\n")
        client.close()
        behind.read_until(lambda _: False)
        behind.close()
        wait_for(lambda: ended(proxy, "client_closed") == 1, "the session has ended in order")
        row = proxy.stats().listeners[0]
        assert (row.protocol, row.bytes_in, row.bytes_out, row.connections) == ("tcp", 22, 11, 0)


@pytest.mark.safety(170)
@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_an_end_is_passed_on_in_its_own_direction(scripted: Origin, who: str) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        one, other = (client, behind) if who == "client" else (behind, client)
        one.send(b"last words")
        one.half_close()
        other.read_until(lambda _: False)
        assert (bytes(other.received), other.was_reset) == (b"last words", False)
        for number in range(3):
            other.send(b"%d" % number)
            one.read_until(lambda got, number=number: got.endswith(b"%d" % number))
        other.half_close()
        one.read_until(lambda _: False)
        assert (bytes(one.received), one.was_reset) == (b"012", False)
        wait_for(lambda: ended(proxy, f"{who}_closed") == 1, "it is told who ended first")


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_a_reset_is_passed_on_as_one(scripted: Origin, who: str) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        one, other = (client, behind) if who == "client" else (behind, client)
        assert is_break_passed_on(one, other)
        wait_for(lambda: ended(proxy, f"{who}_reset") == 1, "it is told who broke it")


def test_a_lot_goes_both_ways_at_once_and_byte_for_byte(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        sent = {name: os.urandom(24 << 20) for name in ("up", "down")}
        found: dict[str, str] = {}

        def read(name: str, sock: socket.socket) -> None:
            digest = hashlib.sha256()
            while more := sock.recv(1 << 20):
                digest.update(more)
            found[name] = digest.hexdigest()

        def write(name: str, sock: socket.socket) -> None:
            sock.sendall(sent[name])
            sock.shutdown(socket.SHUT_WR)

        for one in (client, behind):
            one.sock.settimeout(30)
        threads = [
            threading.Thread(target=target, args=(name, one.sock))
            for target, name, one in (
                (write, "up", client),
                (read, "up", behind),
                (write, "down", behind),
                (read, "down", client),
            )
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == {name: hashlib.sha256(content).hexdigest() for name, content in sent.items()}


def test_another_endpoint_takes_the_place_of_one_that_cannot_be_reached(scripted: Origin) -> None:
    with closing(Refusal()) as refusal:
        plan = config(refusal.address, scripted.address)
        plan["upstreams"]["main"]["balance"] = "first"
        with penstock.Proxy(plan) as proxy:
            client, behind = opened(proxy, scripted)
            client.send(b"hello")
            behind.read_until(lambda got: got == b"hello")
            dead, alive = proxy.stats().upstreams[0].endpoints
            assert (dead.failures, alive.in_flight, proxy.stats().upstreams[0].retries) == (1, 1, 1)
            assert proxy.stats().failures["connect_refused"] == 1


def test_without_an_endpoint_the_client_gets_a_reset(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with closing(Refusal()) as refusal:
        plan = {**config(refusal.address), "log": {"access": {"to": str(log)}}}
        with penstock.Proxy(plan) as proxy:
            assert is_turned_away(proxy)
            wait_for(lambda: ended(proxy, "failed") == 1, "it is counted")
            wait_for(lambda: log.exists() and log.read_text(), "it is logged")
    record = json.loads(log.read_text())
    assert (record["outcome"], record["ended"], record["endpoint"]) == ("upstream_error", "connect_refused", "")


def test_an_endpoint_that_accepts_and_closes_is_ejected(scripted: Origin) -> None:
    with closing(Origin()) as broken:
        plan = config(broken.address, scripted.address)
        plan["upstreams"]["main"] |= {"balance": "first", "outlier": {"failures": 1}}
        with penstock.Proxy(plan) as proxy:
            client, behind = opened(proxy, broken)
            behind.close()
            client.read_until(lambda _: False)
            client.close()
            wait_for(lambda: ended(proxy, "endpoint_closed") == 1, "the session has ended")
            first = proxy.stats().upstreams[0].endpoints[0]
            assert (first.state, first.failures) == ("ejected", 1)
            assert "upstream_closed" in (first.reason or "")
            client, behind = opened(proxy, scripted)
            behind.send(b"welcome")
            client.read_until(lambda got: got == b"welcome")


def test_a_session_outlives_fifty_reloads(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        address = proxy.address("db")
        for number in range(50):
            plan = config(scripted.address)
            plan["listeners"][f"web{number % 2}"] = {"bind": "127.0.0.1:0"}
            plan["upstreams"]["main"]["timeouts"] = {"connect": f"{number + 1}s"}
            plan["routes"] = [{"respond": {"body": str(number)}}]
            proxy.apply(plan)
            client.send(b"%d." % number)
            behind.read_until(lambda got, number=number: got.endswith(b".") and b"%d." % number in got)
            behind.send(b"%d," % number)
            client.read_until(lambda got, number=number: got.endswith(b"%d," % number))
        assert proxy.address("db") == address
        assert bytes(behind.received) == b"".join(b"%d." % number for number in range(50))
        assert bytes(client.received) == b"".join(b"%d," % number for number in range(50))
        # Also over one that takes its listener and its upstream away.
        proxy.apply(
            {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {}}], "engine": {"workers": 1}}
        )
        with pytest.raises(ConnectionRefusedError):
            connect(address)
        client.send(b"still here")
        behind.read_until(lambda got: got.endswith(b"still here"))


def test_what_is_open_is_let_finish_by_a_drain(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        address = proxy.address("db")
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(proxy.drain(10)))
        draining.start()
        wait_for(lambda: refuses(address), "nothing new is taken in")
        client.send(b"more")
        behind.read_until(lambda got: got == b"more")
        behind.send(b"done")
        behind.close()
        client.read_until(lambda _: False)
        assert bytes(client.received) == b"done"
        client.close()
        # Those with which it was found out that nothing new is taken in.
        for other in scripted.accept_all()[1:]:
            other.close()
        draining.join(10)
        assert drained == [True]


def test_a_silent_session_ends(scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    plan = config(scripted.address, timeouts={"idle": "300ms"}) | {"log": {"access": {"to": str(log)}}}
    with penstock.Proxy(plan) as proxy:
        client, behind = opened(proxy, scripted)
        for _ in range(4):
            behind.send(b"x")
            client.read_some()
        client.read_until(lambda _: False)
        assert client.was_reset
        wait_for(lambda: ended(proxy, "idle") == 1, "it is counted")
        wait_for(lambda: log.exists() and log.read_text(), "it is logged")
    record = json.loads(log.read_text())
    assert record["total_ms"] >= 300
    assert {name: record[name] for name in ("protocol", "listener", "upstream", "endpoint", "ended", "bytes_out")} == {
        "protocol": "tcp",
        "listener": "db",
        "upstream": "main",
        "endpoint": scripted.address,
        "ended": "idle",
        "bytes_out": 4,
    }


def test_what_a_reload_leaves_without_a_listener_has_the_time_to_drain(scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    plan = config(scripted.address) | {"log": {"access": {"to": str(log)}}}
    plan["listeners"]["other"] = {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "main"}
    with penstock.Proxy(plan) as proxy:
        client, behind = opened(proxy, scripted)
        kept = connect(proxy.address("other"))
        kept_behind = scripted.connection(2)
        del plan["listeners"]["db"]
        plan["engine"]["drain_timeout"] = "400ms"
        began = time.monotonic()
        proxy.apply(plan)
        client.send(b"last words")
        behind.read_until(lambda got: got == b"last words")
        for side in (client, behind):
            side.read_until(lambda _: False)
            assert side.was_reset
        assert 0.4 <= time.monotonic() - began < 3
        # Those of other listeners go on, over further reloads as well.
        for number in range(3):
            plan["upstreams"]["main"]["timeouts"] = {"connect": f"{number + 1}s"}
            proxy.apply(plan)
        kept.send(b"still here")
        kept_behind.read_until(lambda got: got == b"still here")
        wait_for(lambda: log.exists() and log.read_text(), "it is logged")
    record = json.loads(log.read_text().splitlines()[0])
    assert (record["listener"], record["ended"], record["bytes_in"]) == ("db", "shutdown", 10)


def _pipes() -> int:
    """Ends of pipes that this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("pipe:")
    return count


def test_bulk_is_spliced_and_words_between_it_arrive(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address)) as proxy:
        client, behind = opened(proxy, scripted)
        before, spliced = _pipes(), False
        for one, other in ((client, behind), (behind, client)) * 2:
            bulk = os.urandom(6 << 20)
            one.send(bulk)
            for got in (len(bulk) // 2, len(bulk)):
                other.read_until(lambda seen, got=got: len(seen) >= got)
                spliced |= _pipes() > before
            assert other.received == bulk
            other.received.clear()
            for word in (b"a", b"few", b"words"):
                one.send(word)
                other.read_until(lambda seen, word=word: seen == word)
                other.received.clear()
        assert spliced
        row = proxy.stats().listeners[0]
        assert (row.bytes_in, row.bytes_out) == (2 * ((6 << 20) + 9), 2 * ((6 << 20) + 9))
        client.half_close()
        behind.read_until(lambda _: False)
        behind.half_close()
        client.read_until(lambda _: False)
        assert not client.was_reset
        wait_for(lambda: _pipes() == before, "pipes that nobody needs are closed")
