"""What was worked out for each route of the last configuration, so that a reload works only on routes that changed.

Only what follows from a route alone is kept: nothing that depends on its place in the list, on other routes, or on
the names of listeners and upstreams. So there is nothing to invalidate: another text is another route.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.config.model import Config, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_T = TypeVar("_T")


class Memory:
    """Remembers the routes of one configuration: the last one of the right shape. Not for two threads at a time."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._by_table: dict[bytes, _Known] = {}
        self._by_route: dict[int, _Known] = {}

    def validate(self, document: Mapping[str, Any]) -> Config:
        """`Config.model_validate` of what a parser has just made, in which a route that is written as it was before
        is the same object as before. Raises `ValidationError`, and remembers what it did."""
        tables = document.get("routes")
        if not isinstance(tables, list):
            return Config.model_validate(document)
        before = self._by_table
        texts = [_written(table) for table in tables]
        routes = [before[text].route if text in before else table for text, table in zip(texts, tables, strict=True)]
        config = Config.model_validate({**document, "routes": routes})
        self._by_table = {
            text: before.get(text) or _Known(route)
            for text, route in zip(texts, config.routes, strict=True)
            if text is not None
        }
        self._by_route = {id(known.route): known for known in self._by_table.values()}
        return config

    def once(self, route: Route, find: Callable[[Route], _T]) -> _T:
        """What `find` gives for a route, found again only for a route that is not known. It must look at nothing else,
        and its result is shared: never changed."""
        # Routes made by programs are not known: theirs are values that the program could change behind our back.
        known = self._by_route.get(id(route))
        if known is None:
            return find(route)
        if find not in known.found:
            known.found[find] = find(route)
        found: _T = known.found[find]
        return found


class _Known:
    """A route, kept alive so that its identity stays its own, with what was found for it."""

    __slots__ = ("found", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.found: dict[Callable[[Route], Any], Any] = {}


def _written(table: Any) -> bytes | None:
    """A table as bytes that differ when anything in it does: also `1` and `true`, which Python holds equal. `None` for
    what has no such form (a date of TOML)."""
    try:
        # Of the later versions, the bytes depend on how often an object is used.
        return marshal.dumps(table, 2)
    except ValueError:
        return None
