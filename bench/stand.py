"""The stand: cores, the origin, a folder, and peers that run until the row is done."""

import http.client
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from bench import certificate, usage
from bench.certificate import Certificate
from bench.launch import BenchError, Program, free_port, listening, wait_until
from bench.peers.base import Peer, Scenario
from bench.peers.null_relay import built

PATIENCE = 60.0
"""Seconds for a program to start: peers with 10 000 routes, a shared machine and callgrind included."""

# A port is asked for and then bound by another program: someone may have been quicker.
ATTEMPTS = 3


@dataclass(frozen=True)
class Settings:
    """How long and how often."""

    # Short samples and many rounds: what disturbs the machine is then seldom in one half of a ratio alone.
    seconds: int = 2
    rounds: int = 9
    connections: int = 64
    idle_connections: int = 10_000
    large_bytes: int = 100_000_000


@dataclass
class Running:
    """A peer that serves."""

    peer: Peer
    program: Program
    port: int
    folder: Path
    # What clients believe, where they speak TLS.
    certificate: Certificate | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    @property
    def access_log(self) -> Path:
        return self.peer.access_log(self.folder)

    def usage(self) -> usage.Usage:
        return usage.read_usage(self.program.pid)

    def memory(self) -> int:
        return usage.memory(self.program.pid)


class Stand:
    """Where the rows are measured: the proxy alone on one core, its client and the origin on another."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        """Pins the bench itself to the client's core and starts the origin there."""
        self.settings = settings
        self.folder = folder
        self.files = raise_file_limit()
        cores = sorted(os.sched_getaffinity(0))
        self.shared_core = len(cores) < 2
        self.proxy_core, self.client_core = cores[0], cores[-1]
        os.sched_setaffinity(0, {self.client_core})
        self._count = 0
        self._everything = ExitStack()
        self.origin = free_port()
        self.start_program([str(built("origin")), f"127.0.0.1:{self.origin}"], "origin", self.origin)

    def close(self) -> None:
        """Ends all that was started."""
        self._everything.close()

    def start_program(self, command: list[str], name: str, port: int) -> Program:
        """Starts a program of the bench on the client's core, for as long as the stand stands."""
        if not Path(command[0]).exists():
            raise BenchError(f"{name} is not built: cargo build --release -p penstock-bench")
        program = Program(command, self.client_core, self.folder, name)
        self._everything.callback(program.stop)
        _wait_for(program, lambda: listening(port))
        return program

    @cached_property
    def certificate(self) -> Certificate:
        """What peers serve where a row asks for TLS."""
        return certificate.make(self.folder)

    @contextmanager
    def client(self, name: str, *arguments: object) -> Iterator[Program]:
        """Runs a client that speaks through pipes: a program of `bench/programs`, or a `.py` of `bench`."""
        script = [sys.executable, str(Path(__file__).with_name(name))] if name.endswith(".py") else [str(built(name))]
        program = Program([*script, *map(str, arguments)], self.client_core, self.folder, name, speaks=True)
        try:
            yield program
        finally:
            program.stop()

    @contextmanager
    def serving(self, peer: Peer, scenario: Scenario) -> Iterator[Running]:
        """Runs a peer until the caller is done with it."""
        running = self.launch(peer, scenario)
        try:
            yield running
        finally:
            running.program.stop()

    def launch(self, peer: Peer, scenario: Scenario) -> Running:
        """Starts a peer on the proxy's core and waits for its first answer."""
        for attempt in range(1, ATTEMPTS + 1):
            running = self.spawn(peer, scenario)
            try:
                _wait_for(running.program, partial(answers if _in_http1(scenario) else listening, running.port))
            except BenchError:
                running.program.stop()
                if attempt == ATTEMPTS:
                    raise
            else:
                return running
        raise AssertionError("the last attempt returns or raises")

    def spawn(self, peer: Peer, scenario: Scenario) -> Running:
        """Starts a peer on the proxy's core, and does not wait."""
        self._count += 1
        folder = self.folder / f"{self._count:03}-{peer.name.replace(' ', '-')}"
        folder.mkdir()
        port = free_port()
        command = peer.prepare(folder, port, self.origin, scenario)
        program = Program(command, self.proxy_core, folder, peer.name.replace(" ", "-"))
        return Running(peer, program, port, folder, scenario.tls)


def _in_http1(scenario: Scenario) -> bool:
    return not scenario.http2 and scenario.tls is None


def answers(port: int, path: str = "/", status: int | None = None) -> bool:
    """Whether a request is answered, with any status unless one is named: some plans have no route for `/`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return status in (None, answer.status)


def raise_file_limit() -> int:
    """Open files, as many as the system allows; peers inherit the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


@contextmanager
def open_stand(settings: Settings) -> Iterator[Stand]:
    """A stand in a temporary folder, cleared away however the bench ends."""
    before = os.sched_getaffinity(0)
    terminated = signal.signal(signal.SIGTERM, lambda *_: _raise_interrupt())
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        stand = Stand(settings, Path(folder))
        try:
            yield stand
        finally:
            stand.close()
            os.sched_setaffinity(0, before)
            signal.signal(signal.SIGTERM, terminated)


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


def _wait_for(program: Program, ready: Callable[[], bool]) -> None:
    def settled() -> bool:
        return not program.alive() or ready()

    try:
        wait_until(settled, PATIENCE, f"{program.name} answers")
    except BenchError as error:
        raise BenchError(f"{error}: {program.last_words()}") from None
    if not program.alive():
        raise BenchError(f"{program.name} ended at its start: {program.last_words()}")
