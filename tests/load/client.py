"""Many connections that ask and check every answer, in processes of their own."""

from __future__ import annotations

import multiprocessing
import random
import selectors
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Protocol

from tests.load.origin import parse_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_SPAWN = multiprocessing.get_context("spawn")
_SILENCE = 20.0  # seconds without any answer that count as a hang


class Work(Protocol):
    """What to ask and what is right; it crosses to other processes, so it is a plain value."""

    def request(self, number: int) -> bytes:
        """The bytes of request `number`."""

    def fault(self, number: int, head: bytes, body: bytes) -> str | None:
        """What is wrong with its answer."""

    def batch(self, dice: random.Random) -> int:
        """How many requests to send at once."""

    def aborts(self, dice: random.Random) -> bool:
        """Whether to give this batch up and reset the connection."""


@dataclass
class Tally:
    """What came of it."""

    answered: int = 0
    aborted: int = 0
    wrong: int = 0
    lost: int = 0
    """Of the wrong ones, those whose connection ended without an answer."""
    retried: int = 0
    """By the proxy, as it says."""
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Sum up."""
        self.answered += other.answered
        self.aborted += other.aborted
        self.wrong += other.wrong
        self.lost += other.lost
        self.examples = (self.examples + other.examples)[:5]

    def wrong_one(self, example: str) -> None:
        """Count a fault."""
        self.wrong += 1
        if len(self.examples) < 5:
            self.examples.append(example)


def run_load(
    work: Work,
    address: tuple[str, int],
    *,
    requests: int,
    connections: int = 64,
    processes: int = 2,
    marks: int = 0,
    at_mark: Callable[[int], None] = lambda _: None,
) -> Tally:
    """Ask `requests` times; `at_mark(n)` is called here `marks` times, evenly spread over the work."""
    pipes, running = [], []
    for index in range(processes):
        ours, theirs = _SPAWN.Pipe()
        share = (index, processes, requests // processes, connections // processes, marks)
        process = _SPAWN.Process(target=_ask, args=(theirs, work, address, share), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        running.append(process)
    try:
        return _collect(pipes, processes, at_mark)
    finally:
        for process in running:
            process.join(5)
            if process.is_alive():
                process.kill()


def _collect(pipes: list[Connection], processes: int, at_mark: Callable[[int], None]) -> Tally:
    total, seen, mark = Tally(), 0, 0
    open_pipes = list(pipes)
    while open_pipes:
        ready = wait(open_pipes, timeout=3 * _SILENCE)
        if not ready:
            raise TimeoutError("the load processes are silent")
        for pipe in ready:
            try:
                message = pipe.recv()  # type: ignore[union-attr]
            except EOFError:
                open_pipes.remove(pipe)  # type: ignore[arg-type]
                continue
            if isinstance(message, Tally):
                total.add(message)
            else:
                seen += 1
                while mark < seen // processes:
                    mark += 1
                    at_mark(mark)
    return total


def _ask(pipe: Connection, work: Work, address: tuple[str, int], share: tuple[int, int, int, int, int]) -> None:
    index, step, count, connections, marks = share
    crowd = Crowd(work, address, random.Random(index))
    crowd.numbers = deque(range(index, count * step, step))
    crowd.marks = {count * (n + 1) // (marks + 1) for n in range(marks)}
    crowd.say = pipe.send
    crowd.run(connections)
    pipe.send(crowd.tally)


class Caller:
    """One connection and the requests on it that wait for an answer."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, _SILENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.waiting: deque[int] = deque()
        self.received = b""

    def reset(self) -> None:
        """Go away without a word."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Crowd:
    """All connections of one process."""

    def __init__(self, work: Work, address: tuple[str, int], dice: random.Random) -> None:
        self.numbers: deque[int] = deque()
        self.marks: set[int] = set()
        self.say: Callable[[str], None] = lambda _: None
        self.tally = Tally()
        self._work, self._address, self._dice = work, address, dice
        self._selector = selectors.DefaultSelector()

    def run(self, connections: int) -> None:
        """Until every number is asked and answered, or nothing comes any more."""
        for _ in range(connections):
            self._join()
        while self._selector.get_map():
            ready = self._selector.select(_SILENCE)
            if not ready:
                left = [number for key in self._selector.get_map().values() for number in key.data.waiting]
                self.tally.wrong_one(f"no answer within {_SILENCE:g} s to {left[:10]} and {len(left)} in all")
                return
            for key, _ in ready:
                self._read(key.data)

    def _join(self) -> None:
        while self.numbers:
            caller = Caller(self._address)
            if self._work.aborts(self._dice):
                self._give_up(caller)
            else:
                self._send(caller)
                self._selector.register(caller.sock, selectors.EVENT_READ, caller)
                return

    def _send(self, caller: Caller) -> None:
        batch = self._batch()
        caller.waiting.extend(batch)
        caller.sock.sendall(b"".join(map(self._work.request, batch)))

    def _give_up(self, caller: Caller) -> None:
        batch = self._batch()
        block = b"".join(map(self._work.request, batch))
        caller.sock.sendall(block[: self._dice.randrange(1, len(block) + 1)])
        caller.reset()
        self._count(len(batch), aborted=True)

    def _batch(self) -> list[int]:
        count = min(self._work.batch(self._dice), len(self.numbers))
        return [self.numbers.popleft() for _ in range(count)]

    def _count(self, count: int, *, aborted: bool = False) -> None:
        before = self.tally.answered + self.tally.aborted
        if aborted:
            self.tally.aborted += count
        else:
            self.tally.answered += count
        for number in range(before + 1, before + count + 1):
            if number in self.marks:
                self.say("mark")

    def _read(self, caller: Caller) -> None:
        try:
            more = caller.sock.recv(65536)
        except OSError:
            more = b""
        if not more:
            self._lost(caller)
            return
        caller.received += more
        while (answer := parse_message(caller.received)) is not None:
            head, body, size = answer
            caller.received = caller.received[size:]
            number = caller.waiting.popleft() if caller.waiting else -1
            fault = self._work.fault(number, head, body) if number >= 0 else "an answer to no question"
            if fault:
                self.tally.wrong_one(f"{number}: {fault}")
            self._count(1)
        if not caller.waiting:
            self._go_on(caller)

    def _go_on(self, caller: Caller) -> None:
        if self.numbers and not self._work.aborts(self._dice):
            self._send(caller)
            return
        self._selector.unregister(caller.sock)
        if self.numbers:
            self._give_up(caller)
            self._join()
        else:
            caller.sock.close()

    def _lost(self, caller: Caller) -> None:
        self._selector.unregister(caller.sock)
        caller.sock.close()
        self.tally.lost += len(caller.waiting)
        for number in caller.waiting:
            self.tally.wrong_one(f"{number}: the connection ended without its answer; so far {caller.received[:200]!r}")
        self._count(len(caller.waiting))
        self._join()
