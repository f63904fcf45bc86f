"""The rules of parents: upstreams whose endpoints are proxies, through which listeners of "forward" go out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config.compile_forward import parents
from penstock.config.document import unknown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.config.document import KeyPath, Report
    from penstock.config.model import Config, Parent, Upstream


def check_parents(config: Config, fault: Report, warn: Report) -> None:
    """Find parents that are none, upstreams that cannot be one, and what else they are used for."""
    named: set[str] = set()
    for listener in config.listeners.values():
        named |= parents(listener)
    for key, name in _uses(config):
        if name not in config.upstreams:
            fault(key, unknown("upstream", name, config.upstreams))
    given = {name for name, upstream in config.upstreams.items() if upstream.parent is not None}
    for name in (name for name in config.upstreams if name in named | given):
        upstream, place = config.upstreams[name], ("upstreams", name)
        if upstream.parent is not None:
            _parent((*place, "parent"), upstream.parent, fault)
        if name in named:
            _upstream(place, upstream, fault)
    for key, name in _other_uses(config) if named | given else ():
        if name in named:
            fault(key, f"a forward proxy goes out through {name}: its endpoints are proxies, and serve nothing")
        elif name in given:
            warn(("upstreams", name, "parent"), 'says nothing, because no listener of "forward" goes out through it')


def _uses(config: Config) -> Iterator[tuple[KeyPath, str]]:
    for name, listener in config.listeners.items():
        if listener.parent is not None:
            yield ("listeners", name, "parent"), listener.parent
        for index, rule in enumerate(listener.rules):
            if rule.parent is not None:
                yield ("listeners", name, "rules", index, "parent"), rule.parent


def _other_uses(config: Config) -> Iterator[tuple[KeyPath, str]]:
    for name, listener in config.listeners.items():
        if listener.upstream is not None:
            yield ("listeners", name, "upstream"), listener.upstream
    for index, route in enumerate(config.routes):
        if route.upstream is not None:
            yield ("routes", index, "upstream"), route.upstream
        for share in route.shares:
            yield ("routes", index, "split"), share.upstream
        for part, use in (("forward_auth", route.forward_auth), ("mirror", route.mirror)):
            if use is not None:
                yield ("routes", index, part, "upstream"), use.upstream


def _parent(key: KeyPath, parent: Parent, fault: Report) -> None:
    password = parent.password
    if (parent.user is None) != (password is None):
        fault(key, "user and password go together")
    if password is not None and (password.env is None) == (password.file is None):
        fault((*key, "password"), 'has exactly one key: { env = "NAME" } or { file = "path" }')


def _upstream(key: KeyPath, upstream: Upstream, fault: Report) -> None:
    if upstream.protocol != "http1":
        fault((*key, "protocol"), 'HTTP/1.1 is spoken to a parent, or what its parent.protocol says (allowed: "http1")')
    if upstream.host != "keep":
        fault((*key, "host"), "the Host of a request through a parent is that of its server")
    if upstream.affinity is not None:
        fault((*key, "affinity"), "does not belong to a parent: clients are bound to no endpoint of it")
