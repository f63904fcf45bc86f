"""The expression language: Python's syntax, parsed with `ast`, type-checked and compiled to the plan's predicate tree.

Nothing here evaluates an expression, knows of routes or reads a file. `docs/expressions.md` is the language's
reference; `crates/plan/src/predicate.rs` is the shape that comes out."""

from penstock.config.expression.asked import asked
from penstock.config.expression.compiler import compile_expression
from penstock.config.expression.key import compile_key
from penstock.config.expression.template import Piece, compile_template, literal_template
from penstock.config.expression.values import Predicate

__all__ = [
    "Piece",
    "Predicate",
    "asked",
    "compile_expression",
    "compile_key",
    "compile_template",
    "literal_template",
]
