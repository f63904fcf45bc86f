"""An explanation as the control plane gives it on: with the text of every match that said no."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.engine import Explanation


def with_matches(found: Explanation, plan: Mapping[str, Any]) -> Explanation:
    """Add to every route that was passed over its `match` as written, so that its spans point into something."""
    passed = []
    for one in found.passed_over:
        matches = plan["routes"][one.index]["match"] if one.index < len(plan["routes"]) else None
        passed.append(replace(one, match=matches["text"] if matches else None))
    return replace(found, passed_over=tuple(passed))
