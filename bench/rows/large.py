"""P12: large bodies, both ways: CPU time of a transfer, and the memory that a stream may take."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from bench import bulk, check, usage
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, Verdict
from bench.launch import wait_settled
from bench.peers import ALL, Penstock, Scenario
from bench.stand import Running, Stand

MB = 1_000_000
# The check compares byte by byte; not a whole number of anybody's buffers.
CHECKED = 3 * MB + 17
TRANSFERS = 2
# Streams that stand still at once: enough that what is not theirs does not count.
STREAMS = 16
# The origin's wait must outlast the filling of the streams and the look at the memory.
STALL_MS = 6_000
WAYS = {"download": bulk.download, "upload": bulk.upload}


def large_bodies(stand: Stand) -> Result:
    """P12: every peer passes bodies on as they come."""
    length = stand.settings.large_bytes
    result = Result("P12", f"Large body ({length // MB} MB), passed on unbuffered")
    with ExitStack() as stack:
        running = _start(stand, result, stack)
        for round_ in range(stand.settings.rounds):
            say(f"P12 round {round_ + 1}/{stand.settings.rounds}")
            for name, one in running.items():
                _attempt(result, name, partial(_transfers, result, name, one, length))
        for name, one in running.items():
            say(f"P12 memory: {name}")
            _attempt(result, name, partial(_memory, result, name, one, length))
    for way in WAYS:
        result.compare(result.find("penstock", way), result.find("nginx", way), f"nginx, {way}", 1.0)
        result.compare(result.find("penstock", way), result.find("haproxy", way), f"haproxy, {way}")
    for way in WAYS:
        ours = result.find(Penstock.name, f"{way}, memory")
        result.verdicts.append(Verdict(f"{way}, memory a stream", ours.middle if ours else None, 1.0, "MB"))
    return result


def _start(stand: Stand, result: Result, stack: ExitStack) -> dict[str, Running]:
    running = {}
    for peer in ALL:
        if missing := peer.absent():
            result.absent[peer.name] = missing
            continue
        try:
            one = stack.enter_context(stand.serving(peer, Scenario(streaming=True)))
            check.large(one.port, CHECKED)
        except TROUBLE as error:
            result.failures[peer.name] = str(error)
            continue
        running[peer.name] = one
        unit = f"CPU-ms/{stand.settings.large_bytes // MB} MB"
        result.figures += [Figure(peer.name, unit, way) for way in WAYS]
    return running


def _attempt(result: Result, name: str, measure: Callable[[], None]) -> None:
    if name in result.failures:
        return
    try:
        measure()
    except TROUBLE as error:
        result.failures[name] = str(error)


def _transfers(result: Result, name: str, running: Running, length: int) -> None:
    for way, transfer in WAYS.items():
        before = running.usage()
        for _ in range(TRANSFERS):
            transfer(running.port, length)
        used = usage.spent(before, running.usage())
        figure = next(one for one in result.figures if (one.peer, one.variant) == (name, way))
        figure.samples.append(used.cpu_ns / TRANSFERS / 1e6)


def _memory(result: Result, name: str, running: Running, length: int) -> None:
    """The more of two: the peak while one stream flows, and the share of one of many that stand still."""
    pid = running.program.pid
    for way, transfer in WAYS.items():
        usage.forget_peak(pid)
        before = usage.resident(pid)
        transfer(running.port, length)
        flowing = usage.peak(pid) - before
        before = usage.resident(pid)
        stall = (
            bulk.stalled_downloads(running.port, STREAMS, length)
            if way == "download"
            else bulk.stalled_uploads(running.port, STREAMS, length, STALL_MS)
        )
        with stall:
            held = wait_settled(lambda: usage.resident(pid), 64 * 1024, quiet=0.5, least=1.0, longest=3.0) - before
        figure = Figure(name, "MB/stream", f"{way}, memory", samples=[max(flowing, held / STREAMS, 0) / MB])
        figure.observe(one_flowing=flowing / MB, each_of_many_stalled=held / STREAMS / MB)
        result.figures.append(figure)
