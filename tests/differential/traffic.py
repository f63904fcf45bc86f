"""Both ends of the proxy in one loop: clients that send scripts, and an origin that answers and records every byte."""

from __future__ import annotations

import re
import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SILENCE = 20.0
"""Seconds without any event that count as a hang."""
_AT_ONCE = 24
_PAUSE = 0.002
"""Seconds without any event after which those who wait with the second half of their bytes go on."""
_REQUESTS = 40
"""Requests after which the origin closes a connection: what was recorded of it is then complete."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


class HangError(Exception):
    """Nobody says anything, and somebody waits."""


@dataclass
class Sent:
    """One script and the statuses that came back."""

    script: bytes
    cut: int
    """Where the client cuts what it writes in two."""
    statuses: list[int] = field(default_factory=list)


class Traffic:
    """Runs scripts through a proxy; what the origin recorded of closed connections is in `recordings`."""

    def __init__(self) -> None:
        self.recordings: list[bytes] = []
        self.selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.origin = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._open = 0
        self._asking = 0
        self._paused: list[_Client] = []

    def run(self, address: tuple[str, int], scripts: Sequence[Sent]) -> None:
        """Until every script has its answers. Raises `HangError`."""
        waiting = iter(scripts)
        started = 0
        while started < len(scripts) or self._asking:
            while self._asking < _AT_ONCE and started < len(scripts):
                _Client(self, address, next(waiting), started)
                self._asking += 1
                started += 1
            self._turn()

    def finish(self) -> None:
        """Until the proxy has closed every connection."""
        while self._open:
            self._turn()
        self.selector.close()
        self._listener.close()

    def answered(self) -> None:
        """One client has all it will get."""
        self._asking -= 1

    def pause(self, client: _Client) -> None:
        """Let the proxy read what it has of this one first."""
        self._paused.append(client)

    def recorded(self, recording: bytes) -> None:
        """One connection to the origin is closed."""
        self._open -= 1
        if recording:
            self.recordings.append(recording)

    def _turn(self) -> None:
        ready = self.selector.select(_PAUSE if self._paused else _SILENCE)
        if not ready and not self._paused:
            raise HangError(f"{self._asking} clients wait, {self._open} connections to the origin are open")
        if not ready or len(self._paused) > _AT_ONCE // 2:
            paused, self._paused = self._paused, []
            for client in paused:
                client.go_on()
        for key, events in ready:
            step: Callable[[int], None] = key.data
            step(events)

    def _accept(self, _: int) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except BlockingIOError:
                return
            self._open += 1
            _Origin(self, connection)


class _Client:
    """Writes its script, ends its side, and reads to the end."""

    def __init__(self, traffic: Traffic, address: tuple[str, int], sent: Sent, number: int) -> None:
        self._traffic, self._sent = traffic, sent
        self._socket = socket.socket()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One client after another from 16 addresses: each has ports of its own, which rest for a minute.
        self._socket.bind((f"127.0.0.{2 + number % 16}", 0))
        self._socket.connect(address)
        self._socket.setblocking(False)
        self._pieces = [piece for piece in (sent.script[: sent.cut], sent.script[sent.cut :]) if piece]
        self._received = bytearray()
        traffic.selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self._step)

    def go_on(self) -> None:
        """Write what is left, if nobody has closed meanwhile."""
        if self._socket.fileno() >= 0:
            self._traffic.selector.modify(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self._step)

    def _step(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                self._write()
            if events & selectors.EVENT_READ:
                self._read()
        except OSError:
            self._end()  # refused and closed while we still wrote

    def _write(self) -> None:
        if self._pieces:
            sent = self._socket.send(self._pieces[0])
            self._pieces[0] = self._pieces[0][sent:]
            if not self._pieces[0]:
                del self._pieces[0]
                if self._pieces:
                    self._traffic.selector.modify(self._socket, selectors.EVENT_READ, self._step)
                    self._traffic.pause(self)
                    return
        if not self._pieces:
            self._socket.shutdown(socket.SHUT_WR)
            self._traffic.selector.modify(self._socket, selectors.EVENT_READ, self._step)

    def _read(self) -> None:
        more = self._socket.recv(65536)
        self._received += more
        if not more:
            self._end()

    def _end(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._traffic.selector.unregister(self._socket)
        self._socket.close()
        self._sent.statuses = [status for found in _STATUS.findall(self._received) if (status := int(found)) >= 200]
        self._traffic.answered()


class _Origin:
    """One connection from the proxy. It must know where requests end to answer them; whether it is right about that is
    what the readers judge."""

    def __init__(self, traffic: Traffic, connection: socket.socket) -> None:
        self._traffic, self._socket = traffic, connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._recording = bytearray()
        self._at = self._answers = 0
        self._continued = -1
        traffic.selector.register(connection, selectors.EVENT_READ, self._step)

    def _step(self, _: int) -> None:
        try:
            more = self._socket.recv(262144)
            self._recording += more
            if not more or not self._answer():
                self._end()
        except OSError:
            self._end()

    def _answer(self) -> bool:
        """Answer what is whole; False: and close."""
        while (found := self._request()) is not None:
            method, self._at = found
            self._answers += 1
            last = self._answers == _REQUESTS
            self._socket.send(
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b\r\n%b"
                % (b"Connection: close\r\n" if last else b"", b"" if method == b"HEAD" else b"ok")
            )
            if last:
                return False
        return True

    def _request(self) -> tuple[bytes, int] | None:
        end = self._recording.find(b"\r\n\r\n", self._at)
        if end < 0:
            return None
        head = bytes(self._recording[self._at : end])
        at = end + 4
        method = head[: head.index(b" ")]
        if b"\r\nexpect:" in head.lower() and self._continued < self._at:
            self._continued = self._at
            self._socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if _CODED.search(head):
            while (line := self._recording.find(b"\r\n", at)) >= 0:
                size = int(self._recording[at:line], 16)
                at = line + 2 + size + 2
                if size == 0:
                    # Trailers, if there are any, end with a blank line.
                    close = self._recording.find(b"\r\n\r\n", line)
                    return (method, close + 4) if close >= 0 else None
                if at > len(self._recording):
                    return None
            return None
        length = _LENGTH.search(head)
        at += int(length[1]) if length else 0
        return (method, at) if at <= len(self._recording) else None

    def _end(self) -> None:
        self._traffic.selector.unregister(self._socket)
        self._socket.close()
        self._traffic.recorded(bytes(self._recording))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Ask until it holds. Raises `HangError`."""
    end = time.monotonic() + _SILENCE
    while not condition():
        if time.monotonic() > end:
            raise HangError(f"not within {_SILENCE:g} s: {what}")
