"""The rules of lists, and of the expressions that look into them: what is named exists, and has what is looked for."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from penstock.config import texts
from penstock.config.document import unknown
from penstock.config.expression import compile_expression
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.config.document import KeyPath, Report
    from penstock.config.memory import Memory
    from penstock.config.model import Config, List, Route

_MOST_SOURCES = 64
_LEAST_REFRESH = timedelta(seconds=1)


class Use(NamedTuple):
    """One look of an expression into a list."""

    key: KeyPath
    text: str
    name: str
    is_address: bool
    at: tuple[int, int]


def check_lists(config: Config, memory: Memory, fault: Report) -> None:
    """Find every fault of the lists, and of the expressions that look into them."""
    for name, model in config.lists.items():
        _list(("lists", name), name, model, fault)
    for name, listener in config.listeners.items():
        for use in uses(("match",), listener.capture.match if listener.capture else None):
            fault(("listeners", name, "capture", "match"), wrong_use(use, config.lists))
        for place, rule in enumerate(listener.rules):
            for use in uses(("match",), rule.match, errand=True):
                fault(("listeners", name, "rules", place, "match"), wrong_use(use, config.lists))
    for index, found in enumerate(memory.each(config.routes, _uses_of_route)):
        for use in found:
            fault(("routes", index, *use.key), wrong_use(use, config.lists))


def uses(key: KeyPath, text: str | None, *, errand: bool = False) -> tuple[Use, ...]:
    """Each look of the expression at this key into a list; none if it is no expression, which is told elsewhere."""
    if text is None or "list" not in text:
        return ()
    try:
        predicate = compile_expression(text, errand=errand)
    except ExpressionError:
        return ()
    return tuple(
        Use(
            key,
            text,
            one["list"],
            one.get("value", "dest_ip") in ("client_ip", "dest_ip"),
            (one["at"][0], one["at"][1]),
        )
        for one in _looks(predicate)
    )


def wrong_use(use: Use, lists: dict[str, List]) -> str | None:
    """What is wrong with it, with its place in the expression."""
    if use.name not in lists:
        return str(ExpressionError(use.text, use.at, unknown("list", use.name, lists)))
    kind = lists[use.name].kind
    if use.is_address and kind != "networks":
        message, expected = f'an address is looked for in list "{use.name}" of kind "{kind}"', 'a list of "networks"'
    elif not use.is_address and kind == "networks":
        message, expected = f'a text is looked for in list "{use.name}" of networks', "client.ip before in"
    else:
        return None
    return str(ExpressionError(use.text, use.at, message, expected))


def _uses_of_route(route: Route) -> tuple[Use, ...]:
    mirrored = route.mirror.when if route.mirror else None
    return (
        *uses(("match",), route.match),
        *uses(("maintenance", "except"), route.maintenance.except_),
        *uses(("mirror", "when"), mirrored),
    )


def _looks(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, list):
        for below in part:
            yield from _looks(below)
    elif isinstance(part, dict):
        for kind, below in part.items():
            if kind in ("in_list", "dest_in_list"):
                yield below
            elif kind in ("and", "or", "not"):
                yield from _looks(below)


def _list(key: KeyPath, name: str, model: List, fault: Report) -> None:
    fault(key, texts.wrong_name(name))
    sources = len(model.file) + len(model.url)
    if not sources:
        fault(key, 'is read from nowhere; give file = "…" or url = "https://…"')
    elif sources > _MOST_SOURCES:
        fault(key, f"is read from {sources} places; at most {_MOST_SOURCES}")
    for index, path in enumerate(model.file):
        if not path or "\0" in path:
            fault((*key, "file", index), "is not the path of a file")
    for index, url in enumerate(model.url):
        fault((*key, "url", index), _wrong_url(url))
    if model.refresh < _LEAST_REFRESH:
        fault((*key, "refresh"), "must be at least 1s")


def _wrong_url(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        return 'is not an address such as "https://lists.example/social.txt"'
    if parts.username is not None or parts.password is not None:
        return "holds a user's name or password, which the log and the status would show"
    return None
