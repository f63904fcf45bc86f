"""A client for large bodies: whole transfers, and streams whose other side has stopped reading."""

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.certificate import Certificate
from bench.check import curl, expect, origin_of

BLOCK = 256 * 1024
PATIENCE = 30.0
# A stream that takes nothing for this long is full.
FULL_AFTER = 0.5
_FULL = (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError)


def download(port: int, length: int, tls: Certificate | None = None) -> None:
    """Fetches a large body and counts its bytes."""
    with _connected(port, tls) as connection:
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


def upload(port: int, length: int, tls: Certificate | None = None) -> None:
    """Sends a large body and reads the count that the origin answers."""
    block = memoryview(bytes(BLOCK))
    with _connected(port, tls) as connection:
        _announce(connection, "/upload", length)
        for sent in range(0, length, BLOCK):
            connection.sendall(block[: min(BLOCK, length - sent)])
        answer = b""
        while f"received {length}\n".encode() not in answer:
            got = connection.recv(4096)
            expect(bool(got), f"upload: {answer[-60:]!r}")
            answer += got


@contextmanager
def stalled_downloads(port: int, streams: int, length: int, tls: Certificate | None = None) -> Iterator[None]:
    """Asks for large bodies and reads none of them."""
    with ExitStack() as stack:
        for _ in range(streams):
            _ask_for(stack.enter_context(_connected(port, tls)), length)
        yield


@contextmanager
def stalled_uploads(
    port: int, streams: int, length: int, wait_ms: int, tls: Certificate | None = None
) -> Iterator[None]:
    """Sends large bodies to an origin that does not read them for a while, until no stream takes more."""
    with ExitStack() as stack:
        open_ = [stack.enter_context(_connected(port, tls)) for _ in range(streams)]
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
            except _FULL:
                continue


def download_http2(port: int, length: int, tls: Certificate | None) -> None:
    """Fetches a large body over HTTP/2."""
    words = [*curl(tls), "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{size_download}"]
    _tells([*words, f"{origin_of(port, tls)}/large/{length}"], f"2 200 {length}")


def upload_http2(port: int, length: int, tls: Certificate | None, body: Path) -> None:
    """Sends a large body, a file of this length, over HTTP/2."""
    words = [*curl(tls), "-X", "POST", "-T", str(body), "-w", "%{http_version} %{http_code}"]
    _tells([*words, f"{origin_of(port, tls)}/upload"], f"received {length}\n2 200")


@contextmanager
def stalled_downloads_http2(port: int, streams: int, length: int, tls: Certificate | None) -> Iterator[None]:
    """Asks for large bodies over HTTP/2 and reads next to nothing of them."""
    words = [*curl(tls), "--limit-rate", "1", "-o", "/dev/null", f"{origin_of(port, tls)}/large/{length}"]
    with _running([words] * streams):
        yield


@contextmanager
def stalled_uploads_http2(port: int, streams: int, tls: Certificate | None, body: Path, wait_ms: int) -> Iterator[None]:
    """Sends large bodies over HTTP/2 to an origin that does not read them for a while."""
    words = [*curl(tls), "-X", "POST", "-T", str(body), "-o", "/dev/null", f"{origin_of(port, tls)}/stall/{wait_ms}"]
    with _running([words] * streams):
        yield


def _tells(words: list[str], expected: str) -> None:
    done = subprocess.run(words, capture_output=True, timeout=PATIENCE * 3, check=False)
    told = done.stdout.decode(errors="replace")
    expect(told == expected, f"curl: {told[-60:]!r}, not {expected!r} {done.stderr[-100:]!r}")


@contextmanager
def _running(commands: list[list[str]]) -> Iterator[None]:
    programs = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for words in commands]
    try:
        yield
    finally:
        for one in programs:
            one.kill()
            one.wait(5)


def _connected(port: int, tls: Certificate | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return tls.context().wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain


def _ask_for(connection: socket.socket, length: int) -> None:
    connection.sendall(f"GET /large/{length} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())


def _announce(connection: socket.socket, path: str, length: int) -> None:
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {length}\r\n\r\n".encode())
