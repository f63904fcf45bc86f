"""An origin in a process of its own that fails as it is told, and writes down every request that it carries out."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.load.origin import field, parse_message

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_SPAWN = multiprocessing.get_context("spawn")
SLOW = 2.0
"""Seconds that a slow answer takes."""

Mode = Literal["well", "hang", "slow", "500", "refuse"]


class FaultyOrigin:
    """One port on which a process listens, again after it was killed."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._done, self.port = name, folder / name, 0
        self._done.touch()
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Begin, well, on the port it had before."""
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, self.name, self.port, str(self._done)), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(20):
            raise TimeoutError("the origin did not start within 20 s")
        self.port = self._pipe.recv()

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self._process.join(5)

    def be(self, mode: Mode) -> None:
        """From now on answer so."""
        self._pipe.send(mode)
        if not self._pipe.poll(5):
            raise TimeoutError(f"the origin did not become {mode} within 5 s")
        self._pipe.recv()

    def executed(self) -> Counter[str]:
        """How often it carried out each request, by its token."""
        return Counter(self._done.read_text().split())


class _Origin:
    def __init__(self, name: str, port: int, done: str) -> None:
        self.name, self.port, self.mode, self.server = name, port, "well", None
        self.writers: set[asyncio.StreamWriter] = set()
        self.done = Path(done).open("ab", buffering=0)  # noqa: SIM115 - for the life of the process

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.converse, "127.0.0.1", self.port, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    async def become(self, mode: str) -> None:
        self.mode = mode
        if mode == "refuse":
            self.server.close()
            for writer in self.writers:
                writer.transport.abort()
        elif not self.server.is_serving():
            await self.open()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        received = b""
        try:
            while more := await reader.read(65536):
                received += more
                while (message := parse_message(received)) is not None:
                    head, _, size = message
                    received = received[size:]
                    writer.write(await self.answer(head))
        except ConnectionError:
            pass
        finally:
            self.writers.discard(writer)
            writer.close()

    async def answer(self, head: bytes) -> bytes:
        mode = self.mode
        if mode == "hang":
            await asyncio.Event().wait()
        if mode == "500":
            return b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
        token = field(head.lower(), head, b"x-token") or b"-"
        self.done.write(token + b"\n")
        if mode == "slow":
            await asyncio.sleep(SLOW)
        name = self.name.encode()
        return b"HTTP/1.1 200 OK\r\nX-Token: %b\r\nContent-Length: %d\r\n\r\n%b" % (token, len(name), name)


def _serve(pipe: Connection, name: str, port: int, done: str) -> None:
    asyncio.run(_run(pipe, _Origin(name, port, done)))


async def _run(pipe: Connection, origin: _Origin) -> None:
    await origin.open()
    pipe.send(origin.port)
    told = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), told.set)
    while True:
        await told.wait()
        told.clear()
        if pipe.poll():
            try:
                await origin.become(pipe.recv())
            except EOFError:
                return
            pipe.send(origin.mode)
