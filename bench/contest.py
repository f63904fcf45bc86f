"""CPU time per request of several contenders, interleaved: A B C, C B A. The heart of the rows that wrk drives."""

import http.client
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from subprocess import TimeoutExpired

from bench import check, wrk
from bench.figures import Figure, Result
from bench.launch import BenchError
from bench.peers import Peer, Scenario
from bench.stand import Running, Stand
from bench.usage import spent

MICROSECONDS = "CPU-µs/request"

# What may go wrong with one peer without ending the bench.
TROUBLE = (BenchError, OSError, http.client.HTTPException, TimeoutExpired)


def plain_check(running: Running) -> None:
    """The check of a row that asks for nothing special."""
    check.plain(running.port, certificate=running.certificate)


def nothing_after(running: Running, requests: int) -> None:
    """For rows without anything to look at after a load."""


def nothing_brought(running: Running) -> tuple[str, ...]:
    """For rows in which every client is new."""
    return ()


@dataclass(frozen=True)
class Contender:
    """A peer in a scenario, with what must be right before and after a load."""

    peer: Peer
    scenario: Scenario = field(default_factory=Scenario)
    variant: str = ""
    path: str = "/"
    headers: tuple[str, ...] = ()
    body: str = ""
    right: Callable[[Running], None] = plain_check
    after: Callable[[Running, int], None] = nothing_after
    # What a client that came before brings with it, as header lines.
    brings: Callable[[Running], tuple[str, ...]] = nothing_brought

    def load(self, running: Running, connections: int, seconds: int) -> wrk.Load:
        """Loads the peer with what the row asks."""
        return wrk.drive(
            running.url + self.path, connections, seconds, (*self.headers, *self.brings(running)), self.body
        )


def contest(stand: Stand, result: Result, contenders: list[Contender]) -> Result:
    """Measures all contenders that are here and answer rightly; the others are named with the reason."""
    if not wrk.found():
        raise BenchError("wrk is not installed (Debian: apt install wrk)")
    with ExitStack() as running:
        line = _line_up(stand, result, contenders, running)
        for round_ in range(stand.settings.rounds):
            # There and back: whatever drifts within a round meets nobody always first.
            for contender, figure, peer in line[:: -1 if round_ % 2 else 1]:
                say(f"{result.row} round {round_ + 1}/{stand.settings.rounds}: {figure.label}")
                try:
                    _sample(stand, contender, figure, peer)
                except TROUBLE as error:
                    result.failures[figure.label] = str(error)
                    line.remove((contender, figure, peer))
    return result


def _line_up(
    stand: Stand, result: Result, contenders: list[Contender], stack: ExitStack
) -> list[tuple[Contender, Figure, Running]]:
    ready = []
    for contender in contenders:
        figure = Figure(contender.peer.name, MICROSECONDS, contender.variant)
        if missing := contender.peer.absent():
            result.absent[contender.peer.name] = missing
            continue
        try:
            running = stack.enter_context(stand.serving(contender.peer, contender.scenario))
            contender.right(running)
            # Pools fill and pages are touched before anything counts.
            load = contender.load(running, stand.settings.connections, 1)
            contender.after(running, load.requests)
        except TROUBLE as error:
            result.failures[figure.label] = str(error)
            continue
        result.figures.append(figure)
        ready.append((contender, figure, running))
    return ready


def _sample(stand: Stand, contender: Contender, figure: Figure, running: Running) -> None:
    before, start = running.usage(), time.monotonic()
    load = contender.load(running, stand.settings.connections, stand.settings.seconds)
    used, wall = spent(before, running.usage()), time.monotonic() - start
    if not running.program.alive():
        raise BenchError(f"ended under load: {running.program.last_words()}")
    contender.after(running, load.requests)
    figure.samples.append(used.cpu_ns / load.requests / 1000)
    figure.observe(
        requests_per_second=load.rate,
        core_share=used.cpu_ns / 1e9 / wall,
        core_wait=used.waiting_ns / 1e9 / wall,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
    )
    if used.threads_ended:
        figure.notes.append("threads ended while measured: taken from ticks of 10 ms")


def say(line: str) -> None:
    """Progress on standard error: the table is the only thing on standard output."""
    print(line, file=sys.stderr, flush=True)
