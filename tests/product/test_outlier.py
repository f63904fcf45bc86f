"""Ejection by what requests say: when, for how long, and what keeps an endpoint in."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, ok
from tests.wire.peers import Refusal

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.engine.stats import EndpointStats

OUTLIER = {"failures": 5, "within": "10s", "eject": "300ms", "most": "10s"}


class Scripted:
    """Answers its name with `status`, after `wait` seconds; probes get 200 unless `ill`."""

    def __init__(self, name: bytes) -> None:
        self.name, self.status, self.wait, self.asked, self.ill = name, b"200 OK", 0.0, 0, False

    def __call__(self, head: bytes, body: bytes, number: int) -> bytes:
        if head.startswith(b"GET /healthz "):
            return ok(self.name, status=b"500 Ill" if self.ill else b"200 OK")
        self.asked += 1
        threading.Event().wait(self.wait)
        return ok(self.name, status=self.status)


Two = tuple[Scripted, Scripted, list[str]]


@pytest.fixture
def two() -> Iterator[Two]:
    a, b = Scripted(b"a"), Scripted(b"b")
    with Endpoint(a) as first, Endpoint(b) as second:
        yield a, b, [first.address, second.address]


def config(addresses: list[Any], **upstream: Any) -> dict[str, Any]:
    upstream = {"balance": "round_robin", "outlier": OUTLIER, **upstream}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 4},
        "upstreams": {"app": {"endpoints": addresses, **upstream}},
        "routes": [{"upstream": "app"}],
    }


def ask(proxy: penstock.Proxy) -> tuple[int, str]:
    """Status and body of one request over a connection of its own, so that every worker gets some."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
    connection.request("GET", "/")
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, body


def rows(proxy: penstock.Proxy) -> tuple[EndpointStats, ...]:
    return proxy.stats().upstreams[0].endpoints


def ask_until_ejected(proxy: penstock.Proxy) -> EndpointStats:
    """Ask until the first endpoint is ejected; what is then said of it."""
    wait_for(lambda: ask(proxy) and rows(proxy)[0].state == "ejected", "the first endpoint is ejected")
    return rows(proxy)[0]


def test_five_failures_in_a_row_eject_and_the_next_ejection_is_longer(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "penstock")
    a, _, addresses = two
    failed = "requests failed, the last with status 503"
    with penstock.Proxy(config(addresses)) as proxy:
        assert {ask(proxy)[1] for _ in range(40)} == {"a", "b"}
        a.status = b"503 Busy"
        asked = a.asked
        row = ask_until_ejected(proxy)
        # All workers counted together: not five of each.
        assert a.asked - asked == 5
        assert row.reason == failed
        assert (row.ejections, row.ejected_for is not None and row.ejected_for <= 0.3) == (1, True)
        assert {ask(proxy) for _ in range(20)} == {(200, "b")}
        name = f"app/{addresses[0]} is"
        trial = f"{name} on trial: its ejection is over"
        wait_for(lambda: trial in caplog.messages, "the ejection ends")
        assert rows(proxy)[0].state == "up"
        asked = a.asked
        row = ask_until_ejected(proxy)
        # On trial: one request at a time of each worker, and the first that fails is enough.
        assert 1 <= a.asked - asked <= 4
        assert (row.ejections, row.ejected_for is not None and 0.3 < row.ejected_for <= 0.6) == (2, True)
        a.status = b"200 OK"
        wait_for(lambda: ask(proxy) == (200, "a"), "it is back, and answers")
        assert [row.state for row in rows(proxy)] == ["up", "up"]
        told = [f"{name} ejected for 0.3 s: {failed}", trial, f"{name} ejected for 0.6 s: {failed}", trial]
        told.append(f"{name} back: a request went well")
        wait_for(lambda: [line for line in caplog.messages if line.startswith(name)] == told, f"the log tells {told}")


@pytest.mark.safety(166)
def test_one_that_is_back_from_an_ejection_starts_slowly(two: Two) -> None:
    a, _, addresses = two
    members = [{"address": addresses[0], "slow_start": "3s"}, addresses[1]]
    # Longer than weights are looked at: it comes back with the weight of one that is out.
    plan = config(members, outlier={**OUTLIER, "eject": "2s"})
    plan["engine"]["workers"] = 1
    with penstock.Proxy(plan) as proxy:
        shares = lambda: Counter(ask(proxy)[1] for _ in range(40))  # noqa: E731
        even = {"a": 20, "b": 20}
        wait_for(lambda: shares() == even, "the new one is warm")
        a.status = b"503 Busy"
        ask_until_ejected(proxy)
        a.status = b"200 OK"
        wait_for(lambda: ask(proxy) == (200, "a"), "it is back")
        assert shares()["a"] < 10
        wait_for(lambda: shares() == even, "it is warm again")


def test_a_success_in_between_begins_the_count_anew(two: Two) -> None:
    a, _, addresses = two
    with penstock.Proxy(config(addresses)) as proxy:
        for _ in range(5):
            a.status = b"500 X"
            asked = a.asked
            wait_for(lambda asked=asked: ask(proxy) and a.asked >= asked + 3, "it fails three times")
            a.status = b"200 OK"
            wait_for(lambda: ask(proxy) == (200, "a"), "and answers once")
        assert rows(proxy)[0].ejections == 0


def test_neither_the_last_is_ejected_nor_more_than_the_share(two: Two) -> None:
    a, b, addresses = two
    a.status = b.status = b"500 X"
    with penstock.Proxy(config(addresses)) as proxy:
        assert {ask(proxy)[0] for _ in range(40)} == {500}
        assert [row.state for row in rows(proxy)].count("ejected") == 1
    with penstock.Proxy(config(addresses[:1])) as proxy:
        assert {ask(proxy)[0] for _ in range(20)} == {500}
        assert rows(proxy)[0].state == "up"


def test_it_can_be_switched_off_and_a_reload_that_does_ends_ejections(two: Two) -> None:
    a, _, addresses = two
    a.status = b"500 X"
    with penstock.Proxy(config(addresses, outlier={**OUTLIER, "eject": "10s"})) as proxy:
        ask_until_ejected(proxy)
        proxy.apply(config(addresses, outlier=False))
        wait_for(lambda: rows(proxy)[0].state == "up", "it is not ejected any more")
        assert {ask(proxy)[0] for _ in range(40)} == {200, 500}
        assert rows(proxy)[0].state == "up"


@pytest.mark.safety(167)
def test_if_one_is_ejected_and_the_others_are_down_all_are_used(two: Two) -> None:
    a, b, addresses = two
    a.status, check = b"500 X", {"path": "/healthz", "interval": "50ms", "fall": 2}
    plan = config(addresses, outlier={**OUTLIER, "eject": "10s"}, health_check=check)
    with penstock.Proxy(plan) as proxy:
        ask_until_ejected(proxy)
        assert not proxy.stats().upstreams[0].all_down
        b.ill = True
        wait_for(lambda: proxy.stats().upstreams[0].all_down, "none is left")
        assert {ask(proxy)[1] for _ in range(20)} == {"a", "b"}


def test_connections_that_fail_and_answers_that_hang_count(two: Two) -> None:
    _, b, addresses = two
    with closing(Refusal()) as gone, penstock.Proxy(config([gone.address, addresses[1]])) as proxy:
        assert ask_until_ejected(proxy).reason == "requests failed, the last by connect_refused"
        assert b.asked > 5
    release = threading.Event()
    with Endpoint(lambda *_: b"" if release.wait(10) else None) as hung:
        plan = config([hung.address, addresses[1]], timeouts={"head": "50ms"})
        with penstock.Proxy(plan) as proxy:
            assert ask_until_ejected(proxy).reason == "requests failed, the last by upstream_head_timeout"
        release.set()


@pytest.mark.safety(166)
def test_an_endpoint_that_is_far_slower_than_the_others_is_ejected(two: Two) -> None:
    a, _, addresses = two
    a.wait = 0.05
    plan = config(addresses, outlier={**OUTLIER, "eject": "10s", "latency": {"factor": 3, "least": "20ms"}})
    with penstock.Proxy(plan) as proxy:
        row = ask_until_ejected(proxy)
        assert row.reason == "far slower than the others"
