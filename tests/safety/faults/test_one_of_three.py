"""One of three origins fails in every way there is, under a load of 64 connections: who only reads notices nothing."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import penstock
from tests.load.ceaseless import Asked, Ceaseless
from tests.product.waiting import wait_for
from tests.safety.faults.faulty import FaultyOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EJECT, MOST = 0.5, 1.0
GRACE = 3.0
"""Seconds from the beginning of a fault in which requests may fail."""
SLOW_FADES = 20.0
"""Seconds after which one answer after 2 s keeps no request away where others take 10 ms, with one for the machine."""


class Load(Ceaseless):
    """What failed, and who answered the rest."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.failed: list[Asked] = []
        self.answered: set[str] = set()
        self.by: Counter[str] = Counter()

    def failed_reads(self, since: float) -> list[Asked]:
        return [one for one in self.failed if one.done > since and one.method == "GET"]

    def record(self, asked: Asked) -> None:
        if asked.status == 200:
            self.answered.add(asked.token)
            self.by[asked.body] += 1
        else:
            self.failed.append(asked)


@pytest.fixture
def origins(tmp_path: Path) -> Iterator[list[FaultyOrigin]]:
    started = [FaultyOrigin(name, tmp_path) for name in ("one", "two", "three")]
    yield started
    for origin in started:
        origin.kill()


@pytest.mark.safety(160, 164, 166)
def test_reads_do_not_fail_and_writes_are_not_repeated(origins: list[FaultyOrigin]) -> None:
    victim = origins[0]
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {
            "app": {
                "endpoints": [origin.address for origin in origins],
                "outlier": {"eject": f"{EJECT * 1000:.0f}ms", "most": f"{MOST * 1000:.0f}ms"},
                "retry": {"per_try_timeout": "300ms", "on": [500]},
            }
        },
        "routes": [{"upstream": "app"}],
    }
    with penstock.Proxy(config) as proxy, Load(proxy.address("web")) as load:
        state = lambda: proxy.stats().upstreams[0].endpoints[0].state  # noqa: E731
        # Slowness comes last: p2c sends a slow endpoint little, and another fault would take long to show.
        for fault in ("kill", "refuse", "hang", "500", "slow"):
            wait_for(lambda: load.by.clear() or len(load.by) == 0, "a new count")
            wait_for(lambda: len(load.by) == 3, f"all three answer before {fault}")
            began = time.monotonic()
            if fault == "kill":
                victim.kill()
            else:
                victim.be(fault)
            wait_for(lambda: state() == "ejected", f"{fault}: it is ejected", GRACE)
            wait_for(lambda began=began: time.monotonic() > began + GRACE + 1, f"{fault}: it lasts")
            assert load.failed_reads(began + GRACE) == []
            load.by.clear()
            if fault == "kill":
                victim.start()
            else:
                victim.be("well")
            recovered = time.monotonic()
            wait_for(lambda: state() == "up", f"{fault}: it is let in", MOST + 2)
            # A POST is not sent again: one that it answered late p2c remembers, and prefers others for seconds.
            back = SLOW_FADES if fault == "slow" else MOST + 2
            wait_for(lambda: load.by["one"] > 0 and state() == "up", f"{fault}: it is back", back)
            wait_for(lambda r=recovered: time.monotonic() > r + 0.1, "a moment of it")
            assert load.failed_reads(recovered) == []
    executed = sum((origin.executed() for origin in origins), Counter[str]())
    assert len(load.answered) > 1000
    writes = {token: count for token, count in executed.items() if token.startswith("POST")}
    assert max(writes.values()) == 1
    assert {token for token in load.answered if token.startswith("POST")} <= set(writes)
