"""Starting programs on a core, waiting for what they promise, and ending exactly those that were started."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_NEVER = threading.Event()


class BenchError(Exception):
    """Something cannot be measured; the text says what and why."""


def wait_until(condition: Callable[[], bool], seconds: float, what: str, pause: float = 0.01) -> None:
    """Waits for a condition; past the deadline, raises with what was waited for."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not within {seconds:g} s")
        _NEVER.wait(pause)


def wait_settled(read: Callable[[], int], slack: int, quiet: float, least: float, longest: float) -> int:
    """Waits until a number has moved by no more than `slack` for `quiet` seconds, and `least` have passed."""
    start = time.monotonic()
    since, reference = start, read()
    while (now := time.monotonic()) - start < longest:
        value = read()
        if abs(value - reference) > slack:
            since, reference = now, value
        if now - since >= quiet and now - start >= least:
            break
        _NEVER.wait(0.25)
    return read()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    """Whether something accepts on a port of the loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What is started within inherits the core from its first instruction, with every thread that it makes."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Program:
    """A program of the bench's own, on one core, its output in a file."""

    def __init__(
        self, command: Sequence[str], core: int | None, folder: Path, name: str, *, speaks: bool = False
    ) -> None:
        """Starts it; `speaks`: its standard input and output are pipes for the caller."""
        self.name = name
        self.log = folder / f"{name}.log"
        self.output = folder / f"{name}.out"
        environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
        with self.log.open("ab") as errors, self.output.open("ab") as output, on_core(core):
            self.popen = subprocess.Popen(
                list(command),
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE if speaks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if speaks else output,
                stderr=errors,
                text=True,
                # Its own group: Ctrl-C reaches the bench alone, which then ends what it started.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def alive(self) -> bool:
        return self.popen.poll() is None

    def last_words(self) -> str:
        """The end of what it wrote, for an error message."""
        lines = (self.log.read_text(errors="replace") + self.output.read_text(errors="replace")).splitlines()
        return " | ".join(lines[-3:]) or "no output"

    def ask(self, line: str | None, seconds: float) -> str:
        """Writes a line (or nothing) and returns the next line of the answer."""
        if line is not None:
            _pipe(self.popen.stdin).write(line + "\n")
            _pipe(self.popen.stdin).flush()
        watchdog = threading.Timer(seconds, self.popen.kill)
        watchdog.start()
        try:
            answer = _pipe(self.popen.stdout).readline().strip()
        finally:
            watchdog.cancel()
        if not answer:
            raise BenchError(f"{self.name}: ended or silent for {seconds:g} s: {self.last_words()}")
        return answer

    def stop(self) -> None:
        """Ends it: asked first, then killed."""
        if self.alive():
            self.popen.send_signal(signal.SIGTERM)
            try:
                self.popen.wait(3)
            except subprocess.TimeoutExpired:
                self.popen.send_signal(signal.SIGTERM)
                self._kill()
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()

    def _kill(self) -> None:
        try:
            self.popen.wait(1)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(5)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise BenchError("the program was started without pipes")
    return pipe
