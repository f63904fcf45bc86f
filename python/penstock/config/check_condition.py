"""The rule of expressions that are asked of a request beside its route's match: they see the head alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config.expression import asked, compile_expression
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report


def check_condition(key: KeyPath, text: str | None, fault: Report) -> None:
    """An expression compiles, and asks nothing of a body, which is read only where a match asks for it."""
    if text is None:
        return
    try:
        predicate = compile_expression(text)
    except ExpressionError as error:
        fault(key, str(error))
        return
    if "json" in asked(predicate):
        fault(key, "is asked of the head: json[…] has no value here; put it into the match of a route")
