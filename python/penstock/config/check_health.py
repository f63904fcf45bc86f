"""The rules of health checks and ejections: which keys belong together, and what each may say."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from penstock.config import texts
from penstock.config.check_tls import check_upstream_tls

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import BodyTest, HealthCheck, Upstream, Words

_HTTP = ("path", "method", "headers", "status", "body")
_SAID = ("send", "expect")


_KINDS = {
    "tcp": ("TCP", _SAID),
    "udp": ("UDP", _SAID),
    "grpc": ("gRPC", ("host",)),
    "redis": ("Redis", ()),
    "postgres": ("PostgreSQL", ("user",)),
    "mysql": ("MySQL", ()),
}
"""Keys that make a probe one of a kind, its name, and the keys that belong to it alone or with HTTP."""


def check_health(key: KeyPath, upstream: Upstream, fault: Report) -> None:
    """Find every fault of how the health of the upstream's endpoints is judged, and of what follows when they fail."""
    if upstream.outlier is not None and upstream.outlier.most < upstream.outlier.eject:
        fault((*key, "outlier", "most"), "the longest ejection is shorter than the first")
    if upstream.retry.backoff.most < upstream.retry.backoff.least:
        fault((*key, "retry", "backoff", "most"), "the longest pause is shorter than the shortest")
    if upstream.health_check is not None:
        _check_probes((*key, "health_check"), upstream.health_check, upstream, fault)
        if upstream.health_check.tls is not None:
            _check_tls((*key, "health_check", "tls"), upstream, fault)


def _check_probes(key: KeyPath, check: HealthCheck, upstream: Upstream, fault: Report) -> None:
    _together(key, check, fault)
    fault((*key, "path"), _wrong_path(check.path))
    fault((*key, "method"), texts.wrong_token(check.method, "a method"))
    if check.method in ("CONNECT", "TRACE"):
        fault((*key, "method"), f"{check.method} cannot be probed with")
    if check.host is not None and (wrong := texts.wrong_authority(check.host)):
        fault((*key, "host"), wrong)
    for name, value in check.headers.items():
        fault((*key, "headers", name), _wrong_field(name) or texts.wrong_field_value(value))
    if check.body is not None:
        fault((*key, "body"), _wrong_body(check.body, check.method))
    for name in _SAID:
        if (words := getattr(check, name)) is not None:
            fault((*key, name), _wrong_words(words))
    _place(key, check, upstream, fault)


def _together(key: KeyPath, check: HealthCheck, fault: Report) -> None:
    """A probe is of one kind, and each key belongs to it."""
    kinds = [name for name in _KINDS if getattr(check, name) not in (False, None)]
    for name in kinds[1:]:
        fault((*key, name), f"a probe is of one kind: give {kinds[0]} or {name}, not both")
    kind, own = _KINDS[kinds[0]] if kinds else ("HTTP", (*_HTTP, "host"))
    for name in (*_HTTP, "host", *_SAID, "user"):
        if name in check.model_fields_set and name not in own:
            needed = " or ".join(f"{one} = true" for one in ("tcp", "udp", "postgres") if name in _KINDS[one][1])
            hint = f"; it needs {needed}" if needed and not kinds else ""
            fault((*key, name), f"does not belong to a probe over {kind}{hint}")
    if kind == "UDP" and check.send is None:
        fault(key, 'a probe over UDP says something to be answered; add send, as send = { hex = "00" }')
    if not check.user.isprintable():
        fault((*key, "user"), "holds control characters")


def _check_tls(key: KeyPath, upstream: Upstream, fault: Report) -> None:
    check = upstream.health_check
    if check is None or check.tls is None:
        return
    if upstream.tls is not None:
        fault(key, "the upstream has tls, and probes speak that; leave one of both out")
    if upstream.protocol == "h2c" or check.grpc is not None:
        fault(key, "gRPC and HTTP/2 over TLS are spoken where the upstream has tls; give that instead")
    # Nothing secret is in a probe: whoever is between could say that an endpoint is well, which needs no warning.
    check_upstream_tls(key, check.tls, upstream, fault, lambda *_: None)


def _place(key: KeyPath, check: HealthCheck, upstream: Upstream, fault: Report) -> None:
    places = [check.address] if check.address is not None else [endpoint.address for endpoint in upstream.endpoints]
    if check.udp and any(place.startswith("unix:") for place in places):
        fault((*key, "udp"), "a unix socket takes no datagrams; give another address")
    if check.address is not None:
        fault((*key, "address"), _wrong_address(check.address))
        if check.port is not None:
            fault((*key, "port"), "the address has a port of its own; give one of both")
    elif check.port is not None and any(endpoint.address.startswith("unix:") for endpoint in upstream.endpoints):
        fault((*key, "port"), "a unix socket has no port; give address instead")


def _wrong_path(path: str) -> str | None:
    if wrong := texts.wrong_path(path.partition("?")[0], "the path of a probe"):
        return wrong
    if texts.wrong_field_value(path.replace(" ", "\x00")) or not path.isascii():
        return "the path of a probe has no spaces, control characters and letters beyond ASCII"
    return None


def _wrong_address(address: str) -> str | None:
    if wrong := texts.wrong_endpoint(address):
        return wrong
    if address.startswith("unix:"):
        return None
    try:
        ipaddress.ip_address(address.rpartition(":")[0].strip("[]"))
    except ValueError:
        return f'"{address}" is a name; allowed: an IP address with a port, or "unix:/path"'
    return None


def _wrong_field(name: str) -> str | None:
    if wrong := texts.wrong_token(name):
        return wrong
    if name.lower() == "host":
        return "Host is set by the key host of the health check"
    if name.lower() in texts.FRAMING:
        return f"{name} belongs to one connection and is set by Penstock alone"
    return None


def _wrong_body(body: BodyTest, method: str) -> str | None:
    if (body.text is None) == (body.regex is None):
        return 'is a text, or { regex = "…" }'
    if method == "HEAD":
        return "an answer to HEAD has no body"
    return None if body.text or body.regex else "must not be empty"


def _wrong_words(words: Words) -> str | None:
    if (words.text is None) == (words.hex is None):
        return 'is a text, or { hex = "…" }'
    if not (words.text or words.hex):
        return "must not be empty"
    try:
        bytes.fromhex(words.hex or "")
    except ValueError:
        return f'"{words.hex}" is not hexadecimal: two digits a byte, as "0d0a"'
    return None
