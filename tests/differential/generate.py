"""Scripts of requests: most are right, many are nearly so, in the ways of the catalogue of attacks.

One seed gives one sequence. What is right says what an origin must see of it; of the others nothing is expected but
that all who read what was forwarded agree."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.differential import pieces
from tests.differential.readers import Request

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Message:
    """One request as a client writes it."""

    kind: str
    content: bytes
    expected: Request | None
    """What an origin must see, if the request is right."""


class Messages:
    """An endless sequence of scripts; every right request has a number in its path that no other has."""

    def __init__(self, seed: str) -> None:
        self.dice = random.Random(seed)
        self._number = 0
        self._changes: tuple[tuple[str, Callable[[_Parts], bytes]], ...] = (
            ("length", self._length),
            ("coding", self._coding),
            ("chunk", self._chunk),
            ("target", self._target),
            ("host", self._host),
            ("line", self._line),
            ("start line", self._start_line),
            ("line end", self._line_end),
            ("bytes", self._bytes),
            ("splice", self._splice),
        )

    def script(self) -> list[Message]:
        """What one client writes on one connection."""
        dice = self.dice
        script = [self._right() for _ in range(dice.randrange(5))]
        if not script or dice.random() < 0.7:
            script.append(self._changed())
            script += [self._right() for _ in range(dice.randrange(3))]
        return script

    def _right(self) -> Message:
        parts = self._parts("right")
        target = parts.target
        kind = "chunks" if parts.chunks else "bytes" if parts.body else "no body"
        dice = self.dice.random()
        if dice < 0.05:
            parts.fields = ["Host: shop.example:80", *(field for field in parts.fields if not field.startswith("Host"))]
            parts.target, kind = f"http://SHOP.example{parts.target}", "absolute form"
        elif dice < 0.1 and not parts.chunks:
            # Without `keep-alive`, or with a body that may have no end, a 1.0 client gets one answer and is closed.
            parts.version, kind = "HTTP/1.0", "HTTP/1.0"
            parts.fields.append("Connection: keep-alive")
            parts.method = parts.method if parts.body else "GET"
        elif dice < 0.13:
            parts.fields.append("Expect: 100-continue")
            kind = "expecting 100"
        return Message(f"right, {kind}", parts.written(), Request(parts.method, target, parts.body))

    def _parts(self, kind: str) -> _Parts:
        dice = self.dice
        self._number += 1
        parts = _Parts(
            method=dice.choice(pieces.METHODS),
            target=f"/{kind}/{self._number}{dice.choice(pieces.QUERIES)}",
            fields=[f"Host: {dice.choice(pieces.HOSTS)}", *dice.sample(pieces.FIELDS, dice.randrange(6))],
        )
        if any(field.startswith("X-Drop") for field in parts.fields):
            parts.fields.append("Accept-Encoding: gzip")
        if dice.random() < 0.45:
            parts.body = dice.choice(pieces.BODIES)
            if dice.random() < 0.5:
                parts.fields.append(
                    f"{dice.choice(('Content-Length', 'CONTENT-length'))}: {len(parts.body):0{dice.randint(1, 6)}d}"
                )
            else:
                parts.fields.append("Transfer-Encoding: chunked")
                parts.chunks = self._cut(parts.body)
                parts.trailers = dice.choice(pieces.TRAILERS)
            dice.shuffle(parts.fields)
        return parts

    def _cut(self, body: bytes) -> list[tuple[str, bytes]]:
        dice, chunks, at = self.dice, [], 0
        while at < len(body):
            size = dice.randint(1, len(body) - at)
            digits = dice.choice((f"{size:x}", f"{size:X}", f"{size:06x}"))
            chunks.append((digits + dice.choice(pieces.EXTENSIONS), body[at : at + size]))
            at += size
        return [*chunks, (dice.choice(("0", "000", "0;a")), b"")]

    def _changed(self) -> Message:
        kind, change = self.dice.choice(self._changes)
        return Message(kind, change(self._parts("wrong")), None)

    def _with_body(self, parts: _Parts) -> _Parts:
        parts.fields = [field for field in parts.fields if not _FRAMES.match(field)]
        parts.method, parts.chunks, parts.body, parts.trailers = "POST", [], b"hello", ""
        return parts

    def _length(self, parts: _Parts) -> bytes:
        dice, parts = self.dice, self._with_body(parts)
        lengths = [
            dice.choice(("5", "6", "4", "005", dice.choice(pieces.LENGTHS)))
            for _ in range(dice.choice((1, 1, 1, 2, 2, 3)))
        ]
        parts.fields += [f"Content-Length: {length}" for length in lengths]
        if dice.random() < 0.3:
            parts.fields.append(f"Transfer-Encoding: {dice.choice(('chunked', dice.choice(pieces.CODINGS)))}")
            parts.body = dice.choice((b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", parts.body))
        dice.shuffle(parts.fields)
        return parts.written()

    def _coding(self, parts: _Parts) -> bytes:
        dice, parts = self.dice, self._with_body(parts)
        codings = [
            dice.choice(("chunked", "Chunked", dice.choice(pieces.CODINGS)))
            for _ in range(dice.choice((1, 1, 1, 1, 2)))
        ]
        parts.fields += [f"Transfer-Encoding: {coding}" for coding in codings]
        parts.body = dice.choice((b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n"))
        if dice.random() < 0.2:
            parts.version = "HTTP/1.0"
        return parts.written()

    def _chunk(self, parts: _Parts) -> bytes:
        dice, parts = self.dice, self._with_body(parts)
        parts.fields.append("Transfer-Encoding: chunked")
        size, end = (
            dice.choice(pieces.SIZES),
            dice.choice(("\r\n", "\r\n", "\r\n", "\n", "", "\r", "!!\r\n", "\r\n\r\n")),
        )
        last = dice.choice(
            (
                "0\r\n\r\n",
                "0\r\n\r\n",
                "0\r\nX: y\r\n\r\n",
                "0\r\nX: y\n\r\n",
                "0\n\n",
                "",
                "0\r\n",
                "0\r\nX: a\r\n b\r\n\r\n",
            )
        )
        line = dice.choice(("\r\n", "\r\n", "\r\n", "\r\n", "\n"))
        first = dice.choice(("", "3\r\nabc\r\n"))
        parts.body = f"{first}{size}{line}hello{end}{last}".encode("latin-1")
        return parts.written()

    def _target(self, parts: _Parts) -> bytes:
        parts.target = self.dice.choice(pieces.TARGETS) + self.dice.choice(("", "", "?q", "?\xe9", '?"', "?a#b"))
        parts.fields = ["Host: shop.example", *(field for field in parts.fields if not field.startswith("Host"))]
        return parts.written()

    def _host(self, parts: _Parts) -> bytes:
        host = self.dice.choice(pieces.WRONG_HOSTS)
        hosts = self.dice.choice(
            ([f"Host: {host}"], [], ["Host: a", f"Host: {host}"], ["Host: a", "Host: a"], ["host:a"])
        )
        parts.fields = [*hosts, *(field for field in parts.fields if not field.startswith("Host"))]
        return parts.written()

    def _line(self, parts: _Parts) -> bytes:
        for _ in range(self.dice.choice((1, 1, 2))):
            parts.fields.insert(self.dice.randint(0, len(parts.fields)), self.dice.choice(pieces.LINES))
        return parts.written()

    def _start_line(self, parts: _Parts) -> bytes:
        dice = self.dice
        start = dice.choice(("", "", "", "\r\n", "\r\n\r\n", "\n", " ", "\x00", "\r\n" * 9))
        gap = dice.choice((" ", " ", "  ", "\t", ""))
        method = dice.choice(("GE(T", "TRACE", "CONNECT", "", "G\x00T", "GET", "PRI", parts.method))
        line = (
            f"{start}{method}{gap}{parts.target}{dice.choice((' ', ' ', '  ', ''))}{dice.choice(pieces.VERSIONS)}\r\n"
        )
        return line.encode("latin-1") + parts.written().partition(b"\r\n")[2]

    def _line_end(self, parts: _Parts) -> bytes:
        content = parts.written()
        ends = [found.start() for found in _LINE_END.finditer(content)]
        at = self.dice.choice(ends)
        return (
            content[:at] + self.dice.choice((b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b"")) + content[at + 2 :]
        )

    def _bytes(self, parts: _Parts) -> bytes:
        dice, content = self.dice, bytearray(parts.written())
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            at = dice.randrange(min(len(content), 400)) if content else 0
            kind = dice.randrange(3)
            byte = dice.choice((dice.randrange(256), *b"\r\n \t:;,0\x00"))
            if kind == 0:
                content[at : at + 1] = bytes([byte])
            elif kind == 1:
                content[at:at] = bytes([byte])
            else:
                del content[at : at + dice.choice((1, 1, 2, 10))]
        return bytes(content)

    def _splice(self, parts: _Parts) -> bytes:
        first, second = parts.written(), self._parts("wrong").written()
        return first[: self.dice.randint(0, len(first))] + second[self.dice.randint(0, len(second)) :]


_FRAMES = re.compile(r"(content-length|transfer-encoding):", re.IGNORECASE)
_LINE_END = re.compile(rb"\r\n")


@dataclass
class _Parts:
    """A request before it is written."""

    method: str
    target: str
    fields: list[str]
    version: str = "HTTP/1.1"
    body: bytes = b""
    chunks: list[tuple[str, bytes]] | tuple[()] = ()
    trailers: str = ""

    def written(self) -> bytes:
        head = "\r\n".join((f"{self.method} {self.target} {self.version}", *self.fields, "", "")).encode("latin-1")
        if not self.chunks:
            return head + self.body
        chunks = b"".join(b"%b\r\n%b\r\n" % (size.encode(), part) for size, part in self.chunks[:-1])
        return head + chunks + f"{self.chunks[-1][0]}\r\n{self.trailers}\r\n".encode()
