"""A TOML text as its routes and the rest, each of which reads by itself as it does in its place.

Of many routes a change touches few: those that are written as before need not be read again (`memory.py`). A text is
only taken apart where that cannot change what it means; any other is read whole.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# The end of the line before it is part of it: that is found faster than the beginning of a line.
_HEADER = re.compile(r"\n[ \t]*\[(?:(?P<route>\[routes\]\])|(?P<within>\[?routes\.)|(?P<maybe>.*(?:routes|\\)))?")
"""What a line starts with that names a table. A value may look like one in an array of several lines; then no piece
of that array ends it, and the piece is refused by whoever reads it."""

_PLAIN = re.compile(r"""\[\[routes\]\]\n+(?:[a-z_]+\ =\ (?:"[\ !\#-\[\]-~]*"|'[\ -&(-~]*')(?:\n+|\Z))*""", re.VERBOSE)
_PAIR = re.compile("([a-z_]+) = .(.*).")


class Pieces(NamedTuple):
    """What is left without the routes, and each route with its own tables, in their order."""

    rest: str
    routes: list[str]


def take_apart(text: str) -> Pieces | None:
    """The pieces of a TOML text; `None` for one with strings of several lines, in which anything may stand, or with
    tables elsewhere that may be of a route."""
    if '"""' in text or "'''" in text:
        return None
    rest: list[str] = []
    routes: list[str] = []
    begin, of_route = 0, False
    text = "\n" + text
    for header in _HEADER.finditer(text):
        if header["route"] is None and header.lastgroup is not None:
            if of_route and header["within"]:
                continue
            return None
        (routes if of_route else rest).append(text[begin : header.start() + 1])
        begin, of_route = header.start() + 1, header["route"] is not None
    (routes if of_route else rest).append(text[begin:])
    return Pieces("".join(rest)[1:], routes)


def plain_table(text: str) -> dict[str, str] | None:
    """A route of nothing but keys with texts of printable ASCII that mean themselves, each on a line of its own; `None`
    for any other. Most of 10 000 routes are so, and the parser takes four times as long."""
    if _PLAIN.fullmatch(text) is None:
        return None
    pairs = _PAIR.findall(text)
    table = dict(pairs)
    return table if len(table) == len(pairs) else None
