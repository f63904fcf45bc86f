"""The rules of health checks and ejections: which keys belong together, and what each may say."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from penstock.config import texts

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import BodyTest, HealthCheck, Upstream, Words

_HTTP = ("path", "method", "headers", "status", "body")
_TCP = ("send", "expect")


def check_health(key: KeyPath, upstream: Upstream, fault: Report) -> None:
    """Find every fault of how the health of the upstream's endpoints is judged, and of what follows when they fail."""
    if upstream.outlier is not None and upstream.outlier.most < upstream.outlier.eject:
        fault((*key, "outlier", "most"), "the longest ejection is shorter than the first")
    if upstream.retry.backoff.most < upstream.retry.backoff.least:
        fault((*key, "retry", "backoff", "most"), "the longest pause is shorter than the shortest")
    if upstream.health_check is not None:
        _check_probes((*key, "health_check"), upstream.health_check, upstream, fault)


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
    for name in _TCP:
        if (words := getattr(check, name)) is not None:
            fault((*key, name), _wrong_words(words))
    _place(key, check, upstream, fault)


def _together(key: KeyPath, check: HealthCheck, fault: Report) -> None:
    """A probe is of one kind, and each key belongs to it."""
    if check.tcp and check.grpc is not None:
        fault((*key, "grpc"), "a probe is of one kind: give tcp = true or grpc, not both")
    kind = "TCP" if check.tcp else "gRPC" if check.grpc is not None else "HTTP"
    foreign = {"HTTP": _TCP, "TCP": (*_HTTP, "host"), "gRPC": (*_HTTP, *_TCP)}[kind]
    for name in foreign:
        if name in check.model_fields_set:
            hint = "; it needs tcp = true" if kind == "HTTP" else ""
            fault((*key, name), f"does not belong to a probe over {kind}{hint}")


def _place(key: KeyPath, check: HealthCheck, upstream: Upstream, fault: Report) -> None:
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
