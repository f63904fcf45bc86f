"""P13: how soon the first answer comes, and what a reload costs those who are being served."""

import os
import signal
import time
from pathlib import Path

from bench import check
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, Verdict
from bench.launch import BenchError, wait_until
from bench.peers import Nginx, Peer, Penstock, Scenario
from bench.peers.penstock import prefix_of
from bench.rows.latency import report_of
from bench.stand import PATIENCE, Running, Stand, answers

ROUTES = 10_000
MANY = "10 000 routes"
LATE = prefix_of(ROUTES - 1) + "/item"
# Light: the reload is to be seen, not a queue.
PACE = 500
SECONDS = 3.0


def start_and_reload(stand: Stand) -> Result:
    """P13: from the command to the first answer; from the change of the file to the first answer of the new plan."""
    result = Result("P13", "Start to first answer; reload with 10 000 routes")
    _starts(stand, result)
    if Penstock().absent() is None:
        try:
            _reloads(stand, result)
        except TROUBLE as error:
            result.failures["reload"] = str(error)
    for variant, limit in (
        ("start", 1_000),
        (f"start, {MANY}", 1_000),
        (f"reload, {MANY}", 300),
        ("slowest request in a reload", 5),
    ):
        ours = result.find("penstock", variant)
        result.verdicts.append(Verdict(variant, ours.middle if ours else None, limit, "ms"))
    return result


def _starts(stand: Stand, result: Result) -> None:
    contenders: list[tuple[Peer, Scenario, str]] = [
        (Penstock(), Scenario(), "start"),
        (Penstock(), Scenario(routes=ROUTES), f"start, {MANY}"),
        (Nginx(), Scenario(), "start"),
    ]
    for peer, scenario, variant in contenders:
        if missing := peer.absent():
            result.absent[peer.name] = missing
            continue
        figure = Figure(peer.name, "ms", variant)
        say(f"P13: {figure.label}")
        try:
            figure.samples += [_start(stand, peer, scenario) for _ in range(stand.settings.rounds)]
        except TROUBLE as error:
            result.failures[figure.label] = str(error)
        result.figures.append(figure)


def _start(stand: Stand, peer: Peer, scenario: Scenario) -> float:
    begin = time.monotonic()
    running = stand.spawn(peer, scenario)
    path = LATE if scenario.routes > 1 else "/"

    def decided() -> bool:
        return answers(running.port, path, 200) or not running.program.alive()

    try:
        wait_until(decided, PATIENCE, "the first 200", pause=0.001)
        if not running.program.alive():
            raise BenchError(f"ended at its start: {running.program.last_words()}")
        return (time.monotonic() - begin) * 1000
    finally:
        running.program.stop()


def _reloads(stand: Stand, result: Result) -> None:
    reload_ = Figure("penstock", "ms", f"reload, {MANY}")
    slowest = Figure("penstock", "ms", "slowest request in a reload")
    result.figures += [reload_, slowest]
    with stand.serving(Penstock(), Scenario(routes=ROUTES, generation="0")) as running:
        quiet = _under_load(stand, running, None)[1]
        for number in range(1, stand.settings.rounds + 1):
            say(f"P13: reload {number}/{stand.settings.rounds}")
            took, worst = _under_load(stand, running, str(number))
            reload_.samples.append(took)
            slowest.samples.append(worst)
            # What the machine does to a request without any reload.
            slowest.observe(slowest_without_a_reload=quiet)


def _under_load(stand: Stand, running: Running, generation: str | None) -> tuple[float, float]:
    """Milliseconds of a reload, if one is asked for, and of the slowest paced request around it."""
    arguments = (f"127.0.0.1:{running.port}", PACE, SECONDS, 8, LATE)
    with stand.client("paced_client", *arguments) as client:
        client.ask(None, SECONDS + 10)
        took = 0.0 if generation is None else _reload(stand, running, generation)
        return took, report_of(client.ask(None, SECONDS + 10))["max_us"] / 1000


def _reload(stand: Stand, running: Running, generation: str) -> float:
    scenario = Scenario(routes=ROUTES, generation=generation)
    text = Penstock().configuration(running.folder, running.port, stand.origin, scenario)
    new, current = running.folder / "next.toml", running.folder / "penstock.toml"
    new.write_text(text)
    connection = check.connect(running.port)

    def active() -> bool:
        return check.ask(connection, LATE).headers.get("x-generation") == generation

    try:
        begin = time.monotonic()
        _replace(new, current, running)
        wait_until(active, PATIENCE, f"the reload to generation {generation}", pause=0.001)
        return (time.monotonic() - begin) * 1000
    finally:
        connection.close()


def _replace(new: Path, current: Path, running: Running) -> None:
    # The clock starts before the file changes: a peer that watches it may be ahead of the signal.
    new.replace(current)
    os.kill(running.program.pid, signal.SIGHUP)
