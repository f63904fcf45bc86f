"""Requests wait while every endpoint has as many as it may, and get their turn, or are told that they do not."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from pathlib import Path

    from product import Origin


def over(origin: Origin, workers: int = 1, **queue: Any) -> dict[str, Any]:
    """One endpoint that takes one request at a time."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": workers},
        "upstreams": {"app": {"endpoints": [{"address": origin.address, "max_connections": 1}], "queue": queue}},
        "routes": [{"upstream": "app"}],
    }


def ask(proxy: penstock.Proxy, path: str = "/") -> http.client.HTTPConnection:
    """Send a request and do not wait for its answer."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
    connection.request("GET", path)
    return connection


def waiting(proxy: penstock.Proxy) -> int:
    """How many stand in line."""
    return proxy.stats().upstreams[0].waiting


@pytest.mark.parametrize("workers", [1, 2])
def test_who_waits_is_served_when_a_place_is_free(busy: Origin, workers: int) -> None:
    with penstock.Proxy(over(busy, workers, size=8)) as proxy:
        held = ask(proxy, "/slow")
        assert busy.entered.wait(5)
        line = []
        for number in range(8):
            line.append(ask(proxy, f"/{number}"))
            wait_for(lambda number=number: waiting(proxy) == number + 1, "one more waits")
        late = ask(proxy)
        answer = late.getresponse()
        assert (answer.status, answer.getheader("retry-after")) == (503, "1")
        late.close()
        busy.release.set()
        for connection in [held, *line]:
            assert connection.getresponse().read() == b"a"
            connection.close()
        assert waiting(proxy) == 0
        assert proxy.stats().failures["queue_full"] == 1
        # A client has its answer a moment before the request is over.
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 0, "nothing is under way")


def test_the_line_is_in_order(busy: Origin) -> None:
    with penstock.Proxy(over(busy)) as proxy:
        held = ask(proxy, "/slow")
        assert busy.entered.wait(5)
        order: list[int] = []

        def read(number: int, connection: http.client.HTTPConnection) -> None:
            connection.getresponse().read()
            order.append(number)
            connection.close()

        readers = []
        for number in range(6):
            connection = ask(proxy)
            wait_for(lambda number=number: waiting(proxy) == number + 1, "one more waits")
            readers.append(threading.Thread(target=read, args=(number, connection)))
        served = proxy.stats().upstreams[0].endpoints[0].requests
        busy.release.set()
        held.getresponse().read()
        for number, reader in enumerate(readers):
            reader.start()
            reader.join()
            assert order == list(range(number + 1))
        assert proxy.stats().upstreams[0].endpoints[0].requests == served + 6
        held.close()


def test_who_waits_too_long_is_told_so(busy: Origin, tmp_path: Path) -> None:
    plan = over(busy, timeout="100ms")
    plan["log"] = {"access": {"to": str(tmp_path / "access.log")}}
    with penstock.Proxy(plan) as proxy:
        held = ask(proxy, "/slow")
        assert busy.entered.wait(5)
        late = ask(proxy, "/late")
        answer = late.getresponse()
        assert (answer.status, answer.getheader("retry-after")) == (503, "1")
        late.close()
        assert proxy.stats().failures["queue_timeout"] == 1
        assert waiting(proxy) == 0
        busy.release.set()
        held.getresponse().read()
        held.close()
        log = tmp_path / "access.log"
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "both are logged")
        records = {row["target"]: row for row in map(json.loads, log.read_text().splitlines())}
        assert records["/late"]["queue_ms"] >= 100
        assert (records["/late"]["cause"], records["/slow"]["queue_ms"]) == ("queue_timeout", 0)


def test_who_goes_away_leaves_the_line(busy: Origin) -> None:
    with penstock.Proxy(over(busy)) as proxy:
        held = ask(proxy, "/slow")
        assert busy.entered.wait(5)
        gone = ask(proxy)
        wait_for(lambda: waiting(proxy) == 1, "one waits")
        stays = ask(proxy)
        wait_for(lambda: waiting(proxy) == 2, "two wait")
        # A close alone may be a half-close: the client may still read.
        gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
        wait_for(lambda: waiting(proxy) == 1, "one has left")
        busy.release.set()
        assert stays.getresponse().read() == b"a"
        held.getresponse().read()
        for connection in (held, stays):
            connection.close()
        assert proxy.stats().upstreams[0].endpoints[0].requests == 2


def test_a_place_that_nobody_gives_back_is_found(busy: Origin) -> None:
    with penstock.Proxy(over(busy)) as proxy:
        held = ask(proxy, "/slow")
        assert busy.entered.wait(5)
        waits = ask(proxy)
        wait_for(lambda: waiting(proxy) == 1, "one waits")
        plan = over(busy)
        plan["upstreams"]["app"]["endpoints"][0]["max_connections"] = 2
        proxy.apply(plan)
        assert waits.getresponse().read() == b"a"
        busy.release.set()
        held.getresponse().read()
        for connection in (held, waits):
            connection.close()
