"""Reloads of a process, by signal and by command, while requests and tunnels go on (fault 156 of the catalogue)."""

from __future__ import annotations

import itertools
import signal
import socket
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from penstock.control.channel import ask
from tests.load.client import Tally, run_load
from tests.load.origin import EchoOrigins
from tests.load.tokens import Tokens
from tests.product.product import serving

if TYPE_CHECKING:
    import random

    from tests.product.product import Running

CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.echo]
endpoints = ["{}", "{}"]
[[routes]]
name = "one"
upstream = "echo"
[engine]
workers = 2
"""
TUNNELS = 8


class Patient(Tokens):
    """As `Tokens`, without clients that give up: then every lost answer is a loss."""

    def aborts(self, dice: random.Random) -> bool:
        """Never."""
        del dice
        return False


@dataclass
class Storm:
    """What came of it."""

    tally: Tally
    tunnels_lost: int
    applied: int
    """Configurations that the process applied."""
    connects: int
    """Connections to endpoints."""


class Tunnels:
    """Upgraded connections on which words go forth and back; one that ends or answers wrong is lost."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.lost = 0
        self._end = threading.Event()
        self._socks = [self._open(address) for _ in range(TUNNELS)]
        self._thread = threading.Thread(target=self._talk)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(20)
        for sock in self._socks:
            sock.close()

    @staticmethod
    def _open(address: tuple[str, int]) -> socket.socket:
        sock = socket.create_connection(address, 20)
        sock.sendall(b"GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = sock.recv(1)
            if not more:
                raise ConnectionError(f"no tunnel: {head!r}")
            head += more
        return sock

    def _talk(self) -> None:
        for number in itertools.count():
            for sock in list(self._socks):
                if not self._echoes(sock, b"word %08d" % number):
                    self.lost += 1
                    self._socks.remove(sock)
            if self._end.wait(0.01):
                return

    @staticmethod
    def _echoes(sock: socket.socket, word: bytes) -> bool:
        try:
            sock.sendall(word)
            got = b""
            while len(got) < len(word) and (more := sock.recv(len(word) - len(got))):
                got += more
        except OSError:
            return False
        return got == word


def run_storm(running: Running, *, requests: int, reloads: int, signals: int) -> Storm:
    """Load, and `reloads` changes with `signals` HUPs evenly over it."""
    text = running.config.read_text("utf-8")
    host, _, port = running.address().rpartition(":")
    address = (host, int(port))
    before = running.status()["plan_version"]

    def change(number: int) -> None:
        other = f"[[routes]]\nmatch = 'path == \"/{number}\"'\nrespond = {{ status = 204 }}\n"
        changed = text.replace("[[routes]]", f"{other}[[routes]]", 1)
        # Whole at once: a signal's reload may read it at any moment.
        beside = running.config.with_suffix(".new")
        beside.write_text(changed, "utf-8")
        beside.replace(running.config)
        for _ in range(signals // reloads):
            running.signal(signal.SIGHUP)
        ask(running.control, {"command": "reload"}, 20)

    with Tunnels(address) as tunnels:
        tally = run_load(Patient(), address, requests=requests, marks=reloads, at_mark=change)
    status = running.status()
    connects = sum(row["connects"] for one in status["upstreams"] for row in one["endpoints"])
    return Storm(tally, tunnels.lost, status["plan_version"] - before, connects)


def run_storm_alone(requests: int, reloads: int, signals: int) -> Tally:
    """A process of its own under `run_storm`; tunnels that were lost count as wrong."""
    with tempfile.TemporaryDirectory() as folder, EchoOrigins("a", "b") as origins:
        config = Path(folder) / "penstock.toml"
        config.write_text(CONFIG.format(*origins.addresses.values()), "utf-8")
        with serving(config) as running:
            storm = run_storm(running, requests=requests, reloads=reloads, signals=signals)
    for _ in range(storm.tunnels_lost):
        storm.tally.wrong_one("a tunnel was lost")
    return storm.tally
