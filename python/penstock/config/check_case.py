"""A doubt about routes that refuse: a path has letters, and many servers take capitals and small ones for the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config.expression import compile_expression
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.document import Loaded, Report
    from penstock.config.model import Route

_REFUSALS = (401, 403)


def check_case(loaded: Loaded, warn: Report) -> None:
    """Warn of refusals that another spelling of the path goes round, where a later route forwards what is left."""
    behind = enumerate(reversed(loaded.config.routes))
    after = next((number for number, route in behind if route.upstream or route.split), len(loaded.config.routes))
    for index, route in loaded.special_routes:
        if index + after < len(loaded.config.routes) and (found := _spelled(route)) is not None:
            warn(
                ("routes", index, "match"),
                f'tells capitals from small letters: "{found.upper()}" is not refused, and endpoints that do not tell '
                "them apart would serve it; write path.lower()",
            )


def _spelled(route: Route) -> str | None:
    """The first text that the path of what is refused is compared with as it is written."""
    if route.respond is None or route.respond.status not in _REFUSALS or route.match is None:
        return None
    try:
        return _text(compile_expression(route.match))
    except ExpressionError:
        return None  # a fault that is told elsewhere


def _text(predicate: Any) -> str | None:
    kind, test = next(iter(predicate.items()))
    if kind in ("and", "or"):
        return next((found for part in test if (found := _text(part)) is not None), None)
    texts: list[str] = []
    # What is refused unless it is so spelled is refused in every other spelling, too: `not` is no doubt.
    if kind == "compare" and (test["left"], test["operator"]) == ("path", "=="):
        texts = [test["right"].get("text", "")]
    elif kind in ("starts_with", "ends_with") and test["value"] == "path":
        texts = test.get("prefixes") or test.get("suffixes")
    elif kind == "in" and test["value"] == "path":
        texts = [one.get("text", "") for one in test["set"]]
    elif kind == "glob" and test["value"] == "path":
        texts = [test["pattern"]]
    return next((text for text in texts if text.upper() != text), None)
