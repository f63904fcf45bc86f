"""Several lanes at once, each in a process of its own, and their tallies together."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

from tests.differential.lane import Lane, Tally
from tests.differential.readers import httparse

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from pathlib import Path

_SPAWN = multiprocessing.get_context("spawn")
_SILENCE = 120.0
"""Seconds without a word from any lane that count as a hang."""
_STEP = 50_000


def run_differential(requests: int, seed: int, lanes: int = 2, say: Callable[[int], None] = lambda _: None) -> Tally:
    """Send `requests` in all; `say(n)` now and then, with those sent so far. Raises `RuntimeError` if a lane breaks."""
    program = httparse.build()
    pipes: list[Connection] = []
    running = []
    for lane in range(lanes):
        ours, theirs = _SPAWN.Pipe()
        share = requests // lanes + (lane < requests % lanes)
        process = _SPAWN.Process(target=_run, args=(theirs, f"{seed}/{lane}", share, program), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        running.append(process)
    try:
        return _collect(pipes, say)
    finally:
        for process in running:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join(5)


def _run(pipe: Connection, seed: str, requests: int, program: Path) -> None:
    pipe.send(Lane(seed, program).run(requests, pipe.send))


def _collect(pipes: list[Connection], say: Callable[[int], None]) -> Tally:
    total, sent, told, done = Tally(), 0, 0, 0
    waiting = list(pipes)
    while waiting:
        ready = wait(waiting, timeout=_SILENCE)
        if not ready:
            raise RuntimeError("the lanes are silent")
        for pipe in ready:
            try:
                message = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                waiting.remove(pipe)  # type: ignore[arg-type]
                continue
            if isinstance(message, Tally):
                total.add(message)
                done += 1
            else:
                sent += message
                if sent // _STEP > told:
                    told = sent // _STEP
                    say(sent)
    if done != len(pipes):
        raise RuntimeError("a lane broke off; its traceback stands above")
    return total
