"""More connections than may be: refused at once and by name; nobody else notices, and the admin listener answers."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.product.product import command
from tests.product.waiting import wait_for
from tests.safety.limits.process import Process, ask, get, status
from tests.wire.peers import Connection, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIG = """
[listeners.web]
bind = "127.0.0.1:0"
limits = {{ {limits} }}
[[routes]]
respond = {{ body = "here" }}
[engine]
workers = 2
[admin]
bind = "127.0.0.1:0"
"""


@contextlib.contextmanager
def clients(address: tuple[str, int], count: int, source: str | None = None) -> Iterator[list[Connection]]:
    """So many connections, none of which says anything yet."""
    opened = [connect(address, source) for _ in range(count)]
    try:
        yield opened
    finally:
        for client in opened:
            client.close()


AT_ONCE = 2.0
"""Seconds within which a refusal has come, also on a machine that is busy with something else: whatever waits here has
10 s or more."""


def refused(client: Connection) -> bool:
    """Whether a connection was ended without a question: with 503, or with a reset."""
    client.read_until(lambda _: False)
    assert status(client) in (0, 503)
    return client.ended


def resting(penstock: Process, seconds: float = 2.0) -> Callable[[], bool]:
    """Whether, in all of so many seconds up to a look, less than a twentieth of a processor was used."""
    began, before = time.monotonic(), penstock.cpu()

    def look() -> bool:
        nonlocal began, before
        now, used = time.monotonic(), penstock.cpu()
        if used - before > 0.05 * seconds:
            began, before = now, used
        return now - began >= seconds

    return look


@pytest.mark.safety(114)
def test_connections_beyond_the_limit_are_refused_at_once(tmp_path: Path) -> None:
    with (
        Process(CONFIG.format(limits="connections = 5"), tmp_path) as penstock,
        clients(penstock.address(), 5) as kept,
    ):
        assert [ask(client) for client in kept] == [200] * 5
        for _ in range(20):
            began = time.monotonic()
            with clients(penstock.address(), 1) as (one,):
                assert refused(one)
                assert time.monotonic() - began < AT_ONCE
                assert b"retry-after" in one.received
        assert penstock.admin("/healthz") == (200, "ok\n")
        assert penstock.metrics()['penstock_rejected_total{reason="too_many_connections"}'] == 20
        # Told once, however many there were: the first look may have seen only some of them.
        wait_for(lambda: penstock.logged("refused"), "an event")
        (told,) = penstock.logged("refused")
        assert (told["listener"], told["reason"], told["level"]) == ("web", "too_many_connections", "warning")
        assert [ask(client) for client in kept] == [200] * 5
        kept.pop().close()
        wait_for(lambda: get(penstock.address())[0] == 200, "a place that became free")


@pytest.mark.safety(114)
def test_one_client_has_its_share_over_all_workers_and_no_more(tmp_path: Path) -> None:
    with (
        Process(CONFIG.format(limits="connections_per_client = 10"), tmp_path) as penstock,
        clients(penstock.address(), 50) as greedy,
    ):
        wait_for(
            lambda: penstock.metrics()['penstock_rejected_total{reason="too_many_per_client"}'] == 40, "40 refusals"
        )
        served = [client for client in greedy if not client.read_what_is_there() and not client.ended]
        assert len(served) == 10
        assert [ask(client) for client in served] == [200] * 10
        began = time.monotonic()
        with clients(penstock.address(), 1) as (one,):
            assert refused(one)
            assert time.monotonic() - began < AT_ONCE
        assert get(penstock.address(), source="127.0.0.2") == (200, "here")
        assert penstock.admin("/readyz") == (200, "ready\n")
        for client in served[:3]:
            client.close()
        wait_for(lambda: penstock.metrics()['penstock_listener_connections{listener="web"}'] == 7, "7 connections")
        with clients(penstock.address(), 4) as more:
            wait_for(
                lambda: penstock.metrics()['penstock_rejected_total{reason="too_many_per_client"}'] == 42, "one more"
            )
            assert sum(not client.read_what_is_there() and not client.ended for client in more) == 3


@pytest.mark.safety(114)
def test_the_clients_of_a_trusted_proxy_are_not_taken_for_one(tmp_path: Path) -> None:
    config = CONFIG.format(limits="connections_per_client = 1").replace(
        "limits", 'trusted_proxies = ["127.0.0.0/30"]\nlimits'
    )
    with Process(config, tmp_path) as penstock, clients(penstock.address(), 5, "127.0.0.2") as proxied:
        assert [ask(client) for client in proxied] == [200] * 5
        with clients(penstock.address(), 1, "127.0.0.9") as (first,):
            assert ask(first) == 200
            with clients(penstock.address(), 1, "127.0.0.9") as (second,):
                assert refused(second)


@pytest.mark.safety(115)
def test_a_thousand_clients_with_256_descriptors(tmp_path: Path) -> None:
    with Process(CONFIG.format(limits=""), tmp_path, descriptors=256) as penstock:
        most = penstock.metrics()["penstock_connections_limit"]
        assert 20 <= most < 128
        with clients(penstock.address(), 1000):
            # Whoever says nothing gives way to whoever comes, and the others are refused: nobody is left in a queue.
            wait_for(lambda: penstock.metrics()['penstock_listener_connections{listener="web"}'] <= most, "room")
            for _ in range(100):
                assert penstock.admin("/healthz", deadline=1.0) == (200, "ok\n")
            wait_for(resting(penstock), "two seconds in which it rests, though full")
            assert penstock.metrics()['penstock_rejected_total{reason="out_of_descriptors"}'] > 500
            assert penstock.logged("out_of_descriptors")
        began = time.monotonic()
        wait_for(lambda: get(penstock.address(), deadline=1.0)[0] == 200, "a free place", 1.0)
        assert time.monotonic() - began < 1
        assert penstock.metrics()["penstock_panics_total"] == 0


@pytest.mark.safety(115)
def test_connections_that_are_idle_longest_make_room(tmp_path: Path) -> None:
    config = CONFIG.format(limits="").replace("workers = 2", "workers = 1")
    with Process(config, tmp_path, descriptors=256) as penstock:
        most = int(penstock.metrics()["penstock_connections_limit"])
        with clients(penstock.address(), most) as kept:
            assert [ask(client) for client in kept] == [200] * most
            # They rest once they were quiet for half a second.
            wait_for(lambda: get(penstock.address())[0] == 200, "room for one more")
            shed = penstock.metrics()['penstock_shed_total{what="idle_connections"}']
            assert 1 <= shed <= 8
            gone = [at for at, client in enumerate(kept) if client.read_what_is_there() == b"" or client.ended]
            assert len([at for at in gone if kept[at].ended]) == shed
            assert ask(kept[-1]) == 200


def test_another_limit_of_descriptors_counts_from_the_next_reload_on(tmp_path: Path) -> None:
    with Process(CONFIG.format(limits=""), tmp_path, descriptors=512) as penstock:
        before = penstock.metrics()["penstock_connections_limit"]
        resource.prlimit(penstock.process.pid, resource.RLIMIT_NOFILE, (256, 256))
        penstock.process.send_signal(signal.SIGHUP)
        less = wait_for(lambda: before - penstock.metrics()["penstock_connections_limit"], "another limit")
        # Two fifths of what went, but for what whole numbers lose for each of two workers.
        assert abs(less - 2 * 256 / 5) <= 4


def test_workers_without_descriptors_end_the_start_and_are_named(tmp_path: Path) -> None:
    text = CONFIG.format(limits="").replace("workers = 2", "workers = 200")
    (tmp_path / "penstock.toml").write_text(text, "utf-8")
    words = [*command(), "run", "-c", str(tmp_path / "penstock.toml"), "--control", str(tmp_path / "control.sock")]
    few = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))  # noqa: E731
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, preexec_fn=few, check=False)
    assert ended.returncode == 2, ended.stderr
    told = (
        r"engine\.workers: cannot start thread penstock-\d+: .*; raise the limit of open files, or have fewer workers"
    )
    assert re.search(told, ended.stderr), ended.stderr
