"""An origin that says back what it was asked, on several ports at once, in a process of its own.

An answer's body is one line, `METHOD target token version name`, and then the request's body; `token` and `version`
are the request's X-Token and X-Version (`-` without).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_SPAWN = multiprocessing.get_context("spawn")


class EchoOrigins:
    """A process that listens on one port for each name; on a unix socket if the name is `unix:/path`."""

    def __init__(self, *names: str) -> None:
        self._names = names or ("echo",)
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self._names), daemon=True)
        self._process.start()
        theirs.close()
        if not ours.poll(20):
            raise TimeoutError("the echo origins did not start within 20 s")
        self.addresses = ours.recv()
        self._pipe = ours
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()  # the process ends when nobody holds its pipe
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(5)

    @property
    def address(self) -> str:
        """The first one's."""
        return next(iter(self.addresses.values()))


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


class Echo(asyncio.Protocol):
    """One connection; requests are answered in the order they come. Behind `Upgrade: echo` it echoes. One whose name
    begins with `flaky` closes now and then instead of answering, though never at a connection's first request."""

    def __init__(self, name: str) -> None:
        self._name = name.encode()
        self._received = b""
        self._tunnel = False
        self._answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            self._transport.write(data)  # type: ignore[attr-defined]
            return
        self._received += data
        answers = []
        while (request := parse_message(self._received)) is not None:
            head, body, size = request
            self._received = self._received[size:]
            if field(head.lower(), head, b"upgrade") == b"echo":
                self._tunnel = True
                answers += [SWITCH, self._received]
                break
            if self._answered and self._name.startswith(b"flaky") and random.random() < 0.01:
                self._transport.write(b"".join(answers))  # type: ignore[attr-defined]
                self._transport.close()
                return
            self._answered += 1
            answers.append(self._answer(head, body))
        if answers:
            self._transport.write(b"".join(answers))  # type: ignore[attr-defined]

    def _answer(self, head: bytes, body: bytes) -> bytes:
        method, target, _ = head[: head.index(b"\r\n")].split(b" ")
        lower = head.lower()
        token, version = field(lower, head, b"x-token") or b"-", field(lower, head, b"x-version") or b"-"
        content = b" ".join((method, target, token, version, self._name)) + b"\n" + body
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (
            len(content),
            b"" if method == b"HEAD" else content,
        )


def field(lower: bytes, head: bytes, name: bytes) -> bytes | None:
    """The value of the first field of a name; `lower` is the head in lower case."""
    at = lower.find(b"\r\n" + name + b":")
    if at < 0:
        return None
    at += len(name) + 3
    end = head.find(b"\r\n", at)
    return head[at : end if end >= 0 else len(head)].strip()


def parse_message(received: bytes) -> tuple[bytes, bytes, int] | None:
    """Head, body and size of the message at the beginning, or `None` while it is not complete."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head, at = received[:end], end + 4
    lower = head.lower()
    if (length := field(lower, head, b"content-length")) is not None:
        size = at + int(length)
        return (head, received[at:size], size) if len(received) >= size else None
    if field(lower, head, b"transfer-encoding") is None:
        return head, b"", at
    return _chunked(received, head, at)


def _chunked(received: bytes, head: bytes, at: int) -> tuple[bytes, bytes, int] | None:
    body = b""
    while (line_end := received.find(b"\r\n", at)) >= 0:
        size = int(received[at:line_end].partition(b";")[0], 16)
        at = line_end + 2 + size + 2
        if len(received) < at:
            return None
        if size == 0:
            return head, body, at
        body += received[line_end + 2 : at - 2]
    return None


def _serve(pipe: Connection, names: tuple[str, ...]) -> None:
    asyncio.run(_listen(pipe, names))


async def _listen(pipe: Connection, names: tuple[str, ...]) -> None:
    loop = asyncio.get_running_loop()
    addresses = {}
    for name in names:
        if name.startswith("unix:"):
            await loop.create_unix_server(lambda name=name: Echo(name), name.removeprefix("unix:"))
            addresses[name] = name
            continue
        server = await loop.create_server(lambda name=name: Echo(name), "127.0.0.1", 0, backlog=1024)
        host, port = server.sockets[0].getsockname()
        addresses[name] = f"{host}:{port}"
    pipe.send(addresses)
    gone = asyncio.Event()
    loop.add_reader(pipe.fileno(), gone.set)  # readable means that the other end is closed
    await gone.wait()
