"""A worker that spins or blocks is named, with what the kernel says of it (safety.md 174)."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.product.product import DEADLINE
from tests.product.waiting import wait_for
from tests.safety.limits.process import Process, ask, get
from tests.wire.peers import Connection, connect

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
[listeners.web]
bind = "127.0.0.1:0"
[[routes]]
respond = {{ body = "here" }}
[engine]
workers = 2
watchdog = "{watchdog}"
drain_timeout = "200ms"
[admin]
bind = "127.0.0.1:0"
"""
LONG = 3000
"""Milliseconds that a worker is made to stand still."""


@pytest.fixture
def penstock(tmp_path: Path) -> Iterator[Process]:
    """Two workers and little patience."""
    with Process(CONFIG.format(watchdog="500ms"), tmp_path, env={"PENSTOCK_FAULTS": "1"}) as process:
        yield process


def strike(penstock: Process, fault: str, millis: int = LONG) -> Connection:
    """Let one worker stand still."""
    client = connect(penstock.address())
    client.send(f"GET / HTTP/1.1\r\nHost: a\r\nPenstock-Fault: {fault} filter {millis}\r\n\r\n".encode())
    return client


def told(penstock: Process, kind: str) -> dict[str, Any]:
    """The one event of this kind."""
    (event,) = wait_for(lambda: [line for line in penstock.lines if line.get("kind") == kind], kind, DEADLINE)
    return event


def served(penstock: Process, deadline: float) -> bool:
    """Whether one of the workers answers; the kernel may give a connection to the other."""
    client = connect(penstock.address())
    try:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        client.read_until(lambda got: got.endswith(b"here"), deadline)
    except AssertionError:
        return False
    else:
        return True
    finally:
        client.close()


@pytest.mark.safety(174)
@pytest.mark.parametrize("fault", ["spin", "block"])
def test_the_watchdog_names_the_worker_and_says_what_it_does(penstock: Process, fault: str) -> None:
    client = strike(penstock, fault)
    event = told(penstock, "worker_stuck")
    worker, thread = event["worker"], event["thread"]
    name = Path(f"/proc/{penstock.process.pid}/task/{thread}/comm").read_text("ascii").strip()
    assert name == f"penstock-{worker}"
    assert event["level"] == "error"
    assert 0.5 <= event["seconds"] < LONG / 1000, "told while it stands still"
    if fault == "spin":
        assert event["state"] == "R"
        assert event["busy"] > 0, "a share of a processor, however many want it"
    else:
        assert (event["state"], event["busy"] < 0.05) == ("S", True)
        assert event["syscall"] not in ("", "running")
        assert "waits in the kernel" in event["message"]
    assert penstock.admin("/readyz") == (503, f"stuck: worker {worker}\n")
    assert penstock.admin("/healthz")[0] == 200
    metrics = penstock.metrics()
    assert metrics[f'penstock_worker_stuck{{worker="{worker}"}}'] == 1
    assert metrics[f'penstock_worker_stuck{{worker="{1 - worker}"}}'] == 0
    wait_for(lambda: served(penstock, 0.2), "an answer of the other worker")

    client.read_until(lambda got: got.endswith(b"here"), DEADLINE)
    back = told(penstock, "worker_back")
    assert (back["worker"], back["thread"]) == (worker, thread)
    assert LONG / 1000 - 0.2 < back["seconds"] < LONG / 1000 + 2
    wait_for(lambda: penstock.admin("/readyz") == (200, "ready\n"), "readiness")
    assert penstock.metrics()[f'penstock_worker_stuck{{worker="{worker}"}}'] == 0
    assert ask(client) == 200
    client.close()


@pytest.mark.safety(174)
def test_a_process_ends_though_a_worker_is_stuck(penstock: Process) -> None:
    client = strike(penstock, "block", 60_000)
    told(penstock, "worker_stuck")
    began = time.monotonic()
    penstock.process.send_signal(signal.SIGTERM)
    assert penstock.process.wait(DEADLINE) is not None
    assert time.monotonic() - began < 10
    client.close()


@pytest.mark.safety(174)
def test_a_process_that_was_stopped_as_a_whole_is_not_stuck(penstock: Process, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Process(penstock.config, tmp_path / "other", env=penstock.env) as other:
        penstock.process.send_signal(signal.SIGSTOP)
        # For longer than a worker may stand still: a process of the same patience has lost it meanwhile.
        client = strike(other, "block")
        told(other, "worker_back")
        client.close()
    penstock.process.send_signal(signal.SIGCONT)
    assert get(penstock.address())[0] == 200
    assert penstock.admin("/readyz") == (200, "ready\n")
    assert not [line for line in penstock.lines if line.get("kind") == "worker_stuck"]
