"""The product as its users have it: the command in a process of its own, and an origin behind it."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tests.product.waiting import wait_for

if TYPE_CHECKING:
    import signal
    from collections.abc import Iterator

DEADLINE = 20.0
"""Seconds that anything here may take."""


def command() -> list[str]:
    """The installed command, or the package where it is not installed."""
    installed = shutil.which("penstock", path=str(Path(sys.executable).parent))
    return [installed] if installed else [sys.executable, "-m", "penstock"]


class Origin(http.server.ThreadingHTTPServer):
    """Answers every GET with its name; `/slow` only when `release` is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.release = threading.Event()
        self.entered = threading.Event()
        super().__init__(("127.0.0.1", 0), _Answer)
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go away."""


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: Origin

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.server.entered.set()
            self.server.release.wait(DEADLINE)
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@dataclass
class Running:
    """A `penstock run` that serves."""

    process: subprocess.Popen[str]
    control: Path
    config: Path
    lines: list[dict[str, Any]] = field(default_factory=list)

    def address(self, listener: str = "web") -> str:
        """Where a listener is, from the process log."""
        return self._logged("listening", listener=listener)["address"]

    @property
    def admin(self) -> str:
        """Where the admin listener is, from the process log."""
        return self._logged("admin listening")["address"]

    def get(self, path: str, address: str | None = None) -> tuple[int, str]:
        """Status and body of one GET over a connection of its own."""
        connection = http.client.HTTPConnection(address or self.address(), timeout=DEADLINE)
        connection.request("GET", path)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another `penstock` against this one."""
        return run(*words, "-c", str(self.config), "--control", str(self.control))

    def status(self) -> dict[str, Any]:
        """What `penstock status` says."""
        found: dict[str, Any] = json.loads(self.command("status", "--json").stdout)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end and return its exit code."""
        return self.process.wait(DEADLINE)

    def messages(self) -> list[str]:
        """The messages of its log so far."""
        return [line["message"] for line in self.lines]

    def _logged(self, message: str, **fields: str) -> dict[str, Any]:
        return next(
            line
            for line in reversed(self.lines)
            if line["message"] == message and all(line[key] == value for key, value in fields.items())
        )


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*command(), *words], capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})}
    )


@contextlib.contextmanager
def serving(config: Path, env: dict[str, str] | None = None) -> Iterator[Running]:
    """`penstock run` on a configuration, for as long as the block; with a further environment."""
    control = config.parent / "control" / "control.sock"
    words = [*command(), "run", "-c", str(config), "--control", str(control), "--log", "json"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    running = Running(process, control, config)
    assert process.stderr is not None
    reading = threading.Thread(target=read_log, args=(process.stderr, running.lines), daemon=True)
    reading.start()
    try:
        wait_for(lambda: "taking commands" in running.messages() or process.poll() is not None, "it serves", DEADLINE)
        assert process.poll() is None, running.lines
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reading.join()
        process.stderr.close()


def read_log(stream: IO[str], lines: list[dict[str, Any]]) -> None:
    for line in stream:
        try:
            lines.append(json.loads(line))
        except ValueError:
            lines.append({"message": line.rstrip("\n"), "level": "raw"})
