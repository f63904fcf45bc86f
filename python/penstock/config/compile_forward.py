"""What of a listener's plan only listeners of "forward" have."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.config import texts
from penstock.config.compile_layer4 import compile_rate
from penstock.config.expression import asked, compile_expression
from penstock.config.internal import state_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.config.model import Config, Listener, Rule, Secret, Upstream, Users

_TOLD = ("forwarded_for", "forwarded", "via", "anonymous")
FORWARD_KEYS = (
    "allow_clients", "users", "connect_ports", "allow_private", *_TOLD, "parent", "rules", "origins", "interception",
)  # fmt: skip
"""Keys of a listener that only those of "forward" have."""


def forward(
    listener: Listener, config: Config, timeouts: Callable[[Any], dict[str, Any]], absolute: Callable[[str], str]
) -> dict[str, Any] | None:
    """The part of the plan; `timeouts` makes milliseconds of durations, `absolute` a path of one that is relative."""
    if listener.protocol != "forward":
        return None
    upstreams = {name: index for index, name in enumerate(config.upstreams)}
    return {
        "allow_clients": [texts.read_network(network) for network in listener.allow_clients],
        "users": listener.users and _users(listener.users, config, absolute),
        "connect_ports": [list(texts.read_ports(ports)) for ports in listener.connect_ports],
        "allow_private": listener.allow_private,
        "parent": None if listener.parent is None else upstreams[listener.parent],
        "rules": [_rule(number, rule, upstreams) for number, rule in enumerate(listener.rules, 1)],
        **{name: getattr(listener, name) for name in _TOLD},
        "timeouts": timeouts(listener.origins.timeouts),
        "limits": dict(listener.origins.limits),
        "tls": _tls(listener, absolute),
        "interception": _interception(listener, absolute) if intercepts(listener) else None,
    }


def intercepts(listener: Listener) -> bool:
    """Whether a rule says that tunnels are opened."""
    return any(rule.intercept for rule in listener.rules)


def authority_folder(listener: Listener, absolute: Callable[[str], str]) -> str:
    """Where the authority is kept that signs for the servers of opened tunnels."""
    given = listener.interception.authority
    return str(state_folder("interception")) if given is None else absolute(given)


def _tls(listener: Listener, absolute: Callable[[str], str]) -> dict[str, Any]:
    tls = listener.origins.tls
    return {
        "ca": tls.ca and absolute(tls.ca),
        "name": None,
        "certificate": None,
        "insecure": False,
        "min_version": tls.min_version,
    }


def _interception(listener: Listener, absolute: Callable[[str], str]) -> dict[str, Any]:
    return {
        "authority": authority_folder(listener, absolute),
        "pinned": round(listener.interception.pinned / timedelta(milliseconds=1)),
    }


def rule_name(number: int, rule: Rule) -> str:
    """The name of the rule that stands in this place, counted from 1."""
    return rule.name or f"rule-{number}"


def _users(users: Users, config: Config, absolute: Callable[[str], str]) -> dict[str, Any]:
    return {
        "htpasswd": users.htpasswd and absolute(users.htpasswd),
        "addon": None if users.addon is None else list(config.addons).index(users.addon),
        "realm": users.realm,
        "attempts": compile_rate(users.attempts),
    }


def is_parent(name: str, config: Config) -> bool:
    """Whether a forward proxy goes out through this upstream."""
    return any(name in parents(listener) for listener in config.listeners.values())


def parents(listener: Listener) -> set[str]:
    """The upstreams through which it goes out."""
    return {name for name in (listener.parent, *(rule.parent for rule in listener.rules)) if name is not None}


def parent(name: str, upstream: Upstream, config: Config, absolute: Callable[[str], str]) -> dict[str, Any] | None:
    """How an upstream is asked for servers, in the shape of `crates/plan/src/upstream.rs`."""
    given = upstream.parent
    if given is None:
        return {"protocol": "http", "user": None, "password": None} if is_parent(name, config) else None
    return {
        "protocol": given.protocol,
        "user": given.user,
        "password": given.password and secret(given.password, absolute),
    }


def secret(place: Secret, absolute: Callable[[str], str]) -> dict[str, str]:
    """Where a secret is found."""
    return {"env": place.env} if place.env is not None else {"file": absolute(place.file or "")}


def _rule(number: int, rule: Rule, upstreams: Mapping[str, int]) -> dict[str, Any]:
    when = None
    if rule.match is not None:
        when = {"text": rule.match, "predicate": compile_expression(rule.match, errand=True)}
    verdict: Any = next((way for way in ("intercept", "tunnel", "direct") if getattr(rule, way)), "allow")
    if rule.parent is not None:
        verdict = {"parent": upstreams[rule.parent]}
    if rule.deny is not None:
        verdict = "close" if rule.deny == "close" else {"deny": rule.deny}
    names = set(asked(when and when["predicate"]))
    return {
        "name": rule_name(number, rule),
        "when": when,
        "waits": "response_type" in names,
        "resolves": "dest_ip" in names,
        "verdict": verdict,
        "throttle": rule.throttle,
    }
