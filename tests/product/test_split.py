"""Splits that remember: a user has one share on every worker and machine and over reloads; who names one gets it."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import pytest
from test_health import Endpoint, endpoints

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = [f"u{number}" for number in range(120)]


@pytest.fixture(scope="module")
def two() -> Iterator[list[Endpoint]]:
    """Two endpoints that say their names."""
    with endpoints("blue", "green") as started:
        yield started


def over(members: list[Endpoint], blue: int, green: int, **split: Any) -> dict[str, Any]:
    """A split over an upstream for each endpoint, by user."""
    weights = {"blue": blue, "green": green}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {one.name: {"endpoints": [f"127.0.0.1:{one.port}"]} for one in members},
        "routes": [{"split": {"shares": weights, "key": 'cookie["user"]', **split}}],
    }


def ask(proxy: penstock.Proxy, **headers: str) -> str:
    """Who answers a request on a connection of its own, which any worker may take."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
    connection.request("GET", "/", headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    name = answer.read().decode()
    assert answer.status == 200, name
    connection.close()
    return name


def homes(proxy: penstock.Proxy) -> dict[str, str]:
    """The share of each user."""
    return {user: ask(proxy, Cookie=f"a=b; user={user}") for user in USERS}


def test_a_user_has_one_share_on_every_machine_and_over_reloads(two: list[Endpoint]) -> None:
    with penstock.Proxy(over(two, 2, 1)) as proxy, penstock.Proxy(over(two[::-1], 2, 1)) as other:
        first = homes(proxy)
        assert set(first.values()) == {"blue", "green"}
        assert homes(proxy) == first
        assert homes(other) == first
        explained = {
            user: proxy.explain("GET", "http://shop.example/", [("Cookie", f"user={user}")]).share for user in USERS
        }
        assert {user: share.name for user, share in explained.items() if share} == first
        proxy.apply(over(two, 1, 1))
        second = homes(proxy)
        moves = {(first[user], second[user]) for user in USERS if first[user] != second[user]}
        assert moves == {("blue", "green")}, "the share that grew takes from the other, and gives nothing"
        proxy.apply(over(two, 2, 1))
        assert homes(proxy) == first


def test_whoever_names_a_share_gets_it(two: list[Endpoint]) -> None:
    override = {"header": "X-Canary", "cookie": "canary"}
    with penstock.Proxy(over(two, 1, 0, override=override)) as proxy:
        assert {ask(proxy, Cookie=f"user={user}") for user in USERS[:20]} == {"blue"}
        assert ask(proxy, X_Canary="green", Cookie="user=u1") == "green"
        assert ask(proxy, X_Canary="green", Cookie="canary=blue") == "green", "the header goes first"
        assert ask(proxy, X_Canary="gren", Cookie="user=u1; canary=green") == "green"
        assert ask(proxy, X_Canary="", Cookie="user=u1; canary=Green") == "blue"
        values = {"next": "green"}
        proxy.apply(over(two, 1, 0, override={"header": "X-Canary", "values": values}))
        assert (ask(proxy, X_Canary="next"), ask(proxy, X_Canary="green")) == ("green", "blue")


def test_without_a_key_each_request_is_drawn(two: list[Endpoint]) -> None:
    with penstock.Proxy(over(two, 1, 1)) as proxy:
        assert {ask(proxy) for _ in range(60)} == {"blue", "green"}


def test_the_tests_of_a_file_know_the_share(two: list[Endpoint]) -> None:
    config = over(two, 1, 0, override={"header": "X-Canary"})
    asked = {"url": "http://shop.example/", "headers": {"X-Canary": "green"}}
    with penstock.Proxy({**config, "tests": [{**asked, "upstream": "green"}]}):
        pass
    with (
        pytest.raises(penstock.ConfigError, match='expected upstream "blue", but it goes to green'),
        penstock.Proxy({**config, "tests": [{**asked, "upstream": "blue"}]}),
    ):
        pass
