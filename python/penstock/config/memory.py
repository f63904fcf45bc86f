"""What was worked out for each route of the last configuration, so that a reload works only on routes that changed.

Only what follows from a route alone is kept: nothing that depends on its place in the list, on other routes, or on
the names of listeners and upstreams. So there is nothing to invalidate: another text is another route.
"""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING, Any, TypeVar

import tomli
from pydantic import ValidationError

from penstock.config.model import Config, Route
from penstock.config.pieces import plain_table, take_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")

_KNOWN: dict[str, Any] = {}
"""Stands for the table of a route that need not be read."""


class Memory:
    """Remembers the routes of one configuration: the last one of the right shape. Not for two threads at a time."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._by_text: dict[bytes | str, _Known] = {}
        self._routes: tuple[Route, ...] = ()
        self._known: list[_Known] = []
        """Of each of `_routes`."""

    def validate(self, document: Mapping[str, Any], text: str | None = None) -> Config:
        """`Config.model_validate` of what a parser has just made, in which a route that is written as it was before
        is the same object as before. `text` is that of the document, if it is TOML. Raises `ValidationError`, and
        remembers what it did."""
        tables = document.get("routes")
        if not isinstance(tables, list):
            return Config.model_validate(document)
        pieces = None if text is None else take_apart(text)
        of_text = pieces is not None and len(pieces.routes) == len(tables)
        texts = pieces.routes if pieces is not None and of_text else [_written(table) for table in tables]
        return self._remember(texts, tables, document)

    def reread(self, text: str) -> Config | None:
        """The configuration of a TOML text, of which routes that are written as before are not read again, and plain
        ones not by the parser. `None`: it has to be read whole, because none are so, or to tell what is wrong."""
        pieces = take_apart(text)
        if pieces is None:
            return None
        routes: list[Any] = [_KNOWN if text in self._by_text else plain_table(text) for text in pieces.routes]
        others = [text for text, route in zip(pieces.routes, routes, strict=True) if route is None]
        if len(others) == len(routes):
            return None
        try:
            document = tomli.loads(pieces.rest)
            tables = tomli.loads("".join(others))["routes"] if others else []
            if "routes" in document or len(tables) != len(others):
                return None
            new = iter(tables)
            routes = [next(new) if route is None else route for route in routes]
            return self._remember(pieces.routes, routes, document)
        except (tomli.TOMLDecodeError, ValidationError, RecursionError):
            return None

    def _remember(
        self, texts: Sequence[bytes | str | None], tables: Sequence[object], document: Mapping[str, Any]
    ) -> Config:
        """The configuration with these routes: those that are known by their texts, and those of tables."""
        before = [None if text is None else self._by_text.get(text) for text in texts]
        routes = [known.route if known else table for known, table in zip(before, tables, strict=True)]
        config = Config.model_validate({**document, "routes": routes})
        self._routes = config.routes
        self._known = [known or _Known(route) for known, route in zip(before, config.routes, strict=True)]
        self._by_text = {text: known for text, known in zip(texts, self._known, strict=True) if text is not None}
        return config

    def each(self, routes: tuple[Route, ...], find: Callable[[Route], _T]) -> list[_T]:
        """What `find` gives for each of a configuration's routes, found again only for those that are not known. It
        must look at nothing else, and its results are shared: never changed."""
        if routes is not self._routes:
            # Of a program: values that it could change behind our back.
            return [find(route) for route in routes]
        return [known.found[find] if find in known.found else known.learn(find) for known in self._known]


class _Known:
    """A route, kept alive so that its identity stays its own, with what was found for it."""

    __slots__ = ("found", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.found: dict[Callable[[Route], Any], Any] = {}

    def learn(self, find: Callable[[Route], _T]) -> _T:
        found = self.found[find] = find(self.route)
        return found


def _written(table: Any) -> bytes | None:
    """A table as bytes that differ when anything in it does: also `1` and `true`, which Python holds equal. `None` for
    what has no such form (a date of TOML)."""
    try:
        # Of the later versions, the bytes depend on how often an object is used.
        return marshal.dumps(table, 2)
    except ValueError:
        return None
