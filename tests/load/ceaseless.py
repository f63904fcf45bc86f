"""Connections that ask one thing after another until they are told to stop; each exchange is kept with its times."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Self

CONNECTIONS = 64
_ANSWER = 20.0
"""Seconds for an answer."""


@dataclass(frozen=True)
class Asked:
    """One exchange. Times are of `time.monotonic`."""

    token: str
    """Of its own: method, connection and number."""
    sent: float
    done: float
    status: int = 0
    """0: no answer."""
    fields: tuple[str, ...] = ()
    """The lines behind the status line."""
    body: str = ""

    @property
    def method(self) -> str:
        """Of the request."""
        return self.token.partition("-")[0]

    @property
    def client(self) -> int:
        """The number of its connection."""
        return client_of(self.token)

    def field(self, name: str) -> str | None:
        """The first value of a field; `name` in lower case."""
        lines = (line.partition(": ") for line in self.fields)
        return next((value for found, _, value in lines if found.lower() == name), None)


def client_of(token: str) -> int:
    """The number of the client that sent it."""
    return int(token.split("-")[1])


class Ceaseless:
    """`with` begins and ends it. Every eighth request is a POST; what else it says is for `head`."""

    def __init__(self, address: tuple[str, int], connections: int = CONNECTIONS) -> None:
        self._address, self._connections = address, connections
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(2 * _ANSWER)

    def head(self, token: str) -> tuple[str, str]:
        """Target of a request, and its own lines, each ended."""
        del token
        return "/", ""

    def record(self, asked: Asked) -> None:
        """What came of a request. It is called in the thread of the load."""
        raise NotImplementedError

    async def _run(self) -> None:
        await asyncio.gather(*(self._ask(number) for number in range(self._connections)))

    async def _ask(self, connection: int) -> None:
        streams, number = None, 0
        while not self._stop.is_set():
            number += 1
            method = "POST" if number % 8 == 0 else "GET"
            streams = streams or await asyncio.open_connection(*self._address)
            token = f"{method}-{connection}-{number}"
            target, lines = self.head(token)
            body = token if method == "POST" else ""
            head = (
                f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-Token: {token}\r\n{lines}Content-Length: {len(body)}\r\n"
            )
            asked = await self._once(streams, token, f"{head}\r\n{body}")
            self.record(asked)
            if not asked.status or asked.field("connection") == "close":
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    @staticmethod
    async def _once(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], token: str, request: str) -> Asked:
        reader, writer = streams
        sent = time.monotonic()
        try:
            writer.write(request.encode())
            line, *fields = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _ANSWER)).decode().split("\r\n")[:-2]
            asked = Asked(token, sent, 0, int(line.split(" ", 2)[1]), tuple(fields))
            length = int(asked.field("content-length") or 0)
            body = (await asyncio.wait_for(reader.readexactly(length), _ANSWER)).decode()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return Asked(token, sent, time.monotonic())
        return Asked(token, sent, time.monotonic(), asked.status, asked.fields, body)
