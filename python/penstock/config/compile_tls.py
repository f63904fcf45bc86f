"""The parts of a plan that say how TLS is spoken, on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config.internal import internal_tls, is_internal

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.config.model import ClientCertificates, Config, Listener, Tls, UpstreamTls

Plan = dict[str, Any]


def listener_tls(listener: Listener, tls: Tls, config: Config, place: Callable[[str], str]) -> Plan:
    """A listener's; `place` makes a path absolute."""
    internal: Plan | None = None
    if is_internal(tls):
        internal, files = internal_tls(config)
    return {
        "internal": internal,
        "certificates": [files]
        if internal
        else [
            {
                "cert": place(one.cert),
                "key": place(one.key),
                "readable_key": one.readable_key,
                "ocsp": one.ocsp and place(one.ocsp),
            }
            for one in tls.certificates
        ],
        "unknown_name": tls.unknown_name,
        "min_version": tls.min_version,
        # What is only passed on is no protocol of ours to agree on.
        "alpn": _alpn(listener, tls),
        "tickets": tls.tickets,
        "clients": tls.clients and _clients(tls.clients, place),
        "names": [
            {"name": name.lower().removesuffix("."), "clients": rule.clients and _clients(rule.clients, place)}
            for name, rule in tls.names.items()
        ],
    }


def _alpn(listener: Listener, tls: Tls) -> list[str]:
    return list(tls.alpn) if listener.protocol in ("http", "forward") else []


def _clients(clients: ClientCertificates, place: Callable[[str], str]) -> Plan:
    crl = clients.crl
    return {"ca": place(clients.ca), "crl": crl and place(crl), "required": clients.required}


def upstream_tls(tls: UpstreamTls, place: Callable[[str], str]) -> Plan:
    """An upstream's."""
    certificate = None
    if tls.cert is not None and tls.key is not None:
        certificate = {"cert": place(tls.cert), "key": place(tls.key), "readable_key": tls.readable_key, "ocsp": None}
    return {
        "ca": None if tls.ca is None else place(tls.ca),
        "name": tls.name,
        "certificate": certificate,
        "insecure": tls.insecure,
        "min_version": tls.min_version,
    }
