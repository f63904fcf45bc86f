"""Where requests go: shares of a split, weights of endpoints, and away from what is slow or refuses."""

from __future__ import annotations

import http.client
from collections import Counter
from typing import TYPE_CHECKING, Any, get_args

import pytest
from tests.load.origin import EchoOrigins
from tests.wire.peers import Refusal

import penstock
from penstock.config.model.balance import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Three endpoints that say their names."""
    with EchoOrigins("a", "b", "c") as origins:
        yield origins.addresses


def _count(config: dict[str, Any], requests: int) -> Counter[str]:
    base = {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "engine": {"workers": 1}}
    with penstock.Proxy({**base, **config}) as proxy:
        connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
        seen: Counter[str] = Counter()
        for _ in range(requests):
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read().decode()
            assert answer.status == 200, body
            seen[body.split()[4]] += 1
        connection.close()
    return seen


def test_round_robin_follows_weights_exactly(addresses: dict[str, str]) -> None:
    endpoints = [
        {"address": addresses["a"], "weight": 3},
        {"address": addresses["b"], "weight": 1},
        {"address": addresses["c"], "weight": 2},
    ]
    upstream = {"endpoints": endpoints, "balance": "round_robin"}
    seen = _count({"upstreams": {"u": upstream}, "routes": [{"upstream": "u"}]}, 600)
    assert seen == {"a": 300, "b": 100, "c": 200}


def test_p2c_uses_every_endpoint(addresses: dict[str, str]) -> None:
    upstream = {"endpoints": list(addresses.values()), "balance": "p2c"}
    seen = _count({"upstreams": {"u": upstream}, "routes": [{"upstream": "u"}]}, 600)
    # balance/simulation.rs judges how evenly, without a clock: here one late answer rightly sends others elsewhere.
    assert set(seen) == {"a", "b", "c"}


def test_a_split_follows_its_shares(addresses: dict[str, str]) -> None:
    upstreams = {"stable": {"endpoints": [addresses["a"]]}, "canary": {"endpoints": [addresses["b"]]}}
    split = [{"upstream": "stable", "weight": 90}, {"upstream": "canary", "weight": 10}]
    seen = _count({"upstreams": upstreams, "routes": [{"split": split}]}, 2000)
    # Ten standard deviations: a right split fails once in more runs than there will be.
    assert 66 <= seen["b"] <= 334
    assert set(seen) == {"a", "b"}


def test_the_first_takes_all(addresses: dict[str, str]) -> None:
    upstream = {"endpoints": list(addresses.values()), "balance": "first"}
    assert _count({"upstreams": {"u": upstream}, "routes": [{"upstream": "u"}]}, 50) == {"a": 50}


@pytest.mark.parametrize("balance", [name for name in get_args(Policy) if name != "first"])
def test_no_request_fails_while_one_endpoint_refuses(addresses: dict[str, str], balance: str) -> None:
    refusal = Refusal()
    upstream = {"endpoints": [addresses["a"], refusal.address, addresses["b"]], "balance": balance}
    seen = _count({"upstreams": {"u": upstream}, "routes": [{"upstream": "u"}]}, 300)
    refusal.close()
    assert set(seen) == {"a", "b"}
