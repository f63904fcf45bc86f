"""What the kernel says of a program and its children: CPU time in nanoseconds, and memory in bytes."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# The ticks of a program are rounded once for each process; more than this apart, and a thread must have ended.
ROUNDING_NS = 40_000_000


@dataclass(frozen=True)
class Usage:
    """CPU time so far, of all threads and children."""

    cpu_ns: int
    # Runnable, but another program had the core: how much the machine was shared.
    waiting_ns: int
    # The kernel's own sum, in ticks of 10 ms: coarse, but it keeps the threads that have ended.
    tick_ns: int


@dataclass(frozen=True)
class Spent:
    """CPU time between two readings."""

    cpu_ns: int
    waiting_ns: int
    threads_ended: bool


def spent(before: Usage, after: Usage) -> Spent:
    """The difference; where threads have ended in between, the ticks are the truth."""
    exact = after.cpu_ns - before.cpu_ns
    coarse = after.tick_ns - before.tick_ns
    ended = coarse > exact + exact // 20 + ROUNDING_NS
    return Spent(coarse if ended else exact, after.waiting_ns - before.waiting_ns, ended)


def read_usage(pid: int) -> Usage:
    """Reads the usage of a process and its descendants."""
    stats = [text for task in tasks(pid) if (text := read(task / "schedstat"))]
    cpu_ns, waiting_ns = sum_schedstats(stats)
    ticks = sum(ticks_of(read(PROC / str(one) / "stat")) for one in family(pid))
    return Usage(cpu_ns, waiting_ns, ticks * TICK_NS)


def sum_schedstats(texts: Iterable[str]) -> tuple[int, int]:
    """Adds up lines of `schedstat`: nanoseconds on a core, nanoseconds waiting for one, number of turns."""
    cpu_ns = waiting_ns = 0
    for text in texts:
        on_core, waiting, *_ = text.split()
        cpu_ns += int(on_core)
        waiting_ns += int(waiting)
    return cpu_ns, waiting_ns


def ticks_of(stat: str) -> int:
    """`utime` + `stime` of a line of `/proc/PID/stat`; the name in brackets may hold spaces and brackets."""
    if not stat:
        return 0
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def parent_of(stat: str) -> int:
    """The parent in a line of `/proc/PID/stat`."""
    return int(stat.rpartition(")")[2].split()[1]) if stat else 0


def family(pid: int) -> list[int]:
    """A process and its living descendants."""
    parents = {int(entry.name): parent_of(read(entry / "stat")) for entry in PROC.iterdir() if entry.name.isdigit()}
    found = [pid]
    for one in found:
        found.extend(child for child, parent in parents.items() if parent == one)
    return found


def tasks(pid: int) -> list[Path]:
    """The `/proc` folders of all threads of a process and its descendants."""
    found: list[Path] = []
    for one in family(pid):
        try:
            found.extend((PROC / str(one) / "task").iterdir())
        except FileNotFoundError:
            continue
    return found


def memory(pid: int) -> int:
    """Proportional memory of a process and its descendants, in bytes: what they share is counted once."""
    return sum(pss_of(read(PROC / str(one) / "smaps_rollup")) for one in family(pid))


def pss_of(rollup: str) -> int:
    """`Pss` of a `smaps_rollup`, in bytes."""
    line = next((line for line in rollup.splitlines() if line.startswith("Pss:")), "Pss: 0 kB")
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    """Sets the peak of every process back to what it holds now."""
    for one in family(pid):
        (PROC / str(one) / "clear_refs").write_text("5")


def peak(pid: int) -> int:
    """The most resident memory since `forget_peak`, in bytes, added over the processes."""
    return sum(status_bytes(read(PROC / str(one) / "status"), "VmHWM:") for one in family(pid))


def resident(pid: int) -> int:
    """Resident memory now, in bytes, added over the processes."""
    return sum(status_bytes(read(PROC / str(one) / "status"), "VmRSS:") for one in family(pid))


def status_bytes(status: str, name: str) -> int:
    """A size of `/proc/PID/status`, in bytes."""
    line = next((line for line in status.splitlines() if line.startswith(name)), f"{name} 0 kB")
    return int(line.split()[1]) * 1024


def read(path: Path) -> str:
    """A file of `/proc`; empty when its process or thread is gone."""
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
