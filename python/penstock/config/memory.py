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
from penstock.config.pieces import take_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_T = TypeVar("_T")


class Memory:
    """Remembers the routes of one configuration: the last one of the right shape. Not for two threads at a time."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._by_text: dict[bytes | str, _Known] = {}
        self._by_route: dict[int, _Known] = {}

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
        """The configuration of a TOML text, of which routes that are written as before are not read again. `None`: it
        has to be read whole, because nothing is known, or to tell what is wrong."""
        pieces = take_apart(text) if self._by_text else None
        if pieces is None or self._by_text.keys().isdisjoint(pieces.routes):
            return None
        try:
            document = tomli.loads(pieces.rest)
            others = [text for text in pieces.routes if text not in self._by_text]
            tables = tomli.loads("".join(others))["routes"] if others else []
            if "routes" in document or len(tables) != len(others):
                return None
            new = iter(tables)
            routes = [None if text in self._by_text else next(new) for text in pieces.routes]
            return self._remember(pieces.routes, routes, document)
        except (tomli.TOMLDecodeError, ValidationError, RecursionError):
            return None

    def _remember(
        self, texts: Sequence[bytes | str | None], tables: Sequence[object], document: Mapping[str, Any]
    ) -> Config:
        """The configuration with these routes: those that are known by their texts, and those of tables."""
        before = self._by_text
        routes = [
            before[text].route if text is not None and text in before else table
            for text, table in zip(texts, tables, strict=True)
        ]
        config = Config.model_validate({**document, "routes": routes})
        self._by_text = {
            text: before.get(text) or _Known(route)
            for text, route in zip(texts, config.routes, strict=True)
            if text is not None
        }
        self._by_route = {id(known.route): known for known in self._by_text.values()}
        return config

    def once(self, route: Route, find: Callable[[Route], _T]) -> _T:
        """What `find` gives for a route, found again only for a route that is not known. It must look at nothing else,
        and its result is shared: never changed."""
        try:
            found: _T = self._by_route[id(route)].found[find]
        except KeyError:
            pass
        else:
            return found
        found = find(route)
        # Routes made by programs are not known: theirs are values that the program could change behind our back.
        known = self._by_route.get(id(route))
        if known is not None:
            known.found[find] = found
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
