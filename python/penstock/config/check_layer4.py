"""The rules of listeners that pass bytes on (layer 4), of the routes that serve them, and of the upstreams behind:
there is no request, so nothing may ask for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config.document import unknown
from penstock.config.expression import asked, compile_expression, compile_key
from penstock.config.model import HashBalance, Split
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import Affinity, Config, Listener, Route, Upstream

_LISTENER_KEYS = ("bind", "protocol", "upstream", "http", "tls", "proxy_protocol", "timeouts", "limits")
_TIMEOUTS = ("tls", "hello", "idle")
_LIMITS = ("connections", "connections_per_client", "connection_rate", "connection_rate_per_client", "handshakes")
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


def check_layer4(config: Config, fault: Report, warn: Report) -> None:
    """Find what a listener of connections, a route that serves one, or an upstream behind it cannot have."""
    of_tcp = {name for name, listener in config.listeners.items() if listener.protocol == "tcp"}
    handed = {listener.http for name, listener in config.listeners.items() if name in of_tcp}
    routed = {name for route in config.routes for name in route.listeners or ()}
    for name, listener in config.listeners.items():
        key: KeyPath = ("listeners", name)
        if listener.upstream is not None and listener.upstream not in config.upstreams:
            fault((*key, "upstream"), unknown("upstream", listener.upstream, config.upstreams))
        if name in of_tcp:
            _listener(key, listener, fault)
            _destination(key, listener, config, fault, routed=name in routed)
        else:
            _of_requests(key, listener, fault)
        if not listener.bind and (name in of_tcp or name not in handed):
            fault((*key, "bind"), "is missing; it must be given")
    for index, route in enumerate(config.routes):
        key = ("routes", index)
        if route.listeners is None and of_tcp and of_tcp >= set(config.listeners):
            warn(key, 'serves no listener: it names none, and there is none of "http"')
        elif of_tcp & set(route.listeners or ()):
            _route(key, route, set(config.listeners) - of_tcp, fault)
    for name in sorted(_behind(config, of_tcp) & set(config.upstreams)):
        _upstream(("upstreams", name), config.upstreams[name], fault)
    for index, test in enumerate(config.tests):
        if test.listener in of_tcp or not set(config.listeners) - of_tcp:
            key = ("tests", index) if test.listener is None else ("tests", index, "listener")
            fault(key, 'a test is a request, and a listener of "tcp" takes none')


def _listener(key: KeyPath, listener: Listener, fault: Report) -> None:
    for place, model, allowed in (
        (key, listener, _LISTENER_KEYS),
        ((*key, "timeouts"), listener.timeouts, _TIMEOUTS),
        ((*key, "limits"), listener.limits, _LIMITS),
    ):
        for name in sorted(model.model_fields_set.difference(allowed)):
            fault((*place, name), f'does not belong to a listener of "tcp" (allowed: {", ".join(allowed)})')
    if listener.tls is not None and "alpn" in listener.tls.model_fields_set:
        fault((*key, "tls", "alpn"), 'does not belong to a listener of "tcp": what is spoken inside is not known')


def _destination(key: KeyPath, listener: Listener, config: Config, fault: Report, *, routed: bool) -> None:
    """Every connection can go somewhere, and what is handed over to who can open it."""
    if listener.http is None:
        if listener.upstream is None and not routed:
            fault(key, 'has no upstream, so every connection would be refused; add one, as upstream = "db"')
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
    of = f'does not belong to a listener of "{listener.protocol}"'
    if "hello" in listener.timeouts.model_fields_set:
        fault((*key, "timeouts", "hello"), 'is waited for by listeners of "tcp" alone; here there is tls')
    if listener.upstream is not None:
        fault((*key, "upstream"), f"{of}: routes say where requests go")
    if listener.http is not None:
        fault((*key, "http"), f"{of}: it speaks HTTP itself")
    if not listener.bind and listener.proxy_protocol is not None:
        fault((*key, "proxy_protocol"), 'belongs to the listener of "tcp" whose port this is')


def _route(key: KeyPath, route: Route, others: set[str], fault: Report) -> None:
    """A route of connections: it serves no `others`, and asks for no request."""
    if others & set(route.listeners or ()):
        fault((*key, "listeners"), 'names listeners of "tcp" and of "http"; a route serves one kind')
        return
    for name in sorted(route.model_fields_set.difference(_ROUTE_KEYS)):
        allowed = ", ".join(_ROUTE_KEYS)
        fault((*key, name), f'does not belong to a route of a listener of "tcp" (allowed: {allowed})')
    if route.match is not None:
        _connection_only((*key, "match"), _attempt(compile_expression, route.match), fault)
    if isinstance(route.split, Split):
        if route.split.override is not None:
            fault((*key, "split", "override"), "names a header or a cookie, and a connection has none")
        if route.split.key is not None:
            _connection_only((*key, "split", "key"), _attempt(compile_key, route.split.key), fault)


def _behind(config: Config, of_tcp: set[str]) -> set[str]:
    """Upstreams that get connections."""
    routes = [route for route in config.routes if of_tcp & set(route.listeners or ())]
    named = {config.listeners[name].upstream for name in of_tcp} | {route.upstream for route in routes}
    return {name for name in named if name} | {share.upstream for route in routes for share in route.shares}


def _upstream(key: KeyPath, upstream: Upstream, fault: Report) -> None:
    if isinstance(upstream.balance, HashBalance):
        key_of = _attempt(compile_key, upstream.balance.hash)
        _connection_only((*key, "balance", "hash"), key_of, fault)
    if upstream.affinity is not None:
        _affinity((*key, "affinity"), upstream.affinity, fault)


def _affinity(key: KeyPath, affinity: Affinity, fault: Report) -> None:
    for name in ("cookie", "header"):
        if getattr(affinity, name) is not None:
            fault(
                (*key, name),
                f'a connection has no {name}, and a listener of "tcp" uses this upstream; give key or table',
            )
    for name in ("key", "table"):
        if (text := getattr(affinity, name)) is not None:
            _connection_only((*key, name), _attempt(compile_key, text), fault)


def _attempt(compiled: Any, text: str) -> Any:
    """What is compiled; nothing where it is wrong, which is told elsewhere."""
    try:
        return compiled(text)
    except ExpressionError:
        return None


def _connection_only(key: KeyPath, part: Any, fault: Report) -> None:
    """Refuse values that only a request has, each once."""
    for name in dict.fromkeys(asked(part)):
        if name in OF_CONNECTIONS:
            continue
        allowed = ", ".join(OF_CONNECTIONS.values())
        fault(key, f'asks for {name}, and a connection of a listener of "tcp" has no request (allowed: {allowed})')
