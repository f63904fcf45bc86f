"""An explanation as the control plane gives it on: with the text of every match that said no."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock.config import Config
    from penstock.engine import Explanation


def with_matches(found: Explanation, config: Config) -> Explanation:
    """Add to every route that was passed over its `match` as written, so that its spans point into something."""
    listener = config.listeners.get(found.listener)
    asked = listener.rules if listener is not None and listener.protocol == "forward" else config.routes
    passed = []
    for one in found.passed_over:
        # Asked while a reload swaps, the data plane may speak of routes of the other plan.
        match = asked[one.index].match if one.index < len(asked) else None
        passed.append(replace(one, match=match))
    return replace(found, passed_over=tuple(passed))
