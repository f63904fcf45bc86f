"""Which requests are sent once more, and which never are: the endpoints count."""

from __future__ import annotations

import http.client
import threading
from contextlib import closing
from typing import Any

import pytest

import penstock
from tests.safety.faults.endpoint import Endpoint, config, ok
from tests.wire.peers import Refusal


class Scripted:
    """Answers with `status` and its name, or not at all; keeps the bodies that came."""

    def __init__(self, name: bytes, status: bytes | None = b"200 OK") -> None:
        self.name, self.status = name, status
        self.bodies: list[bytes] = []
        self.release = threading.Event()

    def __call__(self, head: bytes, body: bytes, number: int) -> bytes | None:
        self.bodies.append(body)
        if self.status is None:
            self.release.wait(10)
            return None
        return ok(self.name, b"Retry-After: 7", status=self.status)


def ask(proxy: penstock.Proxy, method: str = "GET", body: bytes | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
    connection.request(method, "/", body)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def first_then_second(first: Endpoint, second: Endpoint, **retry: Any) -> dict[str, Any]:
    """Requests go to `first`, as long as it is not given up."""
    return config(first.address, second.address, balance="first", outlier=False, retry=retry)


@pytest.mark.parametrize(
    ("method", "sent_on"), [("GET", True), ("PUT", True), ("DELETE", True), ("POST", False), ("PATCH", False)]
)
@pytest.mark.safety(163)
def test_another_endpoint_is_asked_for_statuses_that_are_named(method: str, sent_on: bool) -> None:
    a, b = Scripted(b"a", b"503 Busy"), Scripted(b"b")
    body = b"x" * 1000 if method in ("PUT", "POST", "PATCH") else None
    with Endpoint(a) as first, Endpoint(b) as second:
        with penstock.Proxy(first_then_second(first, second, on=[502, 503])) as proxy:
            answer = ask(proxy, method, body)
            assert (answer.status, answer.body) == ((200, b"b") if sent_on else (503, b"a"))
            assert (a.bodies, b.bodies) == ([body or b""], [body or b""] if sent_on else [])
            assert proxy.stats().upstreams[0].retries == int(sent_on)
        with penstock.Proxy(first_then_second(first, second)) as proxy:
            assert ask(proxy, method, body).status == 503


def test_an_answer_is_passed_on_where_no_other_can_be_asked() -> None:
    a, b = Scripted(b"a", b"503 Busy"), Scripted(b"b", b"503 Busy")
    with Endpoint(a) as first, Endpoint(b) as second:
        with penstock.Proxy(first_then_second(first, second, on=[503], attempts=5)) as proxy:
            answer = ask(proxy)
            assert (answer.status, answer.headers["Retry-After"], answer.body) == (503, "7", b"b")
            assert (len(a.bodies), len(b.bodies)) == (1, 1)
        plan = config(first.address, retry={"on": [503]})
        with penstock.Proxy(plan) as proxy:
            assert ask(proxy).body == b"a"
        assert len(a.bodies) == 2


@pytest.mark.safety(165)
def test_a_storm_ends_with_the_answers_of_the_endpoints() -> None:
    a, b = Scripted(b"a", b"503 Busy"), Scripted(b"b", b"503 Busy")
    with (
        Endpoint(a) as first,
        Endpoint(b) as second,
        penstock.Proxy(first_then_second(first, second, on=[503])) as proxy,
    ):
        answers = [ask(proxy) for _ in range(200)]
        assert {(answer.status, answer.headers["Retry-After"]) for answer in answers} == {(503, "7")}
        upstream = proxy.stats().upstreams[0]
        assert upstream.retries_refused > 0
        # A fifth, and three a second in any case.
        assert len(a.bodies) + len(b.bodies) <= 200 * 1.2 + 3 * 20


def test_an_endpoint_that_hangs_is_left_for_another_in_time() -> None:
    a, b = Scripted(b"a", None), Scripted(b"b")
    with Endpoint(a) as first, Endpoint(b) as second:
        plan = first_then_second(first, second, per_try_timeout="100ms")
        plan["upstreams"]["app"]["timeouts"] = {"head": "1s"}
        with penstock.Proxy(plan) as proxy:
            assert ask(proxy).body == b"b"
            assert ask(proxy, "PUT", b"y" * 60_000).body == b"b"
            assert b.bodies == [b"", b"y" * 60_000]
            # Neither what may not be repeated nor what was not kept.
            assert ask(proxy, "POST", b"z").status == 504
            assert ask(proxy, "PUT", b"y" * 70_000).status == 504
            assert len(b.bodies) == 2
        a.release.set()


def test_it_can_be_switched_off() -> None:
    with closing(Refusal()) as gone, Endpoint(Scripted(b"b")) as second:
        off = config(gone.address, second.address, balance="first", retry=False)
        with penstock.Proxy(off) as proxy:
            assert ask(proxy).status == 502
            assert proxy.stats().upstreams[0].retries == 0
