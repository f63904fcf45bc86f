"""Templates: texts in which `{name}` stands for a value of the request."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from penstock.config import texts
from penstock.config.expression.source import Source
from penstock.config.expression.values import NAMES, Type, read_value
from penstock.errors import ExpressionError

Piece = dict[str, Any] | str
"""A piece of a template in the shape of `crates/plan/src/template.rs`."""

MOST_VALUES = 64
"""Values in one template."""

# A text within the braces may hold braces itself.
_VALUE = re.compile(r"""\{((?:[^{}"']|"[^"]*"|'[^']*')*)\}""")
_BRACES = re.compile(r"\{\{|\}\}|\{|\}")
_ALLOWED = (
    "host, path, query, method, scheme, listener, port, client.ip, client.port, request_id, "
    'header["name"], query["name"], cookie["name"]'
)
_OWN = {"query": "query", "request_id": "request_id"}
"""What templates name and expressions do not: the whole query, and the exchange's id."""


@lru_cache(maxsize=4096)
def compile_template(text: str) -> tuple[Piece, ...]:
    """Compile a template: `https://{host}{path}?{query}`; `{{` and `}}` are braces. Raises `ExpressionError`.

    The result is shared between callers and must not be changed."""
    pieces: list[Piece] = []
    literal, at, values = "", 0, 0
    while found := _BRACES.search(text, at):
        literal += text[at : found.start()]
        if found[0] in ("{{", "}}"):
            literal, at = literal + found[0][0], found.end()
            continue
        value = _VALUE.match(text, found.start())
        if value is None:
            raise ExpressionError(text, found.span(), f'a brace has no partner; write "{found[0] * 2}" for the brace')
        if (values := values + 1) > MOST_VALUES:
            raise ExpressionError(text, value.span(), f"a template has at most {MOST_VALUES} values")
        piece = _piece(text, value)
        if piece == "query" and literal.endswith("?"):
            # Without a query, its mark would be left alone.
            literal, piece = literal[:-1], "marked_query"
        if literal:
            pieces.append({"text": literal})
        pieces.append(piece)
        literal, at = "", value.end()
    if rest := literal + text[at:]:
        pieces.append({"text": rest})
    return tuple(pieces)


def literal_template(text: str) -> tuple[Piece, ...]:
    """The template that says this text, braces and all."""
    return ({"text": text},) if text else ()


def _piece(text: str, found: re.Match[str]) -> Piece:
    inside, (start, _) = found[1], found.span(1)
    if own := _OWN.get(inside.strip()):
        return own
    try:
        source = Source(inside)
        value = source.walk(lambda tree: read_value(source, tree))
    except ExpressionError as error:
        begin, end = error.span
        name = inside.strip()
        message, expected = error.message, error.expected
        if not inside.strip() or message.startswith("unknown name"):
            hint = texts.nearest(name, (*NAMES, *_OWN))
            message = f'unknown value "{name}"{hint}' if name else "nothing stands in the braces"
            expected = f"one of {_ALLOWED}"
        raise ExpressionError(text, (start + begin, start + end), message, expected) from None
    if value.literal is not None or value.type is Type.JSON or value.base == "json":
        what = "a literal" if value.literal is not None else "a value of the body"
        raise ExpressionError(text, found.span(1), f"{what} cannot stand in a template", f"one of {_ALLOWED}")
    return {"value": value.operand}
