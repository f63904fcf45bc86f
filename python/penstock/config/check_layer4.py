"""The rules of listeners that pass bytes or datagrams on (layer 4), of the routes that serve them, and of the upstreams
behind: there is no request, so nothing may ask for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config.compile_forward import intercepts
from penstock.config.compile_layer4 import OF_SESSIONS
from penstock.config.document import unknown
from penstock.config.expression import asked, compile_expression, compile_key
from penstock.config.model import HashBalance, Split
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.config.document import KeyPath, Loaded, Report
    from penstock.config.model import Affinity, Config, Listener, Route, Upstream

_LISTENER_KEYS = {
    "tcp": ("bind", "protocol", "upstream", "http", "tls", "proxy_protocol", "timeouts", "limits"),
    "udp": ("bind", "protocol", "upstream", "responses", "timeouts", "limits"),
}
_TIMEOUTS = {"tcp": ("tls", "hello", "idle"), "udp": ("idle",)}
_LIMITS = {
    "tcp": ("connections", "connections_per_client", "connection_rate", "connection_rate_per_client", "handshakes"),
    "udp": OF_SESSIONS,
}
_ROUTE_KEYS = ("name", "match", "listeners", "upstream", "split")
OF_CONNECTIONS = {
    "client_ip": "client.ip",
    "client_port": "client.port",
    "listener": "listener",
    "port": "port",
    "sni": "sni",
    "alpn": "alpn",
}
"""Values that a connection has, by their names in the plan."""
_OF_HELLO = ("sni", "alpn")
"""Those that a datagram has not."""


def check_layer4(loaded: Loaded, fault: Report, warn: Report) -> None:
    """Find what a listener of connections, a route that serves one, or an upstream behind it cannot have."""
    config = loaded.config
    layer4 = {name: kind.protocol for name, kind in config.listeners.items() if kind.protocol in _LISTENER_KEYS}
    of_http = [name for name, listener in config.listeners.items() if listener.protocol == "http"]
    handed = {listener.http for listener in config.listeners.values() if listener.protocol == "tcp"}
    routed = {name for _, route in loaded.special_routes for name in route.listeners or ()}
    for name, listener in config.listeners.items():
        key: KeyPath = ("listeners", name)
        if listener.upstream is not None and listener.upstream not in config.upstreams:
            fault((*key, "upstream"), unknown("upstream", listener.upstream, config.upstreams))
        if name in layer4:
            _listener(key, listener, fault)
            _destination(key, listener, config, fault, routed=name in routed)
        else:
            _of_requests(key, listener, fault)
        if not listener.bind and (name in layer4 or name not in handed):
            fault((*key, "bind"), "is missing; it must be given")
    lost = bool(config.listeners) and not of_http
    for index, route in enumerate(config.routes) if lost else loaded.special_routes:
        key = ("routes", index)
        if lost and route.listeners is None:
            warn(key, 'serves no listener: it names none, and there is none of "http"')
        elif route.listeners and not layer4.keys().isdisjoint(route.listeners):
            _route(key, route, layer4, set(config.listeners) - layer4.keys(), fault)
    # What an upstream of both may not have is told once, of datagrams, which may have less.
    of_udp = _behind(config, {name for name, kind in layer4.items() if kind == "udp"}) & set(config.upstreams)
    for name in sorted(_behind(config, set(layer4)) & set(config.upstreams)):
        _upstream(("upstreams", name), config.upstreams[name], "udp" if name in of_udp else "tcp", fault)
    for index, test in enumerate(config.tests):
        if test.listener in layer4 or (layer4 and not of_http):
            key = ("tests", index) if test.listener is None else ("tests", index, "listener")
            kind = layer4.get(test.listener or "") or next(iter(layer4.values()))
            fault(key, f'a test is a request, and a listener of "{kind}" takes none')


def _listener(key: KeyPath, listener: Listener, fault: Report) -> None:
    kind = listener.protocol
    for place, model, allowed in (
        (key, listener, _LISTENER_KEYS[kind]),
        ((*key, "timeouts"), listener.timeouts, _TIMEOUTS[kind]),
        ((*key, "limits"), listener.limits, _LIMITS[kind]),
    ):
        for name in sorted(model.model_fields_set.difference(allowed)):
            fault((*place, name), f'does not belong to a listener of "{kind}" (allowed: {", ".join(allowed)})')
    for index, bind in enumerate(listener.bind):
        if kind == "udp" and bind.startswith("unix:"):
            fault((*key, "bind", index), "a unix socket takes no datagrams; give an address with a port")
    if listener.tls is not None and "alpn" in listener.tls.model_fields_set:
        fault((*key, "tls", "alpn"), 'does not belong to a listener of "tcp": what is spoken inside is not known')


def _destination(key: KeyPath, listener: Listener, config: Config, fault: Report, *, routed: bool) -> None:
    """Every connection can go somewhere, and what is handed over to who can open it."""
    if listener.http is None:
        if listener.upstream is None and not routed:
            what = "datagram" if listener.protocol == "udp" else "connection"
            fault(key, f'has no upstream, so every {what} would be refused; add one, as upstream = "db"')
        return
    key = (*key, "http")
    to = config.listeners.get(listener.http)
    if to is None:
        fault(key, unknown("listener", listener.http, config.listeners))
    elif to.protocol != "http" or to.tls is None:
        fault(key, f'{listener.http} is no listener of "http" with tls, and what comes here is TLS')
    if listener.upstream is not None:
        fault(key, "there is an upstream, too; what no route takes can go to one of them only")
    if listener.tls is not None:
        fault(key, "there is tls, too: what is opened here cannot be opened there; remove one of them")
    if not routed:
        fault(key, f"no route passes anything on here; bind {listener.http} itself")


def _of_requests(key: KeyPath, listener: Listener, fault: Report) -> None:
    """What only a listener of connections has."""
    if "hello" in listener.timeouts.model_fields_set and not intercepts(listener):
        heard = 'is waited for by listeners of "tcp", and by those of "forward" that intercept; here there is tls'
        fault((*key, "timeouts", "hello"), heard)
    for name in sorted(listener.limits.model_fields_set.intersection(OF_SESSIONS)):
        fault((*key, "limits", name), 'belongs to a listener of "udp"')
    if not listener.bind and listener.proxy_protocol is not None:
        fault((*key, "proxy_protocol"), 'belongs to the listener of "tcp" whose port this is')
    if listener.protocol != "http":
        return
    of = 'does not belong to a listener of "http"'
    if listener.responses is not None:
        fault((*key, "responses"), 'belongs to a listener of "udp"')
    if listener.upstream is not None:
        fault((*key, "upstream"), f"{of}: routes say where requests go")
    if listener.http is not None:
        fault((*key, "http"), f"{of}: it speaks HTTP itself")


def _route(key: KeyPath, route: Route, layer4: Mapping[str, str], others: set[str], fault: Report) -> None:
    """A route of connections or datagrams: it serves no `others`, and asks for no request."""
    kinds = {layer4[name] for name in route.listeners or () if name in layer4}
    kind = "udp" if "udp" in kinds else "tcp"
    if others & set(route.listeners or ()):
        fault((*key, "listeners"), f'names listeners of "{kind}" and of "http"; a route serves one kind')
        return
    for name in sorted(route.model_fields_set.difference(_ROUTE_KEYS)):
        allowed = ", ".join(_ROUTE_KEYS)
        fault((*key, name), f'does not belong to a route of a listener of "{kind}" (allowed: {allowed})')
    if route.match is not None:
        _connection_only((*key, "match"), _attempt(compile_expression, route.match), kind, fault)
    if isinstance(route.split, Split):
        if route.split.override is not None:
            fault((*key, "split", "override"), "names a header or a cookie, and a connection has none")
        if route.split.key is not None:
            _connection_only((*key, "split", "key"), _attempt(compile_key, route.split.key), kind, fault)


def _behind(config: Config, listeners: set[str]) -> set[str]:
    """Upstreams that get the sessions of these listeners."""
    routes = [route for route in config.routes if route.listeners and not listeners.isdisjoint(route.listeners)]
    named = {config.listeners[name].upstream for name in listeners} | {route.upstream for route in routes}
    return {name for name in named if name} | {share.upstream for route in routes for share in route.shares}


def _upstream(key: KeyPath, upstream: Upstream, kind: str, fault: Report) -> None:
    if isinstance(upstream.balance, HashBalance):
        key_of = _attempt(compile_key, upstream.balance.hash)
        _connection_only((*key, "balance", "hash"), key_of, kind, fault)
    if upstream.affinity is not None:
        _affinity((*key, "affinity"), upstream.affinity, kind, fault)
    if kind != "udp":
        return
    for name in ("tls", "proxy_protocol"):
        if getattr(upstream, name) is not None:
            fault((*key, name), 'a listener of "udp" uses this upstream, and its datagrams go as they came')
    for index, endpoint in enumerate(upstream.endpoints):
        if endpoint.address.startswith("unix:"):
            place = (*key, "endpoints", index)
            fault(place, 'a listener of "udp" uses this upstream, and a unix socket takes no datagrams')


def _affinity(key: KeyPath, affinity: Affinity, kind: str, fault: Report) -> None:
    what = "datagram" if kind == "udp" else "connection"
    for name in ("cookie", "header"):
        if getattr(affinity, name) is not None:
            place = (*key, name)
            fault(place, f'a {what} has no {name}, and a listener of "{kind}" uses this upstream; give key or table')
    for name in ("key", "table"):
        if (text := getattr(affinity, name)) is not None:
            _connection_only((*key, name), _attempt(compile_key, text), kind, fault)


def _attempt(compiled: Any, text: str) -> Any:
    """What is compiled; nothing where it is wrong, which is told elsewhere."""
    try:
        return compiled(text)
    except ExpressionError:
        return None


def _connection_only(key: KeyPath, part: Any, kind: str, fault: Report) -> None:
    """Refuse values that only a request has, or a connection alone, each once."""
    names = [name for name in OF_CONNECTIONS if kind == "tcp" or name not in _OF_HELLO]
    for name in dict.fromkeys(asked(part)):
        if name in names:
            continue
        what = "datagram" if kind == "udp" else "connection"
        lacks = "hello" if name in _OF_HELLO else "request"
        allowed = ", ".join(OF_CONNECTIONS[name] for name in names)
        fault(key, f'asks for {name}, and a {what} of a listener of "{kind}" has no {lacks} (allowed: {allowed})')
