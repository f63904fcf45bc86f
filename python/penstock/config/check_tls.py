"""The rules of TLS: what is asked for which name, and, to endpoints, which keys belong together and what a certificate
could be for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config import texts

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import Tls, Upstream, UpstreamTls


def check_listener_tls(key: KeyPath, tls: Tls, fault: Report) -> None:
    """Find every fault of how a listener speaks TLS that no file is needed for."""
    if len(set(tls.alpn)) < len(tls.alpn):
        fault((*key, "alpn"), "names a protocol twice")
    if not tls.alpn:
        fault((*key, "alpn"), 'is empty; name "h2", "http/1.1" or both')
    seen: dict[str, str] = {}
    for name in tls.names:
        place: KeyPath = (*key, "names", name)
        fault(place, texts.wrong_server_name(name))
        before = seen.setdefault(name.lower().removesuffix("."), name)
        if before != name:
            fault(place, f'is written twice, the first time as "{before}"')


def check_tls(key: KeyPath, upstream: Upstream, fault: Report, warn: Report) -> None:
    """Find every fault of how the upstream's endpoints are spoken to with TLS, and warn of what protects nobody."""
    tls = upstream.tls
    if upstream.proxy_protocol and upstream.protocol != "http1":
        fault(
            (*key, "proxy_protocol"),
            f'a connection of "{upstream.protocol}" is many clients\'; endpoints are told whose it is with "http1"',
        )
    if tls is None:
        if upstream.protocol in ("h2", "auto"):
            fault(
                (*key, "protocol"), f'"{upstream.protocol}" is agreed on in TLS: give tls, or "h2c" for HTTP/2 in clear'
            )
        return
    if upstream.protocol == "h2c":
        fault((*key, "protocol"), '"h2c" is HTTP/2 in clear, and this upstream has tls; allowed with it: "h2", "auto"')
    check_upstream_tls((*key, "tls"), tls, upstream, fault, warn)


def check_upstream_tls(key: KeyPath, tls: UpstreamTls, upstream: Upstream, fault: Report, warn: Report) -> None:
    """Find every fault of TLS to the upstream's endpoints, and warn of what protects nobody."""
    for given, other in (("cert", "key"), ("key", "cert")):
        if getattr(tls, given) is not None and getattr(tls, other) is None:
            fault((*key, given), f"needs {other} beside it")
    if tls.insecure and tls.ca is not None:
        fault((*key, "insecure"), "believes any certificate, so ca would say nothing; give one of them")
    elif tls.insecure:
        warn(
            (*key, "insecure"),
            "no certificate is verified: whoever is between can read and change everything; give ca instead",
        )
    if tls.name is not None:
        fault((*key, "name"), texts.wrong_host(tls.name))
        return
    for index, endpoint in enumerate(upstream.endpoints):
        if endpoint.address.startswith("unix:"):
            place = ".".join(map(str, key[2:]))
            message = f'"{endpoint.address}" has no name that a certificate could be for; give {place}.name'
            fault(("upstreams", key[1], "endpoints", index), message)
