"""What an actor must receive: expected lines against a buffer that is still filling.

A block of expected lines is a row of parts: heads (a start line and its fields, in any order), chunked bodies, error
pages and literal bytes. Each part says of a buffer that it matches so many bytes, that it needs more, or what is wrong.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from tests.wire.script import unescape, with_line_end

MORE = -1
ECHO = "zebra"  # a case that puts this word into a request sees that no error page repeats it
# Values that mean the same in any case.
CASELESS = frozenset({"connection", "transfer-encoding", "upgrade", "expect", "te", "cache-control"})
# What a proxy may add to any answer without saying anything about the exchange.
FREE_IN_ANSWERS = frozenset({"date", "server", "via", "x-request-id", "keep-alive"})
IDENTITY = {
    "x-forwarded-for": "{client.ip}",
    "x-forwarded-proto": "http",
    "x-forwarded-host": "{_host}",
    "x-forwarded-port": "{web.port}",
    "via": "1.{_minor} penstock",
    "x-request-id": "{_request_id}",
}
_START = re.compile(r"^(HTTP/\d\.\d [\d{]|[A-Za-z]+ \S+ HTTP/\d)")
_NAME = re.compile(r"\{([a-z_][a-z_0-9.]*)\}")
_CHOICE = re.compile(r"\\\{(\w+(?:\\\|\w+)+)\\\}")
_CHUNKS = re.compile(r"^\{(some )?chunks ?(.*)\}$")
_INTERIMS = re.compile(r"^\{at most (\d+) interim\}$")
_ERROR = re.compile(r"^\{error( json)?(, close)?\}$")


class MismatchError(AssertionError):
    """What was received is not what was expected."""


Names = dict[str, str]


def substitute(text: str, names: Names) -> str:
    """Put known names in; what is sent may not hold unknown ones."""
    return _NAME.sub(lambda found: names.get(found[1], found[0]), text)


def match_value(expected: str, got: str, names: Names) -> bool:
    """Compare one value; a name seen for the first time takes what it finds, `{any}` always, `{a|b}` one of these."""
    pattern, fresh = "", []
    for at, part in enumerate(_NAME.split(expected)):
        if at % 2 == 0:
            pattern += _CHOICE.sub(lambda found: f"(?:{found[1]})".replace("\\|", "|"), re.escape(part))
        elif part in names:
            pattern += re.escape(names[part])
        elif part in fresh:
            pattern += f"(?P=g{fresh.index(part)})"
        elif part == "any":
            pattern += ".*"
        else:
            fresh.append(part)
            pattern += f"(?P<g{len(fresh) - 1}>.+?)"
    found = re.fullmatch(pattern, got, re.DOTALL)
    if found is None:
        return False
    names.update({name: found[f"g{n}"] for n, name in enumerate(fresh) if not name.startswith("_")})
    return True


@dataclass
class Literal:
    """Bytes as they are, with names."""

    text: str

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        want = substitute(self.text, names).encode("latin-1")
        if got[: len(want)] == want:
            return len(want)
        if want.startswith(got):
            return MORE
        at = next((n for n, (a, b) in enumerate(zip(want, got, strict=False)) if a != b), 0)
        raise MismatchError(f"expected bytes {_short(want[at:])}\n     got bytes {_short(got[at:])}  (at byte {at})")


@dataclass
class Head:
    """A start line and fields: names in any case and order, but those of one name in theirs. `?name` may be missing."""

    start: str
    fields: list[tuple[str, str]]

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return MORE
        start, *lines = got[:end].decode("latin-1").split("\r\n")
        if bad := [line for line in lines if not re.match(r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+:", line)]:
            raise MismatchError(f"not a field line: {bad[0]!r}")
        seen = [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]
        faults = [] if self.start_matches(start, names) else [f"- {self.start}", f"+ {start}"]
        faults += self._compare(seen, names)
        if faults:
            raise MismatchError(
                "the head differs (- expected, + received):\n" + "\n".join(f"  {line}" for line in faults)
            )
        return end + 4

    def start_matches(self, got: str, names: Names) -> bool:
        """Whether this is the start line."""
        return match_value(self.start, got, names)

    def _compare(self, seen: list[tuple[str, str]], names: Names) -> list[str]:
        faults: list[str] = []
        rest = list(seen)
        for name, value in self.fields:
            at = next((n for n, (other, _) in enumerate(rest) if other == name.removeprefix("?")), None)
            if at is None:
                faults += [] if name.startswith("?") else [f"- {name}: {value}"]
            elif match_value(value, rest[at][1], names) or (name in CASELESS and value.lower() == rest[at][1].lower()):
                del rest[at]
            else:
                faults += [f"- {name}: {substitute(value, names)}", f"+ {name}: {rest.pop(at)[1]}"]
        return faults + [f"+ {name}: {value}" for name, value in rest if not self._free(name, value)]

    def _free(self, name: str, value: str) -> bool:
        is_answer = self.start.startswith("HTTP/")
        return is_answer and (name in FREE_IN_ANSWERS or (name, value.lower()) == ("connection", "keep-alive"))


@dataclass
class Chunks:
    """A chunked body up to the last chunk's line: any sizes, no extensions, this content."""

    text: str
    partial: bool = False  # up to the end of the content, not to the last chunk

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        want = substitute(self.text, names).encode("latin-1")
        at, content = 0, b""
        while not (self.partial and content == want):
            end = got.find(b"\r\n", at)
            if end < 0:
                return MORE
            if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", got[at:end]):
                raise MismatchError(f"not a chunk size: {_short(got[at:end])}")
            size = int(got[at:end], 16)
            if size == 0:
                if content != want:
                    raise MismatchError(
                        f"chunked content: expected {_short(want)}\n                      got {_short(content)}"
                    )
                return end + 2
            if len(got) < end + 2 + size + 2:
                return MORE
            content += got[end + 2 : end + 2 + size]
            at = end + 2 + size + 2
            if got[at - 2 : at] != b"\r\n":
                raise MismatchError(f"no CRLF after a chunk: {_short(got[at - 2 :])}")
        return at


@dataclass
class ErrorPage:
    """The rest of an answer that Penstock made itself: its fields, and a short body that carries the request id."""

    start: str
    json: bool
    close: bool

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return MORE
        start, *lines = got[:end].decode("latin-1").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(fields.get("content-length", "-1"))
        if length >= 0 and len(got) < end + 4 + length:
            return MORE
        body = got[end + 4 : end + 4 + length].decode("latin-1")
        faults = list(self._faults(start, fields, body, names))
        if faults:
            shown = got[: end + 4].decode("latin-1") + body
            raise MismatchError("not the error page expected:\n  " + "\n  ".join(faults) + f"\nreceived\n{shown}")
        return end + 4 + length

    def _faults(self, start: str, fields: dict[str, str], body: str, names: Names) -> list[str]:
        kind = "application/json" if self.json else "text/"
        closes = fields.get("connection", "").lower() == "close"
        shown = re.search(r"\b[0-9A-Za-z-]{16,}\b", body)
        request_id = fields.get("x-request-id") or (shown[0] if shown else "")
        rules = [
            (match_value(self.start, start, names), f"status line: expected {self.start!r}, got {start!r}"),
            (fields.get("content-type", "").startswith(kind), f"content-type is not {kind}"),
            ("content-length" in fields, "no content-length"),
            (bool(request_id) and request_id in body, "the request id is not in the body"),
            (ECHO not in body, f"the body echoes the request ({ECHO!r})"),
            (len(body) < 1024, "the body is not short"),
            (closes == self.close, f"connection: close is {'missing' if self.close else 'not expected'}"),
        ]
        return [fault for kept, fault in rules if not kept]


@dataclass
class Interims:
    """So many 1xx answers at most, and then another."""

    limit: int

    def match(self, got: bytes, names: Names) -> int:
        """Bytes matched, or `MORE`."""
        del names
        found = re.match(rb"(HTTP/1\.1 1\d\d [^\r]*\r\n([^\r]+\r\n)*\r\n)*(?=HTTP/1\.1 [2-5])", got)
        if found is None:
            return MORE
        if (count := len(re.findall(rb"HTTP/1\.1 1", found[0]))) > self.limit:
            raise MismatchError(f"{count} interim answers, more than {self.limit}")
        return found.end()


Part = Literal | Head | Chunks | ErrorPage | Interims


@functools.cache
def compile_lines(lines: tuple[str, ...]) -> tuple[Part, ...]:
    """The parts of a block of expected lines."""
    parts: list[Part] = []
    at = 0
    fresh = True  # a start line can only stand where a message can begin
    while at < len(lines):
        line = lines[at]
        if fresh and "\\r" not in line and _START.match(line):
            part, at = _head(lines, at)
            parts.append(part)
            fresh = isinstance(part, ErrorPage) or at < len(lines)
            continue
        at += 1
        if found := _CHUNKS.match(line):
            parts.append(Chunks(unescape(found[2]), partial=found[1] == "some "))
        elif found := _INTERIMS.match(line):
            parts.append(Interims(int(found[1])))
        else:
            text, ends = with_line_end(line)
            parts.append(Literal(unescape(text) + ("\r\n" if ends else "")))
        fresh = True
    return tuple(parts)


def _head(lines: tuple[str, ...], at: int) -> tuple[Part, int]:
    start = unescape(lines[at])
    if at + 1 < len(lines) and (error := _ERROR.match(lines[at + 1])):
        return ErrorPage(start, json=bool(error[1]), close=bool(error[2])), at + 2
    fields: list[tuple[str, str]] = []
    at += 1
    while at < len(lines) and lines[at]:
        if lines[at] == "{identity}":
            fields += IDENTITY.items()
        else:
            name, _, value = unescape(lines[at]).partition(":")
            fields.append((name.lower(), value.strip(" \t")))
        at += 1
    if at == len(lines):
        raise ValueError(f"the head that begins {start!r} has no empty line")
    return Head(start, fields), at + 1


def _short(value: bytes) -> str:
    return repr(value if len(value) <= 200 else value[:200] + b"...")
