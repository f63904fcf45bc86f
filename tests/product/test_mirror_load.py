"""Mirrors and maintenance under a load of 64 connections, with reloads in between and a shadow that fails in every way:
each answer is that of the configuration it met, and none waits for a copy."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tests.load.ceaseless import Asked, Ceaseless, client_of
from tests.safety.faults.faulty import FaultyOrigin
from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.safety.faults.faulty import Mode

WAIT = 60.0
"""Seconds that a copy may wait for the shadow; nobody else may for as long as a tenth of it."""
EXCHANGES = 700
"""Of each phase, so that shares can be told."""
SIGMAS = 6
"""How far a share may be from its mean; chance is beyond that once in 10^9 runs."""


@dataclass(frozen=True)
class Setting:
    """What holds for a while."""

    version: int
    percent: int
    written: bool
    """Whether maintenance is on in the file."""
    on: bool
    """Whether it is on."""
    shadow: Mode = "well"


STEPS = [
    Setting(0, 0, written=False, on=False),
    Setting(1, 100, written=False, on=False),
    Setting(1, 100, written=False, on=True),  # by order
    Setting(2, 30, written=False, on=True, shadow="hang"),  # the order outlives a reload
    Setting(2, 30, written=False, on=False, shadow="hang"),
    Setting(3, 50, written=True, on=True, shadow="refuse"),
    Setting(3, 50, written=True, on=False, shadow="refuse"),
    Setting(4, 100, written=False, on=False, shadow="500"),
    Setting(5, 100, written=True, on=True),
    Setting(6, 40, written=False, on=False),
]


@dataclass(frozen=True)
class Phase:
    """A setting, from when it was asked for, when it was in force, to when the next was asked for and was in force."""

    setting: Setting
    asked: float
    begins: float
    ends: float
    over: float


class Clients(Ceaseless):
    """A quarter may pass always, a quarter asks for another route."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.all: list[Asked] = []

    def head(self, token: str) -> tuple[str, str]:
        return f"{_path(token)}?{token}", "X-Office: 1\r\n" if _is_excepted(token) else ""

    def record(self, asked: Asked) -> None:
        self.all.append(asked)


def _is_excepted(token: str) -> bool:
    return client_of(token) % 4 == 0


def _path(token: str) -> str:
    return "/other" if client_of(token) % 4 == 3 else "/shop"


@pytest.fixture
def origins(tmp_path: Path) -> Iterator[list[FaultyOrigin]]:
    """One that is asked, and a shadow."""
    started = [FaultyOrigin(name, tmp_path) for name in ("one", "shadow")]
    yield started
    for origin in started:
        origin.kill()


def _config(origins: list[FaultyOrigin], log: Path, setting: Setting) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {
            "app": {"endpoints": [origins[0].address]},
            "shadow": {
                "endpoints": [origins[1].address],
                "timeouts": {"connect": f"{WAIT:.0f}s", "head": f"{WAIT:.0f}s"},
            },
        },
        "routes": [
            {
                "name": "shop",
                "match": 'path == "/shop"',
                "upstream": "app",
                "mirror": {"upstream": "shadow", "percent": setting.percent},
                "maintenance": {"on": setting.written, "except": 'header["X-Office"] == "1"', "retry_after": "60s"},
                "filters": [{"set_response_header": {"X-Version": str(setting.version)}}],
            },
            {"name": "other", "upstream": "app"},
        ],
        "log": {"access": {"to": str(log)}},
    }


def _walk(proxy: penstock.Proxy, load: Clients, origins: list[FaultyOrigin], log: Path) -> list[Phase]:
    """Go through all settings."""
    entered = [(0.0, time.monotonic())]
    before = STEPS[0]
    for setting in (*STEPS[1:], None):
        held = len(load.all)
        wait_for(lambda held=held: len(load.all) > held + EXCHANGES, f"exchanges under {before}", 60)
        asked = time.monotonic()
        if setting is None:
            entered.append((asked, asked))
            break
        if setting.version != before.version:
            proxy.apply(_config(origins, log, setting))
        if setting.on != (before.on if setting.written == before.written else setting.written):
            proxy.maintenance(setting.on, "shop")
        entered.append((asked, time.monotonic()))
        if setting.shadow != before.shadow:
            origins[1].be(setting.shadow)
        before = setting
    return [Phase(step, *entered[at], *entered[at + 1]) for at, step in enumerate(STEPS)]


def _is_right(asked: Asked, setting: Setting) -> bool:
    """Whether this is the answer under the setting."""
    if setting.on and _path(asked.token) == "/shop" and not _is_excepted(asked.token):
        return (asked.status, asked.field("retry-after"), asked.field("x-token")) == (503, "60", None)
    version = str(setting.version) if _path(asked.token) == "/shop" else None
    own = (asked.field("x-token"), asked.field("x-version")) == (asked.token, version)
    return asked.status == 200 and asked.body == "one" and own


def _records(log: Path) -> dict[str, dict[str, Any]]:
    """Of the access log, by token."""
    return {line["target"].partition("?")[2]: line for line in map(json.loads, log.read_text("utf-8").splitlines())}


def test_answers_are_of_the_configuration_they_met_and_copies_cost_nothing(
    origins: list[FaultyOrigin], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    with penstock.Proxy(_config(origins, log, STEPS[0])) as proxy:
        with Clients(proxy.address("web")) as load:
            phases = _walk(proxy, load, origins, log)
        mirror = lambda: proxy.stats().upstreams[1].mirror  # noqa: E731
        wait_for(lambda: (found := mirror()) is not None and found.in_flight == 0, "all copies ended")
        counts = mirror()
        assert counts is not None
        wait_for(lambda: proxy.stats().access_log.records >= len(load.all), "all were logged")
        assert proxy.stats().panics == 0
        assert proxy.drain(20.0)
    records = _records(log)
    assert len(load.all) == len(records) > EXCHANGES * len(STEPS)

    # Each answer is right under a setting that was in force at some moment between question and answer.
    wrong = [
        asked
        for asked in load.all
        if not any(
            _is_right(asked, phase.setting)
            for phase in phases
            if phase.asked <= asked.done and phase.over >= asked.sent
        )
    ]
    assert wrong == []
    slowest = max(load.all, key=lambda asked: asked.done - asked.sent)
    assert slowest.done - slowest.sent < WAIT / 10, slowest

    # Who was refused was executed nowhere, who was answered once, and copied at most once.
    executed, copied = (origin.executed() for origin in origins)
    answered = {asked.token for asked in load.all if asked.status == 200}
    assert executed == Counter(answered)
    shop = {token for token in answered if _path(token) == "/shop"}
    assert set(copied.values()) == {1}
    assert set(copied) <= {token for token in shop if records[token].get("mirror_copy") == "sent"}

    drawn = {token for token, record in records.items() if "mirror" in record}
    assert drawn <= shop
    ended = counts.answered + counts.failed + counts.dropped + counts.unfit
    assert (ended, counts.unfit) == (len(drawn), 0)
    for phase in phases:
        within = [asked for asked in load.all if asked.sent > phase.begins and asked.done < phase.ends]
        could = [asked.token for asked in within if asked.status == 200 and _path(asked.token) == "/shop"]
        share, mean = phase.setting.percent / 100, len(could) * phase.setting.percent / 100
        seen = sum(token in drawn for token in could)
        assert len(within) > EXCHANGES / 2, phase
        assert abs(seen - mean) <= SIGMAS * math.sqrt(mean * (1 - share)), (phase, seen, mean)
        if phase.setting.shadow == "well" and phase.setting.version in (1, 5):
            # All that were not dropped for want of room came to the shadow.
            assert {token for token in could if records[token]["mirror_copy"] == "sent"} <= set(copied), phase
