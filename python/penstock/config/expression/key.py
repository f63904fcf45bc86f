"""Keys: values of a request joined to a text, for hashing."""

from __future__ import annotations

import ast
from functools import lru_cache

from penstock.config.expression.source import Source
from penstock.config.expression.values import Operand, Type, read_value

MOST_PARTS = 32
"""Values that a key may join."""


@lru_cache(maxsize=1024)
def compile_key(text: str) -> tuple[Operand, ...]:
    """Compile a key: `path`, `client.ip`, `header["X"] + "|" + path`. Raises `ExpressionError`.

    The result is shared between callers and must not be changed."""
    source = Source(text)
    values = source.walk(lambda tree: [(part, read_value(source, part)) for part in _parts(source, tree)])
    for part, value in values:
        if value.base == "json":
            raise source.error(part, "a key is made of the head, not of the body", "a header or a path")
        if value.type is Type.NUMBER:
            raise source.error(part, f"{value.shown} is a number; a key is made of texts", "a text, such as path")
    if all(value.literal is not None for _, value in values):
        raise source.error(source.tree, "the key is the same for every request", "a value of the request, such as path")
    return tuple(value.operand for _, value in values)


def _parts(source: Source, node: ast.expr) -> list[ast.expr]:
    """`a + b + c` as its parts, in order."""
    parts: list[ast.expr] = []
    while isinstance(node, ast.BinOp):
        if not isinstance(node.op, ast.Add):
            raise source.error(node, "only + joins the parts of a key", 'header["X-Tenant"] + path')
        if isinstance(node.right, ast.BinOp):
            raise source.error(node.right, "a key needs no parentheses", "its parts, joined by +")
        parts.append(node.right)
        node = node.left
    parts.append(node)
    if len(parts) > MOST_PARTS:
        raise source.error(node, f"a key has at most {MOST_PARTS} parts")
    return parts[::-1]
