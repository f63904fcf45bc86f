"""From a checked configuration to the Plan: the only producer of what crosses into the data plane.

Every default is filled in, names become indexes, durations milliseconds, sizes bytes. The shape is that of
`crates/plan`."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from penstock.config import texts
from penstock.config.check_answers import DEFAULT_TYPE
from penstock.config.check_pages import page_type
from penstock.config.collector import uncollected
from penstock.config.compile_filter import compile_filter, field_pairs
from penstock.config.compile_forward import forward, parent, secret
from penstock.config.compile_layer4 import IDLE, layer4, limits_of
from penstock.config.compile_list import compile_list
from penstock.config.compile_tls import listener_tls, upstream_tls
from penstock.config.expression import compile_expression, compile_key, compile_template, literal_template
from penstock.config.memory import Memory
from penstock.config.model import Route, Split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta
    from pathlib import Path

    from penstock.config.model import (
        Addon,
        Affinity,
        Capture,
        Config,
        Endpoint,
        ErrorPage,
        ForwardAuth,
        HashBalance,
        HealthCheck,
        List,
        Listener,
        Maintenance,
        Mirror,
        Outlier,
        ProxyProtocol,
        Respond,
        Retry,
        RouteLimits,
        Upstream,
        Words,
    )
    from penstock.config.model.balance import Policy

Plan = dict[str, Any]
"""A compiled configuration in the shape of `crates/plan`, or a part of one."""

_write_text = json.encoder.encode_basestring


def _write(value: object) -> str:
    """As JSON. Not by `json`, which takes several times as long for what is as small as most of a route's parts."""
    return to_json(value).decode()


def compile_plan(config: Config, folder: Path, version: int) -> Plan:
    """Compile a configuration that `check` has accepted. Relative paths are relative to `folder`."""
    plan: Plan = json.loads(compile_text(config, folder, version, Memory()))
    return plan


@uncollected()
def compile_text(
    config: Config, folder: Path, version: int, memory: Memory, addons: Mapping[str, Plan] | None = None
) -> str:
    """The plan as the JSON text that crosses the border. The text of most of a route comes from `memory`; `addons` says
    of each add-on what only its code can: `id`, `hooks` and `concurrency`."""
    routes = _routes(config, folder, memory)
    access = config.log.access
    rest = {
        "version": version,
        "engine": {
            "workers": config.engine.workers or _processors(),
            "drain_timeout": _milliseconds(config.engine.drain_timeout),
            "memory": config.engine.memory,
            "watchdog": _milliseconds(config.engine.watchdog),
        },
        "dns": {
            "servers": [texts.read_server(server) for server in config.dns.servers],
            "prefer": config.dns.prefer,
        },
        "listeners": [_listener(name, listener, config, folder) for name, listener in config.listeners.items()],
        "upstreams": [_upstream(name, upstream, config, folder) for name, upstream in config.upstreams.items()],
        "lists": [_list(name, model, folder) for name, model in config.lists.items()],
        "error_pages": _error_pages(config.error_pages, folder),
        "addons": [_addon(name, addon, (addons or {}).get(name, _UNLOADED)) for name, addon in config.addons.items()],
        "access_log": access
        and {
            "format": access.format,
            "to": "stdout" if access.to == "stdout" else {"file": _absolute(access.to, folder)},
            "query": access.query,
        },
    }
    return f'{_write(rest)[:-1]},"routes":[{",".join(routes)}]}}'


def resolve_address(address: str, folder: Path) -> str:
    """An address with the path of a unix socket made absolute."""
    path = address.removeprefix("unix:")
    return address if path == address else "unix:" + _absolute(path, folder)


def _listener(name: str, listener: Listener, config: Config, folder: Path) -> Plan:
    timeouts = _timeouts(listener.timeouts)
    if listener.protocol in IDLE and "idle" not in listener.timeouts.model_fields_set:
        timeouts["idle"] = IDLE[listener.protocol]
    return {
        "name": name,
        "bind": [resolve_address(bind, folder) for bind in listener.bind],
        "protocol": listener.protocol,
        **layer4(name, listener, config),
        "forward": forward(listener, config, _timeouts, partial(_absolute, folder=folder)),
        "tls": listener.tls and listener_tls(listener, listener.tls, config, partial(_absolute, folder=folder)),
        "h2c": listener.h2c,
        "trusted_proxies": [texts.read_network(network) for network in listener.trusted_proxies],
        "proxy_protocol": listener.proxy_protocol and _proxy_protocol(listener.proxy_protocol),
        "https_redirect": listener.https_redirect and dict(listener.https_redirect),
        "timeouts": timeouts,
        "limits": limits_of(listener, of_sessions=False),
        "capture": listener.capture and _capture(listener.capture),
        "error_pages": _error_pages(listener.error_pages, folder),
    }


def _capture(capture: Capture) -> Plan:
    return {
        "match": _match(capture.match),
        "bodies": capture.bodies,
        "memory": capture.memory,
        "secrets": capture.secrets,
    }


def _proxy_protocol(senders: ProxyProtocol) -> Plan:
    networks = [sender if sender == "unix" else texts.read_network(sender) for sender in senders.from_]
    return {"from": networks, "timeout": _milliseconds(senders.timeout)}


def _upstream(name: str, upstream: Upstream, config: Config, folder: Path) -> Plan:
    return {
        "name": name,
        "endpoints": [_endpoint(endpoint, folder) for endpoint in upstream.endpoints],
        "balance": _balance(upstream.balance),
        "affinity": upstream.affinity and _affinity(upstream.affinity, folder),
        "host": upstream.host if upstream.host in ("keep", "upstream") else {"literal": upstream.host},
        "proxy_protocol": upstream.proxy_protocol,
        "protocol": upstream.protocol,
        "parent": parent(name, upstream, config, partial(_absolute, folder=folder)),
        "tls": upstream.tls and upstream_tls(upstream.tls, partial(_absolute, folder=folder)),
        "timeouts": _timeouts(upstream.timeouts),
        "limits": dict(upstream.limits),
        "queue": upstream.queue and {"size": upstream.queue.size, "timeout": _milliseconds(upstream.queue.timeout)},
        "health_check": upstream.health_check and _health_check(upstream.health_check, folder),
        "outlier": upstream.outlier and _outlier(upstream.outlier),
        "retry": _retry(upstream.retry),
    }


def _list(name: str, model: List, folder: Path) -> Plan:
    return compile_list(name, model, partial(_absolute, folder=folder), _milliseconds(model.refresh))


def _retry(retry: Retry) -> Plan:
    return {
        "attempts": retry.attempts,
        "per_try_timeout": None if retry.per_try_timeout is None else _milliseconds(retry.per_try_timeout),
        "on": list(retry.on),
        "least_pause": _milliseconds(retry.backoff.least),
        "most_pause": _milliseconds(retry.backoff.most),
        "buffer": retry.buffer,
    }


def _health_check(check: HealthCheck, folder: Path) -> Plan:
    return {
        "probe": _probe(check),
        "address": check.address and resolve_address(check.address, folder),
        "port": check.port,
        "tls": check.tls and upstream_tls(check.tls, partial(_absolute, folder=folder)),
        "interval": _milliseconds(check.interval),
        "timeout": _milliseconds(check.timeout),
        "fall": check.fall,
        "rise": check.rise,
        "start": check.start,
    }


def _outlier(outlier: Outlier) -> Plan:
    latency = outlier.latency
    return {
        "failures": outlier.failures,
        "within": _milliseconds(outlier.within),
        "eject": _milliseconds(outlier.eject),
        "most": _milliseconds(outlier.most),
        "share_percent": round(outlier.share * 100),
        "latency": latency and {"factor_percent": round(latency.factor * 100), "least": _milliseconds(latency.least)},
    }


def _probe(check: HealthCheck) -> Plan | str:
    if check.redis or check.mysql:
        return "redis" if check.redis else "mysql"
    if check.postgres:
        return {"postgres": {"user": check.user}}
    if check.tcp:
        return {"tcp": {"send": _bytes(check.send), "expect": _bytes(check.expect)}}
    if check.udp:
        return {"udp": {"send": _bytes(check.send), "expect": _bytes(check.expect)}}
    if check.grpc is not None:
        return {"grpc": {"service": check.grpc, "host": check.host}}
    body = check.body
    return {
        "http": {
            "method": check.method,
            "path": check.path,
            "host": check.host,
            "headers": field_pairs(check.headers),
            "statuses": check.status,
            "body": body and ({"text": body.text} if body.regex is None else {"regex": body.regex}),
        }
    }


def _bytes(words: Words | None) -> list[int]:
    if words is None:
        return []
    return list(words.text.encode() if words.text is not None else bytes.fromhex(words.hex or ""))


def _endpoint(endpoint: Endpoint, folder: Path) -> Plan:
    return {
        "address": resolve_address(endpoint.address, folder),
        "weight": endpoint.weight,
        "priority": endpoint.priority,
        "max_connections": endpoint.max_connections,
        "slow_start": endpoint.slow_start and _milliseconds(endpoint.slow_start),
        "admin": endpoint.state,
    }


def _affinity(affinity: Affinity, folder: Path) -> Plan:
    if affinity.header is not None:
        return {"key": [{"field": {"header": affinity.header.lower()}}]}
    if affinity.key is not None:
        return {"key": list(compile_key(affinity.key))}
    if affinity.table is not None:
        table = {"key": list(compile_key(affinity.table)), "ttl": _milliseconds(affinity.ttl), "size": affinity.size}
        return {"table": table}
    found = affinity.secret and secret(affinity.secret, partial(_absolute, folder=folder))
    return {"cookie": {"name": affinity.cookie, "secret": found}}


def _balance(balance: Policy | HashBalance) -> Plan | str:
    if isinstance(balance, str):
        return balance
    bound = balance.bounded_load
    percent = None if bound is None else round(bound * 100)
    return {"hash": {"key": list(compile_key(balance.hash)), "method": balance.method, "bounded_load": percent}}


def _addon(name: str, addon: Addon, loaded: Plan) -> Plan:
    settings = {"timeout": _milliseconds(addon.timeout), "on_failure": addon.on_failure, "queue": addon.queue}
    return {"name": name, **settings, **loaded}


def _routes(config: Config, folder: Path, memory: Memory) -> Iterator[str]:
    """Each route's text: what depends on its place and on other names is written anew, the rest is remembered."""
    listeners = {name: index for index, name in enumerate(config.listeners)}
    upstreams = {name: index for index, name in enumerate(config.upstreams)}
    addons = {name: index for index, name in enumerate(config.addons)}
    forwards = {name: _write({"upstream": index}) for name, index in upstreams.items()}
    of_http = [index for index, one in enumerate(config.listeners.values()) if one.protocol == "http"]
    all_of_http = "null" if len(of_http) == len(listeners) else _write(of_http)
    own_texts = memory.each(config.routes, _own_text)
    for number, (route, own) in enumerate(zip(config.routes, own_texts, strict=True), 1):
        name = _write_text(route.name or f"route-{number}")
        served = all_of_http
        if route.listeners is not None:
            served = _write(list(dict.fromkeys(listeners[name] for name in route.listeners)))
        action = forwards[route.upstream] if route.upstream is not None else _write(_action(route, upstreams))
        further = _NOTHING_FURTHER
        if not route.model_fields_set.isdisjoint(_FURTHER):
            asked = _write([addons[name] for name in route.addons])
            auth = _write(route.forward_auth and _forward_auth(route.forward_auth, upstreams))
            pages = _write(_error_pages(route.error_pages, folder))
            mirror = _write(route.mirror and _mirror(route.mirror, upstreams))
            further = f'"forward_auth":{auth},"addons":{asked},"error_pages":{pages},"mirror":{mirror}'
        yield f'{{"name":{name},"listeners":{served},"action":{action},{further},{own}}}'


def _own_text(route: Route) -> str:
    """The members of a route's text that follow from the route alone, without the braces around them."""
    # Of 10 000 routes most keep every default: each piece that they share was written once.
    match = "null" if route.match is None else _write(_match(route.match))
    filters = _write([compile_filter(step) for step in route.filters]) if route.filters else "[]"
    timeouts = _NO_TIMEOUTS if route.timeouts is _DEFAULT_TIMEOUTS else _write(_timeouts(route.timeouts))
    limits = _NO_LIMITS if route.limits is _DEFAULT_LIMITS else _write(_limits(route.limits))
    maintenance = _NO_MAINTENANCE
    if route.maintenance is not _DEFAULT_MAINTENANCE:
        maintenance = _write(_maintenance(route.maintenance))
    return (
        f'"match":{match},"strict":{"true" if route.strict else "false"},"filters":{filters},'
        f'"timeouts":{timeouts},"limits":{limits},"maintenance":{maintenance}'
    )


def _match(text: str | None) -> Plan | None:
    return None if text is None else {"text": text, "predicate": compile_expression(text)}


def _mirror(mirror: Mirror, upstreams: dict[str, int]) -> Plan:
    return {
        "upstream": upstreams[mirror.upstream],
        "of_10000": round(mirror.percent * 100),
        "when": _match(mirror.when),
    }


def _limits(limits: RouteLimits) -> Plan:
    return {"body": limits.body}


def _maintenance(maintenance: Maintenance) -> Plan:
    return {
        "on": maintenance.on,
        "except": _match(maintenance.except_),
        "retry_after": _milliseconds(maintenance.retry_after),
    }


def _forward_auth(auth: ForwardAuth, upstreams: dict[str, int]) -> Plan:
    return {
        "upstream": upstreams[auth.upstream],
        "path": auth.path,
        "copy_headers": [name.lower() for name in auth.copy_headers],
        "timeout": _milliseconds(auth.timeout),
    }


def _action(route: Route, upstreams: dict[str, int]) -> Plan:
    """Any action but the plain upstream."""
    if route.split is not None:
        return {"split": _split(route, upstreams)}
    if route.redirect is not None:
        return {"redirect": {"to": list(compile_template(route.redirect.to)), "status": route.redirect.status}}
    if route.respond is not None:
        return {"respond": _respond(route.respond)}
    raise ValueError("a route without an action reached the compiler: check comes first")


def _split(route: Route, upstreams: dict[str, int]) -> Plan:
    split = route.split if isinstance(route.split, Split) else Split(shares=route.shares)
    override: Plan | None = None
    if split.override is not None:
        header, values = split.override.header, split.override.values
        if values is None:
            values = {share.upstream: share.upstream for share in split.shares}
        override = {
            "header": header and header.lower(),
            "cookie": split.override.cookie,
            "values": [[value, upstreams[name]] for value, name in values.items()],
        }
    return {
        "shares": [{"upstream": upstreams[share.upstream], "weight": share.weight} for share in split.shares],
        "key": None if split.key is None else list(compile_key(split.key)),
        "override": override,
    }


def _respond(respond: Respond) -> Plan:
    compile_text = compile_template if respond.template else literal_template
    headers: list[list[Any]] = [[name.lower(), list(compile_text(value))] for name, value in respond.headers.items()]
    content_type = respond.content_type
    if content_type is None and respond.body and not any(name == "content-type" for name, _ in headers):
        content_type = DEFAULT_TYPE
    if content_type is not None:
        headers.insert(0, ["content-type", list(literal_template(content_type))])
    return {"status": respond.status, "headers": headers, "body": list(compile_text(respond.body))}


def _error_pages(pages: Mapping[str, tuple[ErrorPage, ...]], folder: Path) -> list[Plan]:
    return [{"status": status, "pages": [_page(page, folder) for page in each]} for status, each in pages.items()]


def _page(page: ErrorPage, folder: Path) -> Plan:
    body = {"text": page.text} if page.file is None else {"file": _absolute(page.file, folder)}
    return {"body": body, "content_type": page_type(page), "endpoint": page.endpoint}


def _timeouts(model: Any) -> Plan:
    return {name: None if value is None else _milliseconds(value) for name, value in model}


def _milliseconds(value: timedelta) -> int:
    # Not value.total_seconds() * 1000: whole numbers stay whole.
    return value.days * 86_400_000 + value.seconds * 1000 + value.microseconds // 1000


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / path)


def _processors() -> int:
    """One worker for each CPU that this process may use."""
    return min(len(os.sched_getaffinity(0)), 1024)


_UNLOADED: Plan = {"id": 0, "hooks": [], "concurrency": 1}
"""Of an add-on whose code nobody has looked at."""

_FURTHER = ("forward_auth", "addons", "error_pages", "mirror")
_NOTHING_FURTHER = '"forward_auth":null,"addons":[],"error_pages":[],"mirror":null'
_DEFAULT_TIMEOUTS = Route.model_fields["timeouts"].default
_NO_TIMEOUTS = _write(_timeouts(_DEFAULT_TIMEOUTS))
_DEFAULT_LIMITS = Route.model_fields["limits"].default
_NO_LIMITS = _write(_limits(_DEFAULT_LIMITS))
_DEFAULT_MAINTENANCE = Route.model_fields["maintenance"].default
_NO_MAINTENANCE = _write(_maintenance(_DEFAULT_MAINTENANCE))
