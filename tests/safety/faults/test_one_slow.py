"""One of three origins takes two seconds for each answer, under a load of 64 connections: latency alone ejects it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.product.waiting import wait_for
from tests.safety.faults.faulty import FaultyOrigin
from tests.safety.faults.test_one_of_three import Load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EJECT = 60.0
TRIES = 3


@pytest.fixture
def origins(tmp_path: Path) -> Iterator[list[FaultyOrigin]]:
    started = [FaultyOrigin(name, tmp_path) for name in ("one", "two", "three")]
    yield started
    for origin in started:
        origin.kill()


def _config(origins: list[FaultyOrigin], balance: str) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {
            "app": {
                "endpoints": [origin.address for origin in origins],
                "balance": balance,
                "outlier": {"eject": f"{EJECT:.0f}s", "latency": {}},
            }
        },
        "routes": [{"upstream": "app"}],
    }


def _until_ejected(origins: list[FaultyOrigin], balance: str) -> float:
    """Seconds from the first slow answer that could be until the origin is out, by the proxy's own clock."""
    origins[0].be("well")
    with penstock.Proxy(_config(origins, balance)) as proxy, Load(proxy.address("web")) as load:
        wait_for(lambda: len(load.by) == 3, "all three answer")
        rows = lambda: proxy.stats().upstreams[0].endpoints  # noqa: E731
        before = time.monotonic()
        origins[0].be("slow")
        wait_for(lambda: rows()[0].state == "ejected", "the slow one is ejected")
        now, row = time.monotonic(), rows()[0]
        assert (row.reason, [one.state for one in rows()]) == ("far slower than the others", ["ejected", "up", "up"])
        assert row.ejected_for is not None
        load.by.clear()
        wait_for(lambda: load.by["two"] > 100 and load.by["three"] > 100, "the others serve on")
        assert load.failed == []
        return now - before - (EJECT - row.ejected_for)


@pytest.mark.safety(166)
@pytest.mark.parametrize("balance", ["round_robin", "p2c"])
def test_one_that_becomes_slow_is_out_within_a_second(origins: list[FaultyOrigin], balance: str) -> None:
    # The rule needs 0.8 s. A machine that is busy with something else may delay it once, not every time.
    took: list[float] = []
    while len(took) < TRIES and (not took or took[-1] >= 1.0):
        took.append(_until_ejected(origins, balance))
    assert took[-1] < 1.0, took


@pytest.mark.safety(166)
def test_nobody_is_out_when_all_become_equally_slow(origins: list[FaultyOrigin]) -> None:
    with penstock.Proxy(_config(origins, "round_robin")) as proxy, Load(proxy.address("web")) as load:
        wait_for(lambda: len(load.by) == 3, "all three answer")
        for origin in origins:
            origin.be("slow")
        load.by.clear()
        # Answers of two rounds of two seconds: each would be time enough to eject two times.
        wait_for(lambda: sum(load.by.values()) >= 128, "two rounds of slow answers")
        assert [row.ejections for row in proxy.stats().upstreams[0].endpoints] == [0, 0, 0]
