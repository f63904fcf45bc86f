"""What of a listener's plan only listeners of "forward" have."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from penstock.config import texts
from penstock.config.compile_layer4 import compile_rate
from penstock.config.expression import asked, compile_expression
from penstock.config.internal import state_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.config.model import Listener, Rule, Users

_TOLD = ("forwarded_for", "forwarded", "via", "anonymous")
FORWARD_KEYS = (
    "allow_clients", "users", "connect_ports", "allow_private", *_TOLD, "rules", "origins", "interception",
)  # fmt: skip
"""Keys of a listener that only those of "forward" have."""


def forward(
    listener: Listener, timeouts: Callable[[Any], dict[str, Any]], absolute: Callable[[str], str]
) -> dict[str, Any] | None:
    """The part of the plan; `timeouts` makes milliseconds of durations, `absolute` a path of one that is relative."""
    if listener.protocol != "forward":
        return None
    rules = [_rule(number, rule) for number, rule in enumerate(listener.rules, 1)]
    return {
        "allow_clients": [texts.read_network(network) for network in listener.allow_clients],
        "users": listener.users and _users(listener.users, absolute),
        "connect_ports": [list(texts.read_ports(ports)) for ports in listener.connect_ports],
        "allow_private": listener.allow_private,
        "rules": rules,
        "resolves": any("dest_ip" in asked(rule["when"] and rule["when"]["predicate"]) for rule in rules),
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


def _users(users: Users, absolute: Callable[[str], str]) -> dict[str, Any]:
    return {
        "htpasswd": absolute(users.htpasswd),
        "realm": users.realm,
        "attempts": compile_rate(users.attempts),
    }


def _rule(number: int, rule: Rule) -> dict[str, Any]:
    when = None
    if rule.match is not None:
        when = {"text": rule.match, "predicate": compile_expression(rule.match, errand=True)}
    verdict: Any = "intercept" if rule.intercept else "tunnel" if rule.tunnel else "allow"
    if rule.deny is not None:
        verdict = "close" if rule.deny == "close" else {"deny": rule.deny}
    waits = when is not None and "response_type" in asked(when["predicate"])
    return {"name": rule_name(number, rule), "when": when, "waits": waits, "verdict": verdict}
