"""Lines and columns of keys in a text that its parser has accepted.

The parsers that are fast keep no positions, so a text is walked a second time, only when a fault needs a line.
Because it is known to be valid, the walk is short: it takes the text apart and never judges it."""

from __future__ import annotations

import bisect
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Place = tuple[int, int]
"""Line and column, both from 1."""

Places = dict[tuple[str | int, ...], Place]


def locate(text: str, form: str) -> Places:
    """The place of each key and list member. Empty for a form that has no positions."""
    walk: Callable[[str], Places] | None = {"toml": _locate_toml, "yaml": _locate_yaml, "json": _locate_json}.get(form)
    try:
        return walk(text) if walk else {}
    except (RecursionError, IndexError, StopIteration):
        return {}


def place_of(text: str, offset: int) -> Place:
    """Line and column of a character."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


class _Lines:
    """Line and column of a character, in the logarithm of the text's length."""

    def __init__(self, text: str) -> None:
        self._begins = [0, *(found.end() for found in re.finditer("\n", text))]

    def __call__(self, offset: int) -> Place:
        line = bisect.bisect_right(self._begins, offset)
        return line, offset - self._begins[line - 1] + 1


# --- TOML 1.0 (https://toml.io/en/v1.0.0)

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|'
    r"'''(?:[^']|'(?!''))*'{3,5}|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[^,\]}#\r\n]*")


class _Toml:
    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = _Lines(text)
        self.places: Places = {}
        self.counts: dict[tuple[str | int, ...], int] = {}
        self.at = 0

    def document(self) -> Places:
        table: tuple[str | int, ...] = ()
        self.blank()
        while self.at < len(self.text):
            start = self.at
            if self.text.startswith("[", self.at):
                double = self.text.startswith("[[", self.at)
                self.at += 2 if double else 1
                table = self.header(self.key(), start, double=double)
                self.at += 2 if double else 1
            else:
                self.pair(table)
            self.blank()
        return self.places

    def header(self, names: list[str], start: int, *, double: bool) -> tuple[str | int, ...]:
        path: tuple[str | int, ...] = ()
        for name in names[:-1]:
            path = self.enter((*path, name), start)
        path = (*path, names[-1])
        if double:
            self.counts[path] = self.counts.get(path, 0) + 1
        return self.enter(path, start)

    def enter(self, path: tuple[str | int, ...], start: int) -> tuple[str | int, ...]:
        """Go into a table; for a list of tables, into its last."""
        self.places.setdefault(path, self.lines(start))
        if count := self.counts.get(path):
            path = (*path, count - 1)
            self.places.setdefault(path, self.lines(start))
        return path

    def pair(self, table: tuple[str | int, ...]) -> None:
        start = self.at
        for name in self.key():
            table = (*table, name)
            self.places.setdefault(table, self.lines(start))
        self.at += 1  # the equals sign
        self.value(table)

    def key(self) -> list[str]:
        names = []
        while found := _KEY.match(self.text, self.at):
            self.at = found.end()
            bare, basic, literal = found.groups()
            names.append(bare or literal or "" if basic is None else _unescape(basic))
            if not self.text.startswith(".", self.at):
                break
            self.at += 1
        if not names:
            raise IndexError(self.at)
        return names

    def value(self, path: tuple[str | int, ...]) -> None:
        self.blank()
        first = self.text[self.at]
        if first in "\"'":
            found = _STRING.match(self.text, self.at)
        elif first == "[":
            return self.items("]", lambda index: self.item((*path, index)))
        elif first == "{":
            return self.items("}", lambda _: self.pair(path))
        else:
            found = _BARE.match(self.text, self.at)
        if found is None:
            raise IndexError(self.at)
        self.at = found.end()
        return None

    def item(self, path: tuple[str | int, ...]) -> None:
        self.places[path] = self.lines(self.at)
        self.value(path)

    def items(self, end: str, read: Callable[[int], None]) -> None:
        self.at += 1
        self.blank()
        index = 0
        while not self.text.startswith(end, self.at):
            read(index)
            index += 1
            self.blank()
            if self.text.startswith(",", self.at):
                self.at += 1
                self.blank()
            elif not self.text.startswith(end, self.at):
                raise IndexError(self.at)
        self.at += 1

    def blank(self) -> None:
        if found := _BLANK.match(self.text, self.at):
            self.at = found.end()


def _locate_toml(text: str) -> Places:
    walk = _Toml(text)
    try:
        return walk.document()
    except IndexError:
        return walk.places


def _unescape(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text


# --- YAML


def _locate_yaml(text: str) -> Places:
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import, and only YAML files need it
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    places: Places = {}

    def walk(node: Any, path: tuple[str | int, ...], above: frozenset[int]) -> None:
        if id(node) in above:
            return
        if isinstance(node.value, list):
            above = above | {id(node)}
            for index, member in enumerate(node.value):
                key, value = member if isinstance(member, tuple) else (member, member)
                step = str(key.value) if isinstance(member, tuple) else index
                places.setdefault((*path, step), (key.start_mark.line + 1, key.start_mark.column + 1))
                if len(places) < 1_000_000:
                    walk(value, (*path, step), above)

    try:
        node = YAML(typ="rt", pure=True).compose(text)
    except YAMLError:
        return places
    if node is not None:
        walk(node, (), frozenset())
    return places


# --- JSON (RFC 8259)

_TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^ \t\r\n{}\[\]:,"]+)')


class _Json:
    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.finditer(text)
        self.lines = _Lines(text)
        self.places: Places = {}
        self.repeated: tuple[tuple[str | int, ...], Place] | None = None

    def value(self, path: tuple[str | int, ...], found: re.Match[str]) -> None:
        if found[1] == "{":
            while (found := next(self.tokens))[1] != "}":
                if found[1] != ",":
                    self.member((*path, str(json.loads(found[1]))), found)
        elif found[1] == "[":
            index = 0
            while (found := next(self.tokens))[1] != "]":
                if found[1] != ",":
                    self.places[(*path, index)] = self.lines(found.start(1))
                    self.value((*path, index), found)
                    index += 1

    def member(self, key: tuple[str | int, ...], found: re.Match[str]) -> None:
        place = self.lines(found.start(1))
        if key in self.places and self.repeated is None:
            self.repeated = key, place
        self.places.setdefault(key, place)
        next(self.tokens)  # the colon
        self.value(key, next(self.tokens))


def _walk_json(text: str) -> _Json:
    walk = _Json(text)
    walk.value((), next(walk.tokens))
    return walk


def _locate_json(text: str) -> Places:
    return _walk_json(text).places


def repeated_json_key(text: str) -> tuple[tuple[str | int, ...], Place] | None:
    """The first key that an object has twice."""
    return _walk_json(text).repeated
