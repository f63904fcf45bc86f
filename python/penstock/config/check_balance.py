"""The rules of how an upstream's endpoints are chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.config.document import KeyPath
from penstock.config.expression import compile_key
from penstock.config.model import HashBalance
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.model import Config, Upstream

Report = Callable[[KeyPath, "str | None"], None]
"""Takes a key and what is wrong with it; nothing wrong is nothing to report."""


def check_balance(key: KeyPath, upstream: Upstream, config: Config, fault: Report, warn: Report) -> None:
    """Find what is wrong with the balance of one upstream, and what is doubtful."""
    if not any(endpoint.state == "ready" for endpoint in upstream.endpoints):
        warn((*key, "endpoints"), "none is ready, so no endpoint takes new requests")
    if upstream.queue and not any(endpoint.max_connections for endpoint in upstream.endpoints):
        warn((*key, "queue"), "no endpoint has max_connections, so no request ever waits")
    if isinstance(upstream.balance, HashBalance):
        check_key((*key, "balance", "hash"), upstream.balance.hash, config, fault, warn)
        if any(endpoint.slow_start for endpoint in upstream.endpoints):
            warn((*key, "endpoints"), "slow_start has no effect on a hash: keys would move twice")
        if upstream.balance.bounded_load == 1:
            warn((*key, "balance", "bounded_load"), "1 leaves no room: nearly every key moves about; 1.25 is usual")


def check_key(key: KeyPath, text: str, config: Config, fault: Report, warn: Report) -> None:
    """A key compiles, and some listener has what it reads."""
    try:
        operands = compile_key(text)
    except ExpressionError as error:
        fault(key, str(error))
        return
    binds = [bind for listener in config.listeners.values() for bind in listener.bind]
    if "client_ip" in operands and binds and all(bind.startswith("unix:") for bind in binds):
        trusted = any(listener.trusted_proxies for listener in config.listeners.values())
        if not trusted:
            warn(key, "no request has client.ip: every listener is a unix socket")
