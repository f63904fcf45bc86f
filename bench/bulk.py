"""A client for large bodies: whole transfers, and streams whose other side has stopped reading."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.check import expect

BLOCK = 256 * 1024
PATIENCE = 30.0
# A stream that takes nothing for this long is full.
FULL_AFTER = 0.5


def download(port: int, length: int) -> None:
    """Fetches a large body and counts its bytes."""
    with _connected(port) as connection:
        _ask_for(connection, length)
        buffer = bytearray(BLOCK)
        got = connection.recv_into(buffer)
        head, gap, _ = bytes(buffer[:got]).partition(b"\r\n\r\n")
        expect(head.startswith(b"HTTP/1.1 200") and bool(gap), f"download: {head[:60]!r}")
        left = length - (got - len(head) - len(gap))
        while left > 0:
            got = connection.recv_into(buffer)
            expect(got > 0, f"download: ended {left} bytes early")
            left -= got
        expect(left == 0, "download: more bytes than were asked for")


def upload(port: int, length: int) -> None:
    """Sends a large body and reads the count that the origin answers."""
    block = memoryview(bytes(BLOCK))
    with _connected(port) as connection:
        _announce(connection, "/upload", length)
        for sent in range(0, length, BLOCK):
            connection.sendall(block[: min(BLOCK, length - sent)])
        answer = b""
        while f"received {length}\n".encode() not in answer:
            got = connection.recv(4096)
            expect(bool(got), f"upload: {answer[-60:]!r}")
            answer += got


@contextmanager
def stalled_downloads(port: int, streams: int, length: int) -> Iterator[None]:
    """Asks for large bodies and reads none of them."""
    with ExitStack() as stack:
        for _ in range(streams):
            _ask_for(stack.enter_context(_connected(port)), length)
        yield


@contextmanager
def stalled_uploads(port: int, streams: int, length: int, wait_ms: int) -> Iterator[None]:
    """Sends large bodies to an origin that does not read them for a while, until no stream takes more."""
    with ExitStack() as stack:
        open_ = [stack.enter_context(_connected(port)) for _ in range(streams)]
        for connection in open_:
            _announce(connection, f"/stall/{wait_ms}", length)
            connection.setblocking(False)
        _fill(open_)
        yield


def _fill(connections: list[socket.socket]) -> None:
    block = bytes(BLOCK)
    last = time.monotonic()
    while time.monotonic() - last < FULL_AFTER:
        for connection in connections:
            try:
                if connection.send(block):
                    last = time.monotonic()
            except BlockingIOError:
                continue


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def _ask_for(connection: socket.socket, length: int) -> None:
    connection.sendall(f"GET /large/{length} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())


def _announce(connection: socket.socket, path: str, length: int) -> None:
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n".encode())
