"""What a request makes a proxy do, counted and not timed: system calls (`strace`), instructions and misses of the first
cache (`callgrind`).

Neither depends on the machine's neighbours. Both slow the proxy down, which then finds more to do at each wake-up: good
for comparing two builds, not for a figure of its own.
"""

import re
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.contest import Contender
from bench.launch import BenchError, Program, wait_settled, wait_until
from bench.stand import Running, Stand
from bench.usage import read_usage

SECONDS = 3
PATIENCE = 30.0
# Seconds of the loads that may go by before the first answer under callgrind.
WARM_UPS = (2, 4, 8, 16)
# What a proxy may use in half a second of the clocks that it looks after, under callgrind.
AT_REST_NS = 50_000_000
# Collecting begins when it is asked for: the start of Python is not of interest.
# Caches as many cores of servers have them, whatever this machine has: counts are then the same everywhere.
CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=49152,12,64", "--LL=2097152,16,64")
CALLGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", *CACHES, "--callgrind-out-file=callgrind.out")


@dataclass(frozen=True)
class Instructions:
    """What a request runs in user space, and how often that was not in the first cache: code, and data."""

    run: float
    code_missed: float
    data_missed: float


def missing(program: str) -> str | None:
    """Why nothing can be counted with a program, or nothing."""
    return None if shutil.which(program) else f"{program} is not installed (Debian: apt install {program})"


def system_calls(stand: Stand, contender: Contender) -> dict[str, float]:
    """System calls of a request by name; what is rarer than one in a hundred requests is left out."""
    with stand.serving(contender.peer, contender.scenario) as running:
        contender.right(running)
        _drive(stand, contender, running, 1)
        report = running.folder / "strace"
        command = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(report), "-p", str(running.program.pid)]
        tracer = Program(command, stand.client_core, running.folder, "tracer")
        try:
            wait_until(lambda: "attached" in tracer.log.read_text(), PATIENCE, f"strace attaches ({tracer.log})")
            requests = _drive(stand, contender, running, SECONDS)
        finally:
            # It lets go of the proxy and prints its table.
            tracer.popen.send_signal(signal.SIGINT)
            tracer.popen.wait(PATIENCE)
        counts = calls_in(report.read_text())
    return {name: count / requests for name, count in counts.most_common() if count * 100 >= requests}


def instructions(stand: Stand, contender: Contender) -> Instructions:
    """Instructions in user space of a request, from callgrind. What the kernel pushes out of caches is not in it."""
    with stand.serving(contender.peer, contender.scenario) as running:
        contender.right(running)
        _control(running, "--instr=on")
        _warm_up(stand, contender, running)
        _settle(running.program.pid)
        _control(running, "--zero")
        requests = _drive(stand, contender, running, SECONDS)
        _control(running, "--dump")
        dump = running.folder / "callgrind.out.1"
        wait_until(lambda: dump.exists() and "totals:" in dump.read_text(), PATIENCE, "callgrind writes its counts")
        sums = sums_in(dump)
        code, data = sums["I1mr"], sums["D1mr"] + sums["D1mw"]
        return Instructions(sums["Ir"] / requests, code / requests, data / requests)


def calls_in(report: str) -> Counter[str]:
    """The counts of a table of `strace -c -U calls,name`."""
    rows = re.findall(r"^\s*(\d+) ([a-z_]\w*)$", report, re.MULTILINE)
    return Counter({name: int(count) for count, name in rows if name != "total"})


def sums_in(dump: Path) -> dict[str, int]:
    """The sums at the end of a dump of callgrind, by event."""
    found = re.search(r"^events: ([^\n]+)$.*^totals: ([^\n]+)$", dump.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise BenchError(f"{dump} holds no sums")
    return dict(zip(found[1].split(), map(int, found[2].split()), strict=False))


def _warm_up(stand: Stand, contender: Contender, running: Running) -> None:
    """Loads until answers come: callgrind translates all code before its first use, for seconds on a slow machine."""
    for seconds in WARM_UPS[:-1]:
        with suppress(BenchError):
            _drive(stand, contender, running, seconds)
            return
    _drive(stand, contender, running, WARM_UPS[-1])


def _settle(pid: int) -> None:
    """Waits until a proxy does hardly anything by itself: what comes once, behind its start, is part of no request."""
    wait_settled(lambda: read_usage(pid).cpu_ns, AT_REST_NS, quiet=0.5, least=0.5, longest=PATIENCE)


def _drive(stand: Stand, contender: Contender, running: Running, seconds: int) -> int:
    return contender.load(running, stand.settings.connections, seconds).requests


def _control(running: Running, order: str) -> None:
    command = ["callgrind_control", order, str(running.program.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if done.returncode or "Error" in done.stdout:
        raise BenchError(f"callgrind_control {order}: {(done.stdout + done.stderr).strip()[-200:]}")
