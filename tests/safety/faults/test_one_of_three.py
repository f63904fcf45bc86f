"""One of three origins fails in every way there is, under a load of 64 connections: who only reads notices nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.product.waiting import wait_for
from tests.safety.faults.faulty import FaultyOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTIONS = 64
EJECT, MOST = 0.5, 1.0
GRACE = 3.0
"""Seconds from the beginning of a fault in which requests may fail."""


@dataclass
class Load:
    """Connections that ask without end; every eighth request is a POST."""

    address: tuple[str, int]
    failed: list[tuple[float, str, str]] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    by: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def failed_reads(self, since: float) -> list[tuple[float, str, str]]:
        return [one for one in self.failed if one[0] > since and one[1].startswith("GET")]

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask(number) for number in range(CONNECTIONS)))

    async def _ask(self, connection: int) -> None:
        streams, number = None, 0
        while not self._stop.is_set():
            number += 1
            method = "POST" if number % 8 == 0 else "GET"
            token = f"{method}-{connection}-{number}"
            streams = streams or await asyncio.open_connection(*self.address)
            answer = await self._once(
                streams, f"{method} / HTTP/1.1\r\nHost: x\r\nX-Token: {token}\r\nContent-Length: 0\r\n\r\n"
            )
            if answer is not None and answer[0] == 200:
                self.answered.add(token)
                self.by[answer[1]] += 1
            else:
                self.failed.append((time.monotonic(), token, str(answer)))
            if answer is None or answer[2]:
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    @staticmethod
    async def _once(streams: Any, request: str) -> tuple[int, str, bool] | None:
        """Status, body, and whether the connection ends; `None` if there was no answer."""
        reader, writer = streams
        try:
            writer.write(request.encode())
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
            body = (await reader.readexactly(length)).decode()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return None
        return int(head.split(" ", 2)[1]), body, "connection: close" in head


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
            wait_for(lambda: load.by["one"] > 0 and state() == "up", f"{fault}: it is back", MOST + 2)
            wait_for(lambda r=recovered: time.monotonic() > r + 0.1, "a moment of it")
            assert load.failed_reads(recovered) == []
    executed = sum((origin.executed() for origin in origins), Counter[str]())
    assert len(load.answered) > 1000
    writes = {token: count for token, count in executed.items() if token.startswith("POST")}
    assert max(writes.values()) == 1
    assert {token for token in load.answered if token.startswith("POST")} <= set(writes)
