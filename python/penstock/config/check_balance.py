"""The rules of how an upstream's endpoints are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config import texts
from penstock.config.expression import compile_key
from penstock.config.model import HashBalance
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import Affinity, Config, Upstream


def check_balance(key: KeyPath, upstream: Upstream, config: Config, fault: Report, warn: Report) -> None:
    """Find what is wrong with the balance of one upstream, and what is doubtful."""
    if not any(endpoint.state == "ready" for endpoint in upstream.endpoints):
        warn((*key, "endpoints"), "none is ready, so no endpoint takes new requests")
    if upstream.affinity is not None:
        check_affinity((*key, "affinity"), upstream.affinity, config, fault, warn)
    if upstream.queue and not any(endpoint.max_connections for endpoint in upstream.endpoints):
        warn((*key, "queue"), "no endpoint has max_connections, so no request ever waits")
    if isinstance(upstream.balance, HashBalance):
        check_key((*key, "balance", "hash"), upstream.balance.hash, config, fault, warn)
        if any(endpoint.slow_start for endpoint in upstream.endpoints):
            warn((*key, "endpoints"), "slow_start has no effect on a hash: keys would move twice")
        if upstream.balance.bounded_load == 1:
            warn((*key, "balance", "bounded_load"), "1 leaves no room: nearly every key moves about; 1.25 is usual")


def check_affinity(key: KeyPath, affinity: Affinity, config: Config, fault: Report, warn: Report) -> None:
    """Find what is wrong with the affinity of one upstream."""
    given = [name for name in ("cookie", "header", "key", "table") if getattr(affinity, name) is not None]
    if len(given) != 1:
        has = f"has {' and '.join(given)}" if given else "is empty"
        fault(key, f"{has}; an affinity has exactly one of cookie, header, key and table")
    if affinity.cookie is not None:
        fault((*key, "cookie"), texts.wrong_token(affinity.cookie, "the name of a cookie"))
    if affinity.header is not None:
        fault((*key, "header"), texts.wrong_token(affinity.header))
    if affinity.key is not None:
        check_key((*key, "key"), affinity.key, config, fault, warn)
    if affinity.table is not None:
        check_key((*key, "table"), affinity.table, config, fault, warn)
    for name in sorted(affinity.model_fields_set & {"ttl", "size"}):
        if affinity.table is None:
            fault((*key, name), "belongs to a table; nothing is remembered without one")
    if affinity.secret is not None:
        if affinity.cookie is None:
            fault((*key, "secret"), "only a cookie has a secret")
        if (affinity.secret.env is None) == (affinity.secret.file is None):
            fault((*key, "secret"), 'has exactly one key: { env = "NAME" } or { file = "path" }')


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
