"""System calls that fail, go short and are interrupted; a full disk; a wall clock that jumps.

`unlucky.c` stands between the process and the C library. A file that both map says how often a call fails, so that it
begins and ends without a signal.
"""

from __future__ import annotations

import json
import mmap
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.load.client import run_load
from tests.load.origin import EchoOrigins
from tests.load.tokens import Tokens
from tests.product.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.product.product import Running

CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.echo]
endpoints = ["{}", "{}"]
timeouts = {{ connect = "2s", head = "20s" }}
[[routes]]
upstream = "echo"
[engine]
workers = 2
[log.access]
to = "{}"
[admin]
bind = "127.0.0.1:0"
"""


class Faults:
    """What the preloaded library reads."""

    def __init__(self, library: Path, folder: Path) -> None:
        self._path = folder / "faults"
        self._path.write_bytes(b"0\0".ljust(4096, b"\0"))
        with self._path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 4096)
        self.environment = {"LD_PRELOAD": str(library), "FAULTS_FILE": str(self._path), "FAULTS_SEED": "177"}

    def rate(self, of_ten_thousand: int) -> None:
        """From now on so many of 10 000 calls fail."""
        self._say(b"%d" % of_ten_thousand)

    def starve(self, of_ten_thousand: int) -> None:
        """From now on so many of 10 000 requests of the workers' allocator for memory are refused, and nothing else."""
        self._say(b"m%d" % of_ten_thousand)

    def shift(self, seconds: int) -> None:
        """The wall clock is so far off from now on."""
        self._say(b":%d" % seconds)

    def _say(self, text: bytes) -> None:
        self._page[:16] = text.ljust(16, b"\0")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) to build the library that lets system calls fail")
    made = tmp_path_factory.mktemp("unlucky") / "unlucky.so"
    source = Path(__file__).with_name("unlucky.c")
    words = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(made), str(source), "-ldl"]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return made


@pytest.fixture
def faults(library: Path, tmp_path: Path) -> Faults:
    return Faults(library, tmp_path)


class Spoiled(Tokens):
    """As `Tokens`; an answer may be a refusal of ours, never one that belongs to another."""

    def fault(self, number: int, head: bytes, body: bytes) -> str | None:
        """Its own answer, or 502, 503 or 504."""
        if head[9:13] in (b"502 ", b"503 ", b"504 "):
            return None
        return super().fault(number, head, body)


def _address(running: Running) -> tuple[str, int]:
    host, _, port = running.address().rpartition(":")
    return host, int(port)


@pytest.mark.safety(177)
@pytest.mark.parametrize("rate", [20, 300])
def test_failing_system_calls_mix_nothing_and_end_nothing(
    rate: int, faults: Faults, start: Callable[..., Running], tmp_path: Path
) -> None:
    with EchoOrigins("a", "b") as origins:
        running = start(CONFIG.format(*origins.addresses.values(), tmp_path / "access.log"), faults.environment)
        faults.rate(rate)
        spoiled = run_load(Spoiled(), _address(running), requests=10_000)
        faults.rate(0)
        # A connection may be lost with its answer; what came must be right.
        assert spoiled.wrong == spoiled.lost, spoiled.examples
        assert spoiled.lost < spoiled.answered / 2
        assert running.process.poll() is None
        # Once calls succeed, everything does.
        whole = run_load(Tokens(), _address(running), requests=10_000)
        assert whole.wrong == 0, whole.examples
        status = running.status()
        assert status["state"] == "serving"
        wait_for(lambda: running.status()["listeners"][0]["connections"] == 0, "no connection is left")
        _, text = running.get("/metrics", running.admin)
        assert "penstock_panics_total 0\n" in text


# The allocator keeps what it once had; so it gives everything back at once, and asks for it page by page.
ASKS_OFTEN = {"MIMALLOC_PURGE_DELAY": "0", "MIMALLOC_ARENA_EAGER_COMMIT": "0", "MIMALLOC_PURGE_DECOMMITS": "1"}


@pytest.mark.safety(177)
@pytest.mark.parametrize("rate", [9000])
def test_memory_that_is_refused_mixes_nothing_and_ends_nothing(
    rate: int, faults: Faults, start: Callable[..., Running], tmp_path: Path
) -> None:
    with EchoOrigins("a", "b") as origins:
        text = CONFIG.format(*origins.addresses.values(), tmp_path / "access.log")
        running = start(text, {**faults.environment, **ASKS_OFTEN})
        failed = lambda: _metric(running, "penstock_allocations_failed_total")  # noqa: E731
        assert failed() == 0
        faults.starve(rate)
        spoiled = run_load(Spoiled(), _address(running), requests=10_000)
        faults.starve(0)
        assert running.process.poll() is None
        assert failed() > 0
        assert spoiled.wrong == spoiled.lost, spoiled.examples
        assert any("memory is not to be had" in message for message in running.messages())
        # Once there is memory, everything succeeds.
        wait_for(lambda: _metric(running, "penstock_memory_pressure") == 0, "enough memory")
        whole = run_load(Tokens(), _address(running), requests=10_000)
        assert whole.wrong == 0, whole.examples
        assert _metric(running, "penstock_panics_total") == 0


def _metric(running: Running, name: str) -> float:
    _, text = running.get("/metrics", running.admin)
    return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[1])


@pytest.mark.safety(177)
def test_a_full_disk_loses_records_and_nothing_else(start: Callable[..., Running]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with EchoOrigins("a", "b") as origins:
        running = start(CONFIG.format(*origins.addresses.values(), "/dev/full"))
        tally = run_load(Tokens(), _address(running), requests=5000)
        assert tally.wrong == 0, tally.examples
        told = "access log: records are lost, requests are served all the same"
        wait_for(lambda: any(told in message for message in running.messages()), "the log tells it")

        def lost() -> bool:
            _, text = running.get("/metrics", running.admin)
            line = next(line for line in text.splitlines() if line.startswith("penstock_access_log_dropped_total"))
            return float(line.split()[1]) >= tally.answered

        wait_for(lost, "what was lost is counted")
        assert sum(told in message for message in running.messages()) == 1


@pytest.mark.safety(177)
def test_what_a_full_disk_leaves_of_the_log_is_whole_records(
    faults: Faults, start: Callable[..., Running], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    with EchoOrigins("a", "b") as origins:
        running = start(CONFIG.format(*origins.addresses.values(), log), faults.environment)
        faults.rate(500)
        run_load(Spoiled(), _address(running), requests=2000, connections=8)
        faults.rate(0)
        run_load(Tokens(), _address(running), requests=2000)
        running.process.terminate()
        running.ends()
    lines = log.read_text("utf-8").splitlines()
    # A record that was cut stays cut; what comes behind it begins a line of its own.
    broken = [line for line in lines if not _is_json(line)]
    assert len(lines) > 2000
    assert len(broken) < 100
    assert not [line for line in broken if '{"time"' in line[1:]], "a record goes on in the line of another"


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


@pytest.mark.safety(178)
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_jumps_times_nobody_out(
    seconds: int, faults: Faults, start: Callable[..., Running], tmp_path: Path
) -> None:
    log = tmp_path / "access.log"
    with EchoOrigins("a", "b") as origins:
        running = start(CONFIG.format(*origins.addresses.values(), log), faults.environment)
        # Kept connections on both sides, from before the jump.
        before = run_load(Tokens(), _address(running), requests=200, connections=8)
        tally = run_load(
            _Unaborted(), _address(running), requests=10_000, marks=1, at_mark=lambda _: faults.shift(seconds)
        )
        assert before.wrong == tally.wrong == 0, tally.examples
        failures = running.status()
        assert failures["state"] == "serving"
        _, text = running.get("/metrics", running.admin)
        timeouts = [line for line in text.splitlines() if "timeout" in line and not line.endswith(" 0")]
        assert [line for line in timeouts if not line.startswith("#")] == []

        def last() -> float:
            lines = log.read_text("utf-8").splitlines()
            return datetime.fromisoformat(json.loads(lines[-1])["time"]).astimezone(UTC).timestamp() if lines else 0

        wait_for(lambda: abs(last() - time.time() - seconds) < 60, "the log's times follow")


class _Unaborted(Tokens):
    """Without clients that give up: every lost answer is a loss."""

    def aborts(self, dice: object) -> bool:
        """Never."""
        del dice
        return False
