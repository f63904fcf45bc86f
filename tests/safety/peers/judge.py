"""What every proxy must do in a row, and not how Penstock does it: status, framing, what may not reach the origin.

Names and places of added fields, reason phrases, and the text of error pages are each proxy's own. A field that the
client sent and the row does not expect at the origin is a fault, as it is for Penstock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.wire.expect import (
    MORE,
    Chunks,
    ErrorPage,
    Head,
    Literal,
    MismatchError,
    Names,
    Part,
    compile_lines,
    match_value,
)
from tests.wire.harness import side_of
from tests.wire.script import Case, Say, unescape

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = frozenset({"via", "x-request-id", "connection", "expect", "x-forwarded-proto", "x-forwarded-host"})
_ADDED = OWN | {"x-forwarded-port", "x-forwarded-for", "te", "upgrade"}
_NAME = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):", re.MULTILINE)


def reader(case: Case) -> Callable[[tuple[str, ...]], tuple[Part, ...]]:
    """Reads a row's expected lines as this judge does."""
    said = [step for step in case.steps if isinstance(step, Say) and side_of(step.actor) == "client"]
    spoken = "\n".join(unescape(line) for step in said for line in step.lines)
    sent = frozenset(name.lower() for name in _NAME.findall(spoken))

    framing = Framing()

    def read(lines: tuple[str, ...]) -> tuple[Part, ...]:
        parts = list(compile_lines(lines))
        for at, part in enumerate(parts):
            if isinstance(part, Chunks) and not part.partial and parts[at + 1 : at + 2] == [Literal("\r\n")]:
                parts[at : at + 2] = [AnyBody(part.text, framing)]
        return tuple(_lenient(part, sent, framing) for part in parts)

    return read


def _lenient(part: Part, sent: frozenset[str], framing: Framing) -> Part:
    if isinstance(part, ErrorPage):
        return AnyPage(part.start, json=part.json, close=part.close)
    if isinstance(part, Head):
        is_answer = part.start.startswith("HTTP/")
        return AnyHead(part.start, part.fields) if is_answer else Forwarded(part, sent, framing)
    return part


@dataclass
class Framing:
    """How the request that reached the origin last is framed: a chunked body may be forwarded with its length."""

    chunked: bool = True


class AnyBody(Chunks):
    """A whole chunked body without trailers, or its content alone if the head gave its length."""

    def __init__(self, text: str, framing: Framing) -> None:
        super().__init__(text)
        self._framing = framing

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        if not self._framing.chunked:
            return Literal(self.text).match(got, names)
        matched = super().match(got, names)
        if matched == MORE or len(got) < matched + 2:
            return MORE
        if got[matched : matched + 2] != b"\r\n":
            raise MismatchError(f"trailers: {got[matched:]!r}")
        return matched + 2


class Forwarded(Head):
    """A request at the origin."""

    def __init__(self, part: Head, sent: frozenset[str], framing: Framing) -> None:
        super().__init__(part.start, part.fields)
        self._sent, self._framing = sent, framing

    def start_matches(self, got: str, names: Names) -> bool:
        """The same method and target, whichever way its escapes are written, in any version of HTTP/1."""
        want, have = self.start.split(" "), got.split(" ")
        same = len(have) == 3 and (want[0], unquote(want[1])) == (have[0], unquote(have[1]))
        del names
        return same and have[2] in ("HTTP/1.1", "HTTP/1.0")

    def _compare(self, seen: list[tuple[str, str]], names: Names) -> list[str]:
        faults: list[str] = []
        expected = {name.removeprefix("?") for name, _ in self.fields}
        lengths = [value for name, value in seen if name == "content-length"]
        self._framing.chunked = not lengths
        for name, value in self.fields:
            found = [other for key, other in seen if key == name.removeprefix("?")]
            if name in ("via", "x-request-id") or (name == "transfer-encoding" and len(lengths) == 1 and not found):
                continue
            if not found and (name.startswith("?") or name in _ADDED):
                continue
            right = any(match_value(value, other, names) or value.lower() == other.lower() for other in found)
            if not right or (name == "x-forwarded-for" and len(found) > 1):
                faults += [f"- {name}: {value}", *(f"+ {name}: {other}" for other in found)]
        smuggled = [(name, value) for name, value in seen if name in self._sent - expected - OWN]
        return faults + [f"+ {name}: {value}" for name, value in smuggled]


class AnyHead(Head):
    """An answer: its status, its framing, and the origin's own fields. Interim answers before it are passed over."""

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        at = _behind_interim(got) if not re.match(r"HTTP/1\.1 1", self.start) else 0
        matched = super().match(got[at:], names)
        return matched if matched == MORE else at + matched

    def start_matches(self, got: str, names: Names) -> bool:
        """The same status."""
        return match_value(self.start[9:12] if self.start[9] != "{" else self.start[9:].split(" ")[0], got[9:12], names)

    def _compare(self, seen: list[tuple[str, str]], names: Names) -> list[str]:
        faults = []
        for name, value in self.fields:
            found = [other for key, other in seen if key == name.removeprefix("?")]
            if name in ("connection", "transfer-encoding") or (not found and name.startswith("?")):
                continue
            if not any(match_value(value, other, names) for other in found):
                faults += [f"- {name}: {value}", *(f"+ {name}: {other}" for other in found)]
        return faults


class AnyPage(ErrorPage):
    """An answer that the proxy made itself: its status, and no word of the request."""

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        at = _behind_interim(got)
        end = got.find(b"\r\n\r\n", at)
        if end < 0:
            return MORE
        head = got[at:end].decode("latin-1")
        wanted = self.start[9:12] if self.start[9] != "{" else self.start[9:].split(" ")[0]
        if not match_value(wanted, head[9:12], names):
            raise MismatchError(f"status: expected {self.start!r}, got {head[:60]!r}")
        length = re.search(r"(?im)^content-length: *(\d+)", head)
        whole = end + 4 + (int(length[1]) if length else 0)
        return whole if len(got) >= whole else MORE


def _behind_interim(got: bytes) -> int:
    at = 0
    while re.match(rb"HTTP/1\.1 1\d\d", got[at : at + 12]) and (end := got.find(b"\r\n\r\n", at)) >= 0:
        at = end + 4
    return at
