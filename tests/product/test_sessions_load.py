"""Sessions under a load of 64 clients while endpoints are drained, die, come back and are taken away: who is bound
stays, who must move moves once, and a drain costs nobody an answer."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from tests.load.ceaseless import CONNECTIONS, Asked, Ceaseless, client_of
from tests.safety.faults.faulty import FaultyOrigin
from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUND = 15 * CONNECTIONS
"""Exchanges in which every client asked a few times, and sent something."""
GRACE = 3.0
"""Seconds from a crash in which requests may fail."""
EJECT, MOST = 0.5, 1.0


class Browsers(Ceaseless):
    """Each keeps its cookie; every eighth is new with each request."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address)
        self.all: list[Asked] = []
        self.cookies: dict[int, str] = {}

    def head(self, token: str) -> tuple[str, str]:
        cookie = self.cookies.get(client_of(token))
        return "/", f"Cookie: {cookie}\r\n" if cookie else ""

    def record(self, asked: Asked) -> None:
        self.all.append(asked)
        given = asked.field("set-cookie")
        if given and not is_new(asked.client):
            self.cookies[asked.client] = given.partition(";")[0]

    def round(self) -> list[Asked]:
        """What every client asks from now on in a while."""
        began = time.monotonic()
        since: list[Asked] = []

        def asked() -> bool:
            since[:] = [one for one in self.all if one.sent > began]
            return len(since) > ROUND and len({one.client for one in since}) == CONNECTIONS

        wait_for(asked, "a round", 60)
        return since


def is_new(client: int) -> bool:
    """Whether it keeps no cookie."""
    return client % 8 == 0


def homes_in(asked: list[Asked]) -> dict[int, set[str]]:
    """Who answered each client that keeps a cookie."""
    found: dict[int, set[str]] = {}
    for one in asked:
        if not is_new(one.client) and one.status == 200:
            found.setdefault(one.client, set()).add(one.body)
    return found


def moves(asked: list[Asked]) -> Counter[int]:
    """How often each client that keeps a cookie was given another."""
    return Counter(one.client for one in asked if not is_new(one.client) and one.field("set-cookie"))


def failed(asked: list[Asked]) -> list[Asked]:
    """What was not answered as it should be."""
    return [one for one in asked if one.status != 200]


@pytest.fixture
def origins(tmp_path: Path) -> Iterator[list[FaultyOrigin]]:
    """Three that say their names."""
    started = [FaultyOrigin(name, tmp_path) for name in ("one", "two", "three")]
    yield started
    for origin in started:
        origin.kill()


def _config(origins: list[FaultyOrigin]) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {
            "app": {
                "endpoints": [origin.address for origin in origins],
                "balance": "random",
                "affinity": {"cookie": "lb"},
                "outlier": {"eject": f"{EJECT * 1000:.0f}ms", "most": f"{MOST * 1000:.0f}ms"},
            }
        },
        "routes": [{"upstream": "app"}],
    }


@pytest.mark.safety(168)
def test_sessions_stay_and_drains_lose_nothing(origins: list[FaultyOrigin]) -> None:
    with penstock.Proxy(_config(origins)) as proxy, Browsers(proxy.address("web")) as load:
        load.round()
        home = homes_in(load.round())
        assert all(len(names) == 1 for names in home.values())
        assert set().union(*home.values()) == {"one", "two", "three"}

        # One that drains keeps whom it has, and gets nobody else.
        proxy.endpoint("app", origins[0].address, "drain")
        drained = load.round()
        assert (homes_in(drained), moves(drained)) == (home, Counter())
        newcomers = {one.body for one in drained if is_new(one.client)}
        assert newcomers == {"two", "three"}
        proxy.endpoint("app", origins[0].address, "ready")
        assert failed(load.all) == []

        # One that dies: its clients move, once and for all; nobody else does.
        bound = {client for client, names in home.items() if names == {"two"}}
        before, died = len(load.all), time.monotonic()
        origins[1].kill()
        wait_for(lambda: time.monotonic() > died + GRACE, "the time in which requests may fail")
        load.round()
        crash = load.all[before:]
        late = [one for one in failed(crash) if one.method == "GET" and one.sent > died + GRACE]
        assert late == []
        assert {one.client for one in failed(crash) if not is_new(one.client)} <= bound
        assert dict(moves(crash)) == dict.fromkeys(bound, 1)
        moved = homes_in(load.round())
        assert all(names == home[client] for client, names in moved.items() if client not in bound)
        assert all(names < {"one", "three"} for client, names in moved.items() if client in bound)

        # It comes back to those who are new, and nobody moves again.
        origins[1].start()
        state = lambda: proxy.stats().upstreams[0].endpoints[1].state  # noqa: E731
        wait_for(lambda: state() == "up" and any(one.body == "two" for one in load.all[-ROUND:]), "it is back")
        back = load.round()
        assert (homes_in(back), moves(back), failed(back)) == (moved, Counter(), [])

        # One that a reload takes away finishes what it has: not one answer is lost, not even of a POST.
        leaves = {client for client, names in moved.items() if names == {"three"}}
        before = len(load.all)
        proxy.apply(_config(origins[:2]))
        gone = load.round()
        assert "three" not in {one.body for one in gone}
        assert failed(load.all[before:]) == []
        assert set(moves(load.all[before:])) == leaves
        last = load.round()
        assert (failed(last), moves(last)) == ([], Counter())
    executed = sum((origin.executed() for origin in origins), Counter[str]())
    writes = {token: count for token, count in executed.items() if token.startswith("POST")}
    assert set(writes.values()) == {1}
    assert {one.token for one in load.all if one.method == "POST" and one.status == 200} <= set(writes)
