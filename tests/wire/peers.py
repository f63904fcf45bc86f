"""The two ends of a dialogue: raw clients and scripted origins. They move bytes and decide nothing."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tests.wire.receive_queue import wait_until_read

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 5.0
LARGE = 32 * 1024  # larger blocks may fill the socket buffers, so they are sent beside the dialogue

Address = tuple[str, int] | str


def be_patient_for(seconds: float) -> None:
    """Another deadline for all that is awaited from now on."""
    global DEADLINE  # noqa: PLW0603 - one for all connections, as the constant is
    DEADLINE = seconds


class TimedOutError(AssertionError):
    """What was awaited did not happen within the deadline."""


@dataclass
class Connection:
    """One connection, what came in on it and is not yet accounted for."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    was_reset: bool = False
    _sender: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.sock.settimeout(DEADLINE)
        # With a deadline of its own, where it can be had.
        self._writer = self.sock if isinstance(self.sock, ssl.SSLSocket) else self.sock.dup()
        if self.sock.family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *pieces: bytes) -> None:
        """Send a block in these segments; a peer that went away is no fault here, what it answered is what counts."""
        self.finish_sending()
        if sum(map(len, pieces)) < LARGE:
            self._send(*pieces)
        else:
            self._sender = threading.Thread(target=self._send, args=pieces, daemon=True)
            self._sender.start()

    def finish_sending(self) -> None:
        """Wait for a large block to be gone."""
        if self._sender is not None:
            self._sender.join(DEADLINE)
            self._sender = None

    def _send(self, *pieces: bytes) -> None:
        patient = True
        for number, piece in enumerate(pieces):
            if number and patient:
                patient = wait_until_read(self.sock, limit=0.05)
            if not self._write(piece):
                return

    def _write(self, piece: bytes) -> bool:
        try:
            self._writer.sendall(piece)
        except OSError:
            return False
        return True

    def read_until(self, done: Callable[[bytes], bool], deadline: float | None = None) -> None:
        """Receive until `done` says so or the peer ends; `TimedOutError` at the deadline."""
        deadline = DEADLINE if deadline is None else deadline
        end = time.monotonic() + deadline
        while not done(bytes(self.received)) and not self.ended:
            self.sock.settimeout(max(0.001, end - time.monotonic()))
            try:
                self.read_some()
            except TimeoutError:
                raise TimedOutError(f"nothing more within {deadline:g} s; so far {_shown(self.received)}") from None

    def read_some(self) -> None:
        """One read."""
        try:
            more = self.sock.recv(262_144)
        except (ConnectionResetError, ssl.SSLEOFError):
            # With TLS an end without a word is one that may have been cut.
            more, self.was_reset = b"", True
        self.received += more
        self.ended = not more

    def read_what_is_there(self) -> bytes:
        """What has arrived and nobody asked for."""
        self.sock.settimeout(0)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while not self.ended:
                self.read_some()
        return bytes(self.received)

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        self.finish_sending()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End with a TCP reset."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """End both ways. With TLS, what was said was the whole."""
        self.finish_sending()
        if isinstance(self.sock, ssl.SSLSocket) and self.sock.server_side:
            with contextlib.suppress(OSError, ValueError):
                self.sock.settimeout(0)
                self.sock.unwrap()
        self._writer.close()
        self.sock.close()
        self.ended = True


def _shown(received: bytes | bytearray) -> str:
    return repr(bytes(received[:300])) + (f"... ({len(received)} bytes)" if len(received) > 300 else "")


def is_break_passed_on(one: Connection, other: Connection) -> bool:
    """Whether the other end of what lies between hears of a break as of one, behind what was said before."""
    one.send(b"half of a mess")
    other.read_until(lambda got: got == b"half of a mess")
    one.reset()
    other.read_until(lambda _: False)
    return other.was_reset


def connect(address: Address, source: str | None = None, trust: ssl.SSLContext | None = None) -> Connection:
    """A client's connection, from a chosen loopback address if given, with TLS if it trusts somebody."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(address)
        return Connection(sock)
    sock = socket.create_connection(address, DEADLINE, source_address=(source, 0) if source else None)
    if trust:
        sock = trust.wrap_socket(sock, server_hostname="shop.example", suppress_ragged_eofs=False)
    return Connection(sock)


def refuses(address: tuple[str, int]) -> bool:
    """Whether nobody listens there (any more); a connection that the closing of the listener resets says no yet."""
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False


class Origin:
    """A listening socket; the dialogue speaks on its connections."""

    place: ClassVar[tuple[str, int]] = ("127.0.0.1", 0)
    """Where origins listen; the system gives the port unless a proxy that is already there wants another."""

    def __init__(self, folder: Path | None = None, shows: ssl.SSLContext | None = None) -> None:
        self._shows = shows
        self.path = folder / "origin.sock" if folder else None
        self.connections: list[Connection] = []
        if self.path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.path))
        else:
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.place[1] != 0))
            self._listener.bind(self.place)
        self._listener.listen(128)

    @property
    def address(self) -> str:
        """As an endpoint is written in a configuration."""
        if self.path:
            return f"unix:{self.path}"
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def read_until(self, done: Callable[[bytes], bool]) -> Connection:
        """Receive on the latest connection, a new one becoming the latest, until `done` says so of its bytes."""
        end = time.monotonic() + DEADLINE
        while True:
            latest = self.connections[-1] if self.connections else None
            if latest is not None and done(bytes(latest.received)):
                return latest
            waiting = [self._listener] + ([latest.sock] if latest and not latest.ended else [])
            if latest is not None and isinstance(latest.sock, ssl.SSLSocket) and latest.sock.pending():
                latest.read_some()  # opened already: the system has no more of it
                continue
            ready, _, _ = select.select(waiting, [], [], max(0.0, end - time.monotonic()))
            if not ready:
                seen = f"so far {_shown(latest.received)}" if latest else "no connection either"
                raise TimedOutError(f"nothing more at the origin within {DEADLINE:g} s; {seen}")
            if latest is not None and latest.sock in ready:
                latest.read_some()
            else:
                self._accept()

    def connection(self, number: int) -> Connection:
        """The connection of this number, counted from 1; waits until there are so many."""
        while len(self.connections) < number:
            if not select.select([self._listener], [], [], DEADLINE)[0]:
                raise TimedOutError(f"{len(self.connections)} connections within {DEADLINE:g} s, not {number}")
            self._accept()
        return self.connections[number - 1]

    def accept_all(self) -> list[Connection]:
        """All connections of this dialogue, those nobody looked at included."""
        while select.select([self._listener], [], [], 0)[0]:
            self._accept()
        return self.connections

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        if self._shows:
            sock.settimeout(DEADLINE)
            try:
                sock = self._shows.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)
            except (ssl.SSLEOFError, ConnectionResetError):
                return  # given up before it was one
        self.connections.append(Connection(sock))

    def hang_up(self) -> None:
        """End every connection. A proxy that used one of them afterwards would use what it can see to be closed."""
        for connection in self.accept_all():
            connection.close()
        self.connections = []

    def close(self) -> None:
        """Listen no more."""
        self.hang_up()
        self._listener.close()
        if self.path:
            self.path.unlink(missing_ok=True)


class Refusal:
    """A port that is taken and refuses: bound, never listening."""

    def __init__(self) -> None:
        self._sock = socket.socket()
        self._sock.bind(("127.0.0.1", 0))

    @property
    def address(self) -> str:
        """As an endpoint is written in a configuration."""
        host, port = self._sock.getsockname()
        return f"{host}:{port}"

    def close(self) -> None:
        """Give the port back."""
        self._sock.close()


class ShortFolder:
    """A folder with a path short enough for unix sockets."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="wire")
        self.path = Path(self._folder.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()
