"""Endpoints that refuse, swallow, break off, or fail altogether; and one that is taken away."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

import penstock
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, config, ok
from tests.wire.peers import Refusal, connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection as Pipe

_SPAWN = multiprocessing.get_context("spawn")


def _named(name: bytes) -> Endpoint:
    return Endpoint(lambda head, body, number: ok(name))


def _ask(proxy: penstock.Proxy, method: str = "GET", target: str = "/", body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
    connection.request(method, target, body)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def _row(proxy: penstock.Proxy, address: str) -> penstock.engine.stats.EndpointStats:
    return next(row for row in proxy.stats().upstreams[0].endpoints if row.address == address)


@pytest.mark.safety(160)
@pytest.mark.parametrize("balance", ["p2c", "round_robin"])
def test_one_that_refuses_is_left_for_the_next(balance: str) -> None:
    refusal = Refusal()
    with _named(b"well") as well, penstock.Proxy(config(refusal.address, well.address, balance=balance)) as proxy:
        assert [_ask(proxy) for _ in range(50)] == [(200, b"well")] * 50
        # Avoided after the first: not every second request finds out anew.
        assert 1 <= _row(proxy, refusal.address).connects < 10
        assert proxy.stats().upstreams[0].retries == _row(proxy, refusal.address).failures
    refusal.close()


@pytest.fixture
def blackhole() -> Iterator[str]:
    """An address that swallows every SYN: its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(16):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.2)
            try:
                filler.connect(address)
            except TimeoutError:
                break
        else:
            pytest.fail("this system takes connections beyond a full backlog")
        yield f"{address[0]}:{address[1]}"


@pytest.mark.safety(161)
def test_one_that_swallows_is_left_after_the_connect_timeout_and_then_avoided(blackhole: str) -> None:
    with _named(b"well") as well:
        plan = config(blackhole, well.address, balance="round_robin", timeouts={"connect": "300ms"})
        with penstock.Proxy(plan) as proxy:
            took = []
            for _ in range(20):
                began = time.monotonic()
                assert _ask(proxy) == (200, b"well")
                took.append(time.monotonic() - began)
            row = _row(proxy, blackhole)
            assert 0.3 <= max(took) < 1.5
            assert row.connects == row.failures
            # The first one waited; the others of its second did not.
            assert sum(wait >= 0.3 for wait in took) == row.failures <= 2


@pytest.mark.safety(162)
@pytest.mark.parametrize("resets", [False, True])
def test_a_kept_connection_that_ends_under_a_get_costs_nothing(resets: bool) -> None:
    def once(head: bytes, body: bytes, number: int) -> bytes | None:
        return ok(b"fresh") if number == 0 else None

    with Endpoint(once, resets=resets) as origin, penstock.Proxy(config(origin.address)) as proxy:
        for number in range(40):
            assert _ask(proxy, target=f"/{number}") == (200, b"fresh")
        assert len(origin.targets) > 40, "no kept connection was used: nothing was shown"
        assert max(origin.targets.count(target) for target in origin.targets) == 2
        # Each retry found its own stale connection: the budget is not for them.
        assert proxy.stats().upstreams[0].retries_refused == 0


@pytest.mark.safety(163)
@pytest.mark.parametrize("resets", [False, True])
def test_a_kept_connection_that_ends_under_a_post_never_runs_it_twice(resets: bool) -> None:
    def once(head: bytes, body: bytes, number: int) -> bytes | None:
        return ok(b"fresh") if number == 0 else None

    with Endpoint(once, resets=resets) as origin, penstock.Proxy(config(origin.address)) as proxy:
        answers = [_ask(proxy, "POST", f"/{number}", b"x" * 1000) for number in range(40)]
        statuses = {status for status, _ in answers}
        assert statuses == {200, 502}
        assert sorted(origin.targets) == sorted(b"/%d" % number for number in range(40))


def _half_an_answer(pipe: Pipe, chunked: bool) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    pipe.send(listener.getsockname()[1])
    sock, _ = listener.accept()
    sock.recv(65536)
    framing = b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" if chunked else b"Content-Length: 100000\r\n\r\n"
    sock.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"x" * 500)
    pipe.recv()  # until it is killed


@pytest.mark.safety(164)
@pytest.mark.parametrize("chunked", [False, True])
def test_one_that_is_killed_amid_its_answer_shows(chunked: bool) -> None:
    ours, theirs = _SPAWN.Pipe()
    victim = _SPAWN.Process(target=_half_an_answer, args=(theirs, chunked), daemon=True)
    victim.start()
    assert ours.poll(20)
    plan = config(f"127.0.0.1:{ours.recv()}")
    with _named(b"other") as other:
        plan["upstreams"]["app"]["endpoints"].append({"address": other.address, "weight": 0})
        plan["upstreams"]["spare"] = {"endpoints": [other.address]}
        plan["routes"].insert(0, {"match": 'path == "/spare"', "upstream": "spare"})
        with penstock.Proxy(plan) as proxy:
            client = connect(proxy.address("web"))
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_until(lambda got: got.count(b"x") == 500)
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            client.read_until(lambda _: False)
            _, _, body = bytes(client.received).partition(b"\r\n\r\n")
            assert body.count(b"x") == 500
            assert not body.endswith(b"0\r\n\r\n"), "a cut answer ended like a whole one"
            # Nobody else was asked, nobody else noticed, and the connection was not kept.
            assert other.targets == []
            assert _ask(proxy, target="/spare") == (200, b"other")
            assert proxy.stats().failures["upstream_cut"] == 1
            row = proxy.stats().upstreams[0].endpoints[0]
            assert (row.in_flight, row.idle, row.requests) == (0, 0, 1)
            client.close()
    victim.join(5)


@pytest.mark.safety(165)
def test_where_everything_fails_retries_are_a_fifth() -> None:
    requests = 600
    broken = [Endpoint(lambda head, body, number: None) for _ in range(3)]
    with ExitStack() as stack:
        for endpoint in broken:
            stack.enter_context(endpoint)
        proxy = stack.enter_context(penstock.Proxy(config(*(endpoint.address for endpoint in broken))))
        began = time.monotonic()
        took = []
        for _ in range(requests):
            started = time.monotonic()
            assert _ask(proxy)[0] == 502
            took.append(time.monotonic() - started)
        seconds = int(time.monotonic() - began) + 1
        came = sum(len(endpoint.targets) for endpoint in broken)
        upstream = proxy.stats().upstreams[0]
        assert came - requests == upstream.retries
        assert upstream.retries <= requests // 5 + 3 * seconds
        assert upstream.retries + upstream.retries_refused == requests
        assert sorted(took)[requests // 2] < 0.05


@pytest.mark.safety(165)
def test_where_nobody_listens_the_answer_is_quick_and_attempts_are_few() -> None:
    refusals = [Refusal() for _ in range(3)]
    with penstock.Proxy(config(*(refusal.address for refusal in refusals))) as proxy:
        began = time.monotonic()
        assert {_ask(proxy)[0] for _ in range(300)} == {502}
        seconds = time.monotonic() - began
        connects = sum(row.connects for row in proxy.stats().upstreams[0].endpoints)
        assert connects <= 300 + 60 + 3 * (int(seconds) + 1)
        assert seconds < 10
    for refusal in refusals:
        refusal.close()


@pytest.mark.safety(165)
def test_a_busy_endpoints_own_answer_is_passed_on_and_not_repeated() -> None:
    busy = Endpoint(lambda head, body, number: ok(b"busy", b"Retry-After: 7", status=b"503 Service Unavailable"))
    with busy, _named(b"well") as well, penstock.Proxy(config(busy.address, well.address)) as proxy:
        connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
        seen = []
        for _ in range(50):
            connection.request("GET", "/")
            answer = connection.getresponse()
            seen.append((answer.status, answer.getheader("Retry-After"), answer.read()))
        connection.close()
        assert set(seen) == {(503, "7", b"busy"), (200, None, b"well")}
        assert len(busy.targets) + len(well.targets) == 50
        assert proxy.stats().upstreams[0].retries == 0


@pytest.mark.safety(168)
def test_one_that_is_taken_away_finishes_and_gets_nothing_new() -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(head: bytes, body: bytes, number: int) -> bytes:
        if b"/slow" in head:
            entered.set()
            release.wait(20)
        return ok(b"leaving")

    with Endpoint(slow) as leaving, _named(b"staying") as staying, penstock.Proxy(config(leaving.address)) as proxy:
        # Two pooled connections beside the one in use.
        clients = [connect(proxy.address("web")) for _ in range(3)]
        for client in clients:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_until(lambda got: got.endswith(b"leaving"))
            client.received.clear()
        clients[0].send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert entered.wait(10)
        seen = len(leaving.targets)
        proxy.apply(config(staying.address))
        for _ in range(5):
            for client in clients[1:]:
                client.received.clear()
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                client.read_until(lambda got: got.endswith(b"staying"))
        wait_for(lambda: leaving.open == 1, "pooled connections to the one that left are closed")
        release.set()
        clients[0].read_until(lambda got: got.endswith(b"leaving"))
        assert len(leaving.targets) == seen
        wait_for(lambda: leaving.open == 0, "the last connection is not kept")
        for client in clients:
            client.close()
