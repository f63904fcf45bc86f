"""The `.case` format: text to steps. Nothing here opens a socket.

A file holds cases; docs/testing.md describes the format with an example. One line is one of

    # a comment                 anywhere
    config:                     an indented TOML block, for every case until the next `config:`
    === name                    begins a case
    replay: whole               this case is not repeated with its bytes cut up
    replay: some                ... only at a few offsets, because each run has to wait for something
    each: a | b | c             the case is run once for each, `{each}` stands for it
    ACTOR> text                 ACTOR sends the text and CRLF (`\\` at the end: no CRLF)
    ACTOR< text                 ACTOR must receive it
    ACTOR verb words            anything else that an actor does or sees, such as `client closes`

Actors are `client`, `client2`... (connections to Penstock) and the endpoints that the configuration names (`origin`,
`second`, `third`, `app`): an endpoint's name alone means its latest connection, `origin1` its first of this case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERBS = (
    "closes",
    "half-closes",
    "resets",
    "sees close",
    "sees end",
    "got no whole request",
    "accepted",
    "connects",
    "takes",
    "goes on",
    "got nothing if uncut",
    "got nothing",
)
_SPEECH = re.compile(r"^([a-z]+\d?)([<>])(?: (.*))?$")
_DEED = re.compile(rf"^([a-z]+\d?) ({'|'.join(VERBS)})(?: (.*))?$")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|[rnt0\\])")
_PLAIN = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}
_NUMBERED = re.compile(r"^(\d+)[a-z]?\. ")
_REPEAT = re.compile(r"\{([^{}]+) \* (\d+)\}")


class FormatError(ValueError):
    """A case file that cannot be read; the message names file and line."""


@dataclass(frozen=True)
class Say:
    """Consecutive lines that one actor sends: one write."""

    line: int
    actor: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Hear:
    """Consecutive lines that one actor must receive."""

    line: int
    actor: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Do:
    """Something else an actor does or sees."""

    line: int
    actor: str
    verb: str
    words: str


Step = Say | Hear | Do


@dataclass(frozen=True)
class Case:
    """One dialogue and the configuration it runs on."""

    file: str
    line: int
    name: str
    config: str
    steps: tuple[Step, ...] = ()
    each: str | None = None
    replay: str = "all"

    @property
    def number(self) -> int | None:
        """Of the catalogue: the name of such a case begins `12a. `."""
        found = _NUMBERED.match(self.name)
        return int(found[1]) if found else None

    @property
    def title(self) -> str:
        """What a test report shows."""
        return self.name if self.each is None else f"{self.name} [{self.each}]"


@dataclass
class _Draft:
    case: Case
    lines: list[tuple[int, str]] = field(default_factory=list)
    each: tuple[str, ...] = ()


def unescape(text: str) -> str:
    r"""Resolve `\r \n \t \0 \\ \xNN` and `{a * 1000}`, also nested; every character of the result is one byte."""
    while _REPEAT.search(text):
        text = _REPEAT.sub(lambda found: found[1] * int(found[2]), text)
    return _ESCAPE.sub(lambda found: _PLAIN.get(found[1]) or chr(int(found[1][1:], 16)), text)


def with_line_end(line: str) -> tuple[str, bool]:
    r"""A line's text and whether CRLF follows it. A lone `\` at its end says no; `\\` is a backslash."""
    slashes = len(line) - len(line.rstrip("\\"))
    return (line[:-1], False) if slashes % 2 else (line, True)


def parse_file(path: Path) -> list[Case]:
    """All cases of a file, `each:` unfolded."""
    return list(_unfold(_drafts(path.name, path.read_text(encoding="utf-8").splitlines())))


def parse_text(text: str, file: str = "text.case") -> list[Case]:
    """The same from text."""
    return list(_unfold(_drafts(file, text.splitlines())))


def _drafts(file: str, lines: list[str]) -> Iterator[_Draft]:
    config = ""
    draft: _Draft | None = None
    at = 0
    while at < len(lines):
        line, number = lines[at], at + 1
        at += 1
        if not line.strip() or line.startswith("#"):
            continue
        if line == "config:":
            block, at = _indented(lines, at)
            if draft is not None:
                yield draft
                draft = None
            config = block
        elif line.startswith("=== "):
            if draft is not None:
                yield draft
            draft = _Draft(Case(file, number, line[4:].strip(), config))
        elif draft is None:
            raise FormatError(f"{file}:{number}: {line!r} stands before any `=== name`")
        else:
            _add(draft, file, number, line)
    if draft is not None:
        yield draft


def _indented(lines: list[str], at: int) -> tuple[str, int]:
    block = []
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith("    ")):
        block.append(lines[at][4:])
        at += 1
    return "\n".join(block).strip() + "\n", at


def _add(draft: _Draft, file: str, number: int, line: str) -> None:
    if line.startswith("each: "):
        draft.each = tuple(each.strip() for each in line[6:].split(" | "))
    elif line in ("replay: whole", "replay: some"):
        draft.case = replace(draft.case, replay=line.removeprefix("replay: "))
    elif _SPEECH.match(line) or _DEED.match(line.replace("{each}", "closes")):
        draft.lines.append((number, line))
    else:
        raise FormatError(f"{file}:{number}: cannot read {line!r}; verbs are: {', '.join(VERBS)}")


def _unfold(drafts: Iterator[_Draft]) -> Iterator[Case]:
    for draft in drafts:
        if not draft.each:
            yield replace(draft.case, steps=_steps(draft.lines))
        for each in draft.each:
            lines = [(number, line.replace("{each}", each)) for number, line in draft.lines]
            yield replace(draft.case, steps=_steps(lines), each=each)


def _steps(lines: list[tuple[int, str]]) -> tuple[Step, ...]:
    steps: list[Step] = []
    for number, line in lines:
        if speech := _SPEECH.match(line):
            actor, text = speech[1], speech[3] or ""
            kind = Say if speech[2] == ">" else Hear
            last = steps[-1] if steps else None
            if isinstance(last, kind) and last.actor == actor:
                steps[-1] = replace(last, lines=(*last.lines, text))
            else:
                steps.append(kind(number, actor, (text,)))
        elif deed := _DEED.match(line):
            steps.append(Do(number, deed[1], deed[2], deed[3] or ""))
    return tuple(steps)
