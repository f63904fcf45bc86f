"""The rules of routes: their names, matches, actions and filters, and which of them can never be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config import texts
from penstock.config.check_answers import check_respond, check_type_stays, wrong_target
from penstock.config.check_case import check_case
from penstock.config.check_condition import check_condition
from penstock.config.check_forward_auth import check_forward_auth
from penstock.config.check_mapping import check_edit_cookies, check_hsts, check_map_location
from penstock.config.check_mirror import check_copies, check_mirror
from penstock.config.check_pages import check_pages
from penstock.config.check_split import check_shares, check_split
from penstock.config.compile_forward import parents
from penstock.config.document import KeyPath, Report, is_special, unknown
from penstock.config.expression import compile_expression
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.config.document import Loaded
    from penstock.config.model import Compress, Config, Cors, Filter, Route

_Found = tuple[tuple[KeyPath, str], ...]
_ACTIONS = ("upstream", "split", "respond", "redirect")


def check_routes(loaded: Loaded, fault: Report, warn: Report) -> set[str]:
    """Find every fault of the routes, and what is doubtful about them together. Gives their names."""
    config = loaded.config
    names = [route.name or f"route-{number}" for number, route in enumerate(config.routes, 1)]
    used = {route.upstream for route in config.routes}
    own = loaded.memory.each(config.routes, _own_faults)
    known = set(names)
    # Of all together it is soon seen that there is nothing to tell of any.
    if len(known) < len(names) or not used <= {None, *config.upstreams} or any(own):
        _faults(loaded, names, own, fault, warn)
    else:
        for index, route in loaded.special_routes:
            _references(("routes", index), route, config, fault, warn)
    _unreached(config, warn)
    _unused(config, used, [route for _, route in loaded.special_routes], warn)
    check_case(loaded, warn)
    return known


def _faults(loaded: Loaded, names: list[str], own: list[_Found], fault: Report, warn: Report) -> None:
    """What is wrong with each route, in their order."""
    upstreams = loaded.config.upstreams
    first: dict[str, int] = {}
    for index, (name, route) in enumerate(zip(names, loaded.config.routes, strict=True)):
        if first.setdefault(name, index) != index:
            fault(
                ("routes", index, "name"),
                f'"{name}" is already the name of routes[{first[name]}]; names are unique',
            )
        if route.upstream is not None and route.upstream not in upstreams:
            fault(("routes", index, "upstream"), unknown("upstream", route.upstream, upstreams))
        _references(("routes", index), route, loaded.config, fault, warn)
        for key, message in own[index]:
            fault(("routes", index, *key), message)


def _references(key: KeyPath, route: Route, config: Config, fault: Report, warn: Report) -> None:
    """The names that a route uses beside its upstream exist."""
    if route.forward_auth is not None and route.forward_auth.upstream not in config.upstreams:
        fault((*key, "forward_auth", "upstream"), unknown("upstream", route.forward_auth.upstream, config.upstreams))
    check_split(key, route, config, fault, warn)
    check_mirror(key, route, config, fault, warn)
    for index, name in enumerate(route.addons):
        if name not in config.addons:
            fault((*key, "addons", index), unknown("add-on", name, config.addons))
    for index, name in enumerate(route.listeners or ()):
        if name not in config.listeners:
            fault((*key, "listeners", index), unknown("listener", name, config.listeners))


def _own_faults(route: Route) -> _Found:
    """What is wrong with a route whatever stands around it; keys begin below the route."""
    found: list[tuple[KeyPath, str]] = []

    def fault(key: KeyPath, message: str | None) -> None:
        if message:
            found.append((key, message))

    if route.name is not None:
        fault(("name",), texts.wrong_name(route.name))
    if route.match is not None:
        try:
            compile_expression(route.match)
        except ExpressionError as error:
            fault(("match",), str(error))
    if route.upstream is None or is_special(route):
        _special(route, fault)
    for position, step in enumerate(route.filters):
        _filter(("filters", position), step, fault)
    return tuple(found)


def _special(route: Route, fault: Report) -> None:
    """What only a route can have wrong that says more than its upstream, or not even that."""
    _action(route, fault)
    if route.listeners is not None and not route.listeners:
        fault(("listeners",), "names no listener; leave the key out to serve all")
    if route.addons and (twice := _twice(list(route.addons))) is not None:
        fault(("addons",), f'"{twice}" is named twice')
    if route.forward_auth is not None:
        check_forward_auth(("forward_auth",), route.forward_auth, fault)
    check_pages(("error_pages",), route.error_pages, fault)
    check_condition(("maintenance", "except"), route.maintenance.except_, fault)
    check_copies(route, fault)


def _action(route: Route, fault: Report) -> None:
    given = [name for name in _ACTIONS if name in route.model_fields_set and getattr(route, name) is not None]
    if len(given) != 1:
        which = f"has {' and '.join(given)}" if given else "has no action"
        fault((), f"{which}; a route has exactly one of {', '.join(_ACTIONS)}")
    check_shares(route, fault)
    if route.respond is not None:
        check_respond(("respond",), route.respond, fault)
        check_type_stays(route, fault)
    if route.redirect is not None:
        fault(("redirect", "to"), wrong_target(route.redirect.to))


def _filter(key: KeyPath, step: Filter, fault: Report) -> None:
    try:
        name, value = step.step()
    except ValueError:
        given = sorted(name for name in step.model_fields_set if getattr(step, name) is not None)
        has = f"has {' and '.join(given)}" if given else "is empty"
        fault(key, f"{has}; a filter has exactly one key: write each as an entry of its own")
        return
    rule = _FILTERS.get(name)
    if rule is not None:
        rule((*key, name), value, fault)


def _fields(*, request: bool) -> Callable[[KeyPath, dict[str, str], Report], None]:
    def rule(key: KeyPath, fields: dict[str, str], fault: Report) -> None:
        if not fields:
            fault(key, "is empty; give at least one field")
        if (twice := texts.repeated(fields)) is not None:
            fault(key, f"{twice} is given twice; capitals make no difference")
        for name, value in fields.items():
            fault((*key, name), texts.wrong_field_name(name, request=request, removing=False))
            fault((*key, name), texts.wrong_field_value(value))

    return rule


def _removed(*, request: bool) -> Callable[[KeyPath, tuple[str, ...], Report], None]:
    def rule(key: KeyPath, names: tuple[str, ...], fault: Report) -> None:
        if not names:
            fault(key, "is empty; give at least one name")
        for index, name in enumerate(names):
            fault((*key, index), texts.wrong_field_name(name, request=request, removing=True))

    return rule


def _prefix(key: KeyPath, prefix: str, fault: Report) -> None:
    fault(key, texts.wrong_prefix(prefix))


def _replace_prefix(key: KeyPath, change: Any, fault: Report) -> None:
    fault((*key, "from"), texts.wrong_prefix(change.from_, root=True))
    fault((*key, "to"), texts.wrong_prefix(change.to, root=True))
    if change.from_.rstrip("/") == change.to.rstrip("/"):
        fault(key, "from and to are the same prefix")


def _rewrite(key: KeyPath, rewrite: Any, fault: Report) -> None:
    if not rewrite.regex:
        fault((*key, "regex"), "is empty")
    fault((*key, "to"), texts.wrong_field_value(rewrite.to.replace("\t", "\0")))


def _query(key: KeyPath, names: Any, fault: Report) -> None:
    if not names:
        fault(key, "is empty; give at least one parameter")
    if "" in names:
        fault(key, "a query parameter has a name")


def _cors(key: KeyPath, cors: Cors, fault: Report) -> None:
    if not cors.origins:
        fault((*key, "origins"), 'is empty; give origins, or ["*"] for any')
    if "*" in cors.origins:
        if len(cors.origins) > 1:
            fault((*key, "origins"), '"*" allows any origin and stands alone')
        if cors.credentials:
            fault((*key, "credentials"), 'cannot be true with origin "*"; name the origins (Fetch standard, 3.3.5)')
    for index, origin in enumerate(cors.origins):
        if origin != "*":
            fault((*key, "origins", index), texts.wrong_origin(origin))
    for name, what in (("methods", "a method"), ("headers", "a header name"), ("expose", "a header name")):
        for index, token in enumerate(getattr(cors, name)):
            fault((*key, name, index), texts.wrong_token(token, what))


def _compress(key: KeyPath, compress: Compress, fault: Report) -> None:
    if (twice := texts.repeated(compress.codings)) is not None:
        fault((*key, "codings"), f'"{twice}" is given twice')
    if not compress.types:
        fault((*key, "types"), 'is empty; give media types, as "text/*" or "application/json"')
    for index, media in enumerate(compress.types):
        kind, _, name = media.partition("/")
        wrong = texts.wrong_token(kind) or (None if name == "*" else texts.wrong_token(name))
        fault((*key, "types", index), wrong and f'"{media}" is no media type; write it as "text/*" or "text/html"')


_FILTERS: dict[str, Callable[[KeyPath, Any, Report], None]] = {
    "set_request_header": _fields(request=True),
    "add_request_header": _fields(request=True),
    "set_response_header": _fields(request=False),
    "add_response_header": _fields(request=False),
    "remove_request_header": _removed(request=True),
    "remove_response_header": _removed(request=False),
    "strip_prefix": _prefix,
    "add_prefix": _prefix,
    "replace_prefix": _replace_prefix,
    "rewrite_path": _rewrite,
    "set_query": _query,
    "remove_query": _query,
    "cors": _cors,
    "compress": _compress,
    "map_location": check_map_location,
    "edit_cookies": check_edit_cookies,
    "hsts": check_hsts,
}


def _unreached(config: Config, warn: Report) -> None:
    """A route is never reached if an earlier one that matches all that it matches serves all its listeners."""
    matches = ["" if route.match is None else route.match.strip() for route in config.routes]
    # Where each asks for something else, and none before the last takes everything, there is nothing to compare.
    if len(set(matches)) == len(matches) and not {"", "True"}.intersection(matches[:-1]):
        return
    everything = frozenset(name for name, listener in config.listeners.items() if listener.protocol == "http")
    earlier: dict[str, list[tuple[int, frozenset[str]]]] = {}
    for index, route in enumerate(config.routes):
        mine = everything if route.listeners is None else frozenset(route.listeners)
        if not mine:
            continue
        text = "" if matches[index] == "True" else matches[index]
        of_all, same = earlier.get("", ()), earlier.get(text, ()) if text else ()
        for other, theirs in (*of_all, *same):
            if mine <= theirs:
                name = config.routes[other].name or f"route-{other + 1}"
                reason = "matches every request" if (other, theirs) in of_all else "has the same match"
                warn(("routes", index), f'is never reached: route "{name}" before it {reason}')
                break
        else:
            # Only routes that can be reached are kept, so a list grows by distinct sets of listeners and not by routes.
            earlier.setdefault(text, []).append((index, mine))


def _unused(config: Config, used: set[str | None], referring: list[Route], warn: Report) -> None:
    used = used | {route.forward_auth.upstream for route in referring if route.forward_auth is not None}
    used |= {share.upstream for route in referring for share in route.shares}
    used |= {route.mirror.upstream for route in referring if route.mirror}
    used |= {listener.upstream for listener in config.listeners.values()}
    used |= {name for listener in config.listeners.values() for name in parents(listener)}
    for name in config.upstreams:
        if name not in used:
            warn(("upstreams", name), "no route or listener uses it")
    if any(route.listeners is None for route in config.routes):
        return
    served = {name for route in referring for name in route.listeners or ()}
    for name, listener in config.listeners.items():
        if name not in served and listener.https_redirect is None and listener.protocol == "http":
            warn(("listeners", name), "no route serves it: every request gets 404")


def _twice(names: list[str]) -> str | None:
    return next((name for index, name in enumerate(names) if name in names[:index]), None)
