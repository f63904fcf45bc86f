"""Requests of one key go to one endpoint, whoever asks, and most keys stay when the endpoints change."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import pytest
from tests.load.origin import EchoOrigins
from tests.wire.peers import Refusal

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ["maglev", "ring", "rendezvous"]
PATHS = [f"/images/{number}.png" for number in range(120)]


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Four endpoints that say their names."""
    with EchoOrigins("a", "b", "c", "d") as origins:
        yield origins.addresses


def config(endpoints: list[Any], workers: int = 2, **balance: Any) -> dict[str, Any]:
    """One upstream that hashes over these endpoints."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": workers},
        "upstreams": {"u": {"endpoints": endpoints, "balance": balance}},
        "routes": [{"upstream": "u"}],
    }


def homes(proxy: penstock.Proxy, headers: dict[str, str] | None = None) -> dict[str, str]:
    """Who answers each path; every answer is a success."""
    found = {}
    for number, path in enumerate(PATHS):
        if number % 30 == 0:
            # Another connection may be another worker's.
            connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, body
        found[path] = body.split()[4]
    return found


@pytest.mark.parametrize("method", METHODS)
def test_keys_stay_when_an_endpoint_goes_or_the_list_is_turned(addresses: dict[str, str], method: str) -> None:
    all_of_them = list(addresses.values())
    with penstock.Proxy(config(all_of_them, hash="path", method=method)) as proxy:
        before = homes(proxy)
        assert set(before.values()) == {"a", "b", "c", "d"}
        assert homes(proxy) == before
        proxy.apply(config(all_of_them[::-1], hash="path", method=method))
        assert homes(proxy) == before
        proxy.apply(config(all_of_them[:3], hash="path", method=method))
        after = homes(proxy)
    moved = {path for path in PATHS if after[path] != before[path]}
    gone = {path for path in PATHS if before[path] == "d"}
    assert gone <= moved
    assert len(moved - gone) <= 0.02 * len(PATHS) + 1


@pytest.mark.parametrize("method", METHODS)
def test_keys_of_an_endpoint_that_refuses_go_to_the_next(addresses: dict[str, str], method: str) -> None:
    refusal = Refusal()
    with penstock.Proxy(config([*addresses.values(), refusal.address], hash="path", method=method)) as proxy:
        assert set(homes(proxy).values()) == {"a", "b", "c", "d"}
    refusal.close()


def test_the_key_may_be_joined_of_values_and_missing(addresses: dict[str, str]) -> None:
    key = 'header["X-Tenant"].lower() + "|" + client.ip'
    with penstock.Proxy(config(list(addresses.values()), hash=key)) as proxy:
        blue, same = homes(proxy, {"X-Tenant": "Blue"}), homes(proxy, {"x-tenant": "bLUE"})
        assert len(set(blue.values())) == 1
        assert blue == same
        others = {next(iter(homes(proxy, {"X-Tenant": f"t{n}"}).values())) for n in range(20)}
        assert len(others) > 1
        assert len(set(homes(proxy).values())) > 1, "without a key all endpoints are used"


def test_the_path_is_hashed_as_the_endpoint_gets_it(addresses: dict[str, str]) -> None:
    plan = config(list(addresses.values()), hash="path")
    with penstock.Proxy(plan) as proxy:
        before = homes(proxy)
    plan["routes"] = [{"upstream": "u", "filters": [{"rewrite_path": {"regex": "^.*$", "to": PATHS[0]}}]}]
    with penstock.Proxy(plan) as proxy:
        assert set(homes(proxy).values()) == {before[PATHS[0]]}
