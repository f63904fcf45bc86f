"""What the guide says that a server can see of a forward proxy's client: its tables, as what to expect."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
Field = tuple[str, str]
SAME = "as sent"
NOTHING = "nothing"


@cache
def table(document: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column is headed so, without their vertical bars."""
    lines = (DOCS / document).read_text("utf-8").split("\n")
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


@cache
def fields() -> dict[str, list[str]]:
    """What becomes of fields, by their names and patterns in lower case."""
    rows = table("forward.md", "of the client")
    return {name.lower(): row[1:] for row in rows for name in re.findall("`([^`]+)`", row[0].split(", and ")[0])}


def values(mode: str, client: str, said: str) -> str | None:
    """`X-Forwarded-For` in this mode."""
    rows = {name.split('"')[1]: value for name, value in table("forward.md", "value")}
    told = rows[mode].strip("`").replace("192.0.2.1", client).replace("6.6.6.6", said)
    return None if told == "none" else told


@dataclass(frozen=True)
class Mode:
    """The keys of a listener that say what is told."""

    forwarded_for: str = "delete"
    forwarded: str = "delete"
    via: bool = True
    anonymous: bool = False

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.keys().items()) or "default"

    def keys(self) -> dict[str, object]:
        """Those that are not the default."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Mode, name)}

    def word(self, name: str) -> str:
        """What the guide says of this field."""
        own = fields()
        name = name.lower()
        if name not in own:
            name = "_" if "_" in name else next((one for one in own if fnmatchcase(name, one)), "")
        other = next(row[1:] for row in table("forward.md", "of the client") if row[0] == "every other field")
        return own.get(name, other)[self.anonymous]

    def passed(self, said: list[Field], host: str) -> list[Field]:
        """Those that go on as they were sent, in order."""
        return [field for field in said if self._goes_on(*field, host)]

    def _goes_on(self, name: str, value: str, host: str) -> bool:
        word = self.word(name)
        if name.lower() == "via":
            return word.startswith(SAME)
        if word == "as sent to the host that it names, otherwise nothing":
            return value.split("/")[2] == host
        assert word in (SAME, NOTHING) or name.lower() in MADE, (name, word)
        return word == SAME

    def made(self, said: list[Field], client: str, host: str) -> dict[str, str]:
        """Those that the proxy says in words of its own."""
        before = {name.lower(): value for name, value in said}
        assert self.word("Content-Length") == "the length of the body"
        found = {"host": host, "content-length": before["content-length"]}
        if self.word("TE") != NOTHING and before.get("te") == "trailers":
            found |= {"te": "trailers", "connection": "te"}
        if self.word("User-Agent") != SAME:
            found["user-agent"] = self.word("User-Agent").strip("`")
        if self.word("Via") == "as sent, and a word of ours, unless `via = false`" and self.via:
            found["via"] = "ours"
        for name, mode in (("X-Forwarded-For", self.forwarded_for), ("Forwarded", self.forwarded)):
            word = self.word(name)
            assert word in (f"as `{name.lower().removeprefix('x-').replace('-', '_')}` says", NOTHING)
            prefix = "for=" if name == "Forwarded" else ""
            if word == NOTHING:
                continue
            told = values(mode, client, before.get(name.lower(), "").removeprefix("for="))
            if told is not None:
                found[name.lower()] = ", ".join(prefix + one for one in told.split(", ") if one)
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Hello:
    """A client's hello (RFC 8446 §4.1.2), taken apart by whether it may differ from one to the next."""

    name: bytes
    own: frozenset[bytes]
    """Random numbers, the session, and what keys are agreed on by."""
    same_for_all: tuple[bytes, bytes, bytes, frozenset[tuple[int, bytes]]]

    @staticmethod
    def parse(record: bytes) -> Hello:
        """The hello that a connection begins with, in one record."""
        rest = record[5 + 4 :]

        def take(count: int) -> bytes:
            nonlocal rest
            taken, rest = rest[:count], rest[count:]
            return taken

        version, random = take(2), take(32)
        session = take(take(1)[0])
        ciphers = take(int.from_bytes(take(2), "big"))
        compressions = take(take(1)[0])
        rest = take(int.from_bytes(take(2), "big"))
        found = {}
        while rest:
            kind = int.from_bytes(take(2), "big")
            found[kind] = take(int.from_bytes(take(2), "big"))
        name, shares = found.pop(0)[5:], found.pop(51)
        own = frozenset({random, session, shares})
        return Hello(name, own, (version, ciphers, compressions, frozenset(found.items())))


MADE = {"host", "user-agent", "x-forwarded-for", "forwarded", "te", "content-length"}
"""Fields that are, in some mode, neither passed on nor dropped."""
