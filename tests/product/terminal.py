"""Documents as somebody at a terminal reads them: their blocks, and a shell in which the commands are typed.

A `console` block has commands (`$ …`) and what they print. `…` on a line of its own stands for any lines, inside a
line for any text. What differs from run to run (times, process ids, ports, milliseconds) is compared as such.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING

from tests.ports import Reserved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
DEADLINE = 60.0
_MARK = "-- end of output --"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"(?<=:)(?:80|90|99)\d\d\b|(?<=http\.server )\d{4}")
_VARIES = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "TIME"),
    (re.compile(r"\bpid \d+"), "pid N"),
    (re.compile(r"\bup \d+s"), "up Ns"),
    (re.compile(r"\d+ workers"), "N workers"),
    (re.compile(r"\S+/penstock[-/]\S*\.sock"), "SOCKET"),
    (re.compile(r"\b\d+\.\d ms"), "N ms"),
    # Columns are as wide as what stands in them.
    (re.compile(r"(?<=\S) {2,}"), "  "),
    (re.compile(r" +$", re.MULTILINE), ""),
]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return [text for found, text in _FENCE.findall(page.read_text("utf-8")) if found == language]


def steps(block: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        yield command, output


class Ports:
    """The ports of a document, each with one of ours in its place."""

    def __init__(self) -> None:
        self._ours: dict[str, Reserved] = {}

    def real(self, text: str) -> str:
        """The text with our ports."""
        return _PORT.sub(lambda found: str(self._stand_in(found[0]).number), text)

    def written(self, text: str) -> str:
        """The text with the document's ports."""
        for port, ours in self._ours.items():
            text = re.sub(rf"\b{ours.number}\b", port, text)
        return text

    def close(self) -> None:
        """Give them back."""
        for ours in self._ours.values():
            ours.close()

    def _stand_in(self, port: str) -> Reserved:
        if port not in self._ours:
            self._ours[port] = Reserved()
        return self._ours[port]


class Terminal:
    """One bash in one folder."""

    def __init__(self, folder: Path) -> None:
        bin_folder = Path(sys.executable).parent
        self._lines: Queue[str] = Queue()
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "NO_COLOR": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def type(self, command: str) -> str:
        """Run one command; what it printed."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\necho '{_MARK}'\n")
        self._bash.stdin.flush()
        printed = []
        while (line := self._next(command)) != _MARK:
            printed.append(line)
        return "".join(f"{line}\n" for line in printed)

    def close(self) -> None:
        """End everything that was started here."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line.rstrip("\n"))

    def _next(self, command: str) -> str:
        try:
            return self._lines.get(timeout=DEADLINE)
        except Empty:
            raise AssertionError(f"{command!r} does not end") from None


def play(page: Path, folder: Path, eventually: Callable[[Callable[[], object]], None]) -> None:
    """Write the page's first configuration to penstock.toml, type its commands in order, compare what is printed."""
    ports = Ports()
    (folder / "penstock.toml").write_text(ports.real(blocks(page, "toml")[0]), "utf-8")
    terminal = Terminal(folder)
    try:
        for block in blocks(page, "console"):
            for command, expected in steps(block):
                if command.startswith("make "):
                    continue
                if command.startswith("cat "):
                    # A log is as long as it is going to be only after a while.
                    eventually(lambda: len(terminal.type(ports.real(command)).splitlines()) >= expected.count("\n"))  # noqa: B023 - it is over before the next turn
                printed = terminal.type(ports.real(command))
                if re.search(r" &(\s|$)", command):
                    _wait_for(ports.real(command), folder, eventually)
                else:
                    compare(command, expected, ports.written(printed))
    finally:
        terminal.close()
        ports.close()


def compare(command: str, expected: str, printed: str) -> None:
    """Fails unless the document's output stands for what was printed."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "…" else _line(line) for line in _plain(expected).splitlines())
    found = _plain(printed)
    assert re.fullmatch(pattern, found), f"$ {command}\n--- the document says\n{expected}--- printed\n{printed}"


def _line(text: str) -> str:
    return ".*".join(map(re.escape, text.split("…"))) + "\n"


def _plain(text: str) -> str:
    for pattern, stands in _VARIES:
        text = pattern.sub(stands, text)
    return text


def _wait_for(command: str, folder: Path, eventually: Callable[[Callable[[], object]], None]) -> None:
    """Until what was started in the background serves."""
    try:
        eventually(lambda: _serves(command, folder))
    except AssertionError:
        logs = "".join(f"\n--- {log.name}\n{log.read_text('utf-8')}" for log in folder.glob("*.log"))
        raise AssertionError(f"{command!r} does not serve{logs}") from None


def _serves(command: str, folder: Path) -> bool:
    """Whether what was started in the background has begun to serve."""
    if "penstock run" in command:
        # Asking it for a connection would show in its counters.
        log = folder / command.partition("2>")[2].split()[0]
        return log.exists() and "taking commands" in log.read_text("utf-8")
    if datagrams := re.findall(r"udp :(\d+)", command):
        return all(_is_bound(int(port)) for port in datagrams)
    ports = re.findall(r"http\.server (\d+)", command) or re.findall(r"(?:proxy|tcp|forward) :(\d+)", command)
    assert ports, f"what does {command!r} serve?"
    return all(_accepts(int(port)) for port in ports)


def _accepts(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _is_bound(port: int) -> bool:
    """Whether somebody takes datagrams there, who says nothing of it."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
        try:
            one.bind(("::", port))
        except OSError:
            return True
    return False
