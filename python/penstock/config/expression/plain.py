"""The plainest expressions, taken apart without Python's parser.

Of 10 000 routes nearly all ask `path.startswith("/a/")`, `host == "a.example"` or both, and making a syntax tree of
each is much of what loading them takes. Whatever is not quite as plain is left to the parser (`source.py`)."""

from __future__ import annotations

import re
from typing import NamedTuple

from penstock.config.expression.source import LONGEST_TEXT

# Texts of printable ASCII without a backslash, which mean themselves.
_TEXT = r"""(?:"[ !#-\[\]-~]*"|'[ -&(-\[\]-~]*')"""
_TEST = re.compile(rf"([a-z]+)(?:\.(startswith|endswith)\(({_TEXT})\)| == ({_TEXT}))( and |\Z)")


class PlainTest(NamedTuple):
    """`NAME.METHOD("text")`, or `NAME == "text"`, which has no method."""

    name: str
    method: str | None
    text: str
    at: list[int]
    """First and one-past-last character."""


def plain_tests(text: str) -> list[PlainTest] | None:
    """The tests of an expression that is nothing but such ones joined by `and`; `None` for any other. What the names
    mean, and whether they mean anything, is not asked here."""
    if len(text) > LONGEST_TEXT:
        return None
    tests = []
    place = 0
    while found := _TEST.match(text, place):
        name, method, argument, other, more = found.groups()
        tests.append(PlainTest(name, method, (argument or other)[1:-1], [place, found.start(5)]))
        place = found.end()
        if not more:
            return tests
    return None
