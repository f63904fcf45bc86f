"""A `penstock run` in a process of its own, with fewer resources than it would like."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.product.product import DEADLINE, command, read_log
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, connect

if TYPE_CHECKING:
    from types import TracebackType

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Process:
    """Serves `config` from `enter` to `exit`; `admin` is asked over HTTP."""

    config: str
    folder: Path
    descriptors: int | None = None
    group: Path | None = None
    env: dict[str, str] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Process:
        path = self.folder / "penstock.toml"
        path.write_text(self.config, "utf-8")
        words = ["run", "-c", str(path), "--control", str(self.folder / "run" / "control.sock"), "--log", "json"]
        self.process = subprocess.Popen(
            [*command(), *words],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.env},
            preexec_fn=self._limit,  # noqa: PLW1509 - no thread of ours holds a lock here
        )
        assert self.process.stderr is not None
        self._reading = threading.Thread(target=read_log, args=(self.process.stderr, self.lines), daemon=True)
        self._reading.start()
        wait_for(lambda: self.logged("taking commands") or self.process.poll() is not None, "a start", DEADLINE)
        assert self.process.poll() is None, self.lines
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
        if self.process.stderr:
            self.process.stderr.close()

    def _limit(self) -> None:
        if self.descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))
        if self.group:
            (self.group / "cgroup.procs").write_text("0", "ascii")

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The lines of the process log with `message` in them."""
        return [line for line in self.lines if message in line["message"]]

    def address(self, listener: str = "web") -> tuple[str, int]:
        """Where a listener is."""
        return _pair(next(line["address"] for line in self.logged("listening") if line.get("listener") == listener))

    def admin(self, path: str, deadline: float = DEADLINE) -> tuple[int, str]:
        """Status and body of a question to the admin listener."""
        return get(_pair(self.logged("admin listening")[0]["address"]), path, deadline)

    def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels."""
        status, text = self.admin("/metrics")
        assert status == 200
        return {name: float(value) for name, value in re.findall(r"^(penstock_\S+) (\S+)$", text, re.MULTILINE)}

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self) -> int:
        """Bytes of memory in use."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def get(
    address: tuple[str, int], path: str = "/", deadline: float = DEADLINE, source: str | None = None
) -> tuple[int, str]:
    """Status and body of one GET over a connection of its own."""
    client = connect(address, source)
    try:
        client.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        client.read_until(lambda _: False, deadline)
        return status(client), bytes(client.received).partition(b"\r\n\r\n")[2].decode()
    finally:
        client.close()


def ask(client: Connection, path: str = "/") -> int:
    """The status of one GET whose answer has a body, on a connection that stays open."""
    client.received.clear()
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client.read_until(lambda got: b"\r\n\r\n" in got and not got.endswith(b"\r\n\r\n"))
    return status(client)


def status(client: Connection) -> int:
    """The status of what was received; 0 where there was none."""
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", bytes(client.received))
    return int(found[1]) if found else 0


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
