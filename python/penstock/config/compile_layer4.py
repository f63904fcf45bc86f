"""What of a listener's plan only listeners of connections and datagrams (layer 4) have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config.expression import asked, compile_expression, compile_key
from penstock.config.model import HashBalance, Rate, Split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.config.model import Config, Listener

IDLE = {"tcp": 600_000, "udp": 60_000}
"""How long a session may be silent, in milliseconds, where the listener does not say."""
OF_SESSIONS = ("sessions", "sessions_per_client", "session_rate", "session_rate_per_client")
"""Limits of listeners of datagrams."""


def layer4(name: str, listener: Listener, config: Config) -> dict[str, Any]:
    """The keys that others have empty."""
    unopened = listener.protocol == "tcp" and listener.tls is None
    return {
        "upstream": None if listener.upstream is None else list(config.upstreams).index(listener.upstream),
        "http": None if listener.http is None else list(config.listeners).index(listener.http),
        "datagrams": _datagrams(listener) if listener.protocol == "udp" else None,
        "preread": unopened and any(value in ("sni", "alpn") for part in _parts(name, config) for value in asked(part)),
    }


def _datagrams(listener: Listener) -> dict[str, Any]:
    return {"responses": listener.responses} | limits_of(listener, of_sessions=True)


def limits_of(listener: Listener, *, of_sessions: bool) -> dict[str, Any]:
    """The limits that listeners of datagrams have, or those that the others have."""
    limits = ((name, value) for name, value in listener.limits if (name in OF_SESSIONS) == of_sessions)
    return {name: compile_rate(value) if isinstance(value, Rate) else value for name, value in limits}


def compile_rate(rate: Rate) -> dict[str, Any]:
    """In the shape of `crates/plan/src/rate.rs`."""
    count, per = rate.rate
    per_ms = round(per.total_seconds() * 1000)
    return {"count": count, "per": per_ms, "burst": count if rate.burst is None else rate.burst}


def _parts(name: str, config: Config) -> Iterator[Any]:
    """Whatever is asked about a connection of this listener, compiled."""
    upstreams = {config.listeners[name].upstream}
    for route in config.routes:
        if name not in (route.listeners or ()):
            continue
        if route.match is not None:
            yield compile_expression(route.match)
        if isinstance(route.split, Split) and route.split.key is not None:
            yield compile_key(route.split.key)
        upstreams |= {route.upstream, *(share.upstream for share in route.shares)}
    for upstream in [config.upstreams[name] for name in upstreams if name is not None]:
        if isinstance(upstream.balance, HashBalance):
            yield compile_key(upstream.balance.hash)
        if upstream.affinity is not None and (text := upstream.affinity.key or upstream.affinity.table) is not None:
            yield compile_key(text)
