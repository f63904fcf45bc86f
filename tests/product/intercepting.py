"""A forward proxy that opens tunnels, between clients that trust its authority and origins that speak TLS."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from secured import SecuredOrigin
from tests.certificates import DEADLINE, authority, write
from tests.product.forwarding import config
from tests.safety.faults.name_server import NameServer

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "shop.example"
"""What the name server of these tests says is on this machine, as everything."""
OPEN: dict[str, Any] = {"name": "open", "intercept": True}


def settings(folder: Path, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Tunnels are opened as the rules say, all without any; origins are believed that the tests' authority signed."""
    roots = folder / "roots.pem"
    authority().cert_pem.write_to_path(str(roots))
    listener = {
        "rules": list(rules) or [OPEN],
        "connect_ports": ["1-65535"],
        "origins": {"tls": {"ca": str(roots)}},
        "interception": {"authority": str(folder / "ca")},
        **more,
    }
    return config(**listener) | {"log": {"access": {"to": str(folder / "access.log"), "format": "json"}}}


def shop(folder: Path, certificate: dict[str, Any] | None = None) -> SecuredOrigin:
    """An origin that proves to be `NAME`, or with this certificate somebody else, and speaks HTTP/1.1."""
    shown = certificate or write(folder / "keys", "shop", NAME, "127.0.0.1", "other.example")
    return SecuredOrigin(shown, protocols=("http/1.1",))


@contextmanager
def intercepting(folder: Path, *rules: dict[str, Any], **more: Any) -> Iterator[penstock.Proxy]:
    """One that runs."""
    with NameServer("127.0.0.1") as names, penstock.Proxy(asking(names, settings(folder, *rules, **more))) as proxy:
        yield proxy


def asking(names: NameServer, made: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose proxy asks this server for names."""
    return made | {"dns": {"servers": [names.address]}}


def connected(proxy: penstock.Proxy, place: str, *fields: str) -> socket.socket:
    """A tunnel to this place."""
    sock = socket.create_connection(proxy.address("out"), DEADLINE)
    sock.sendall("\r\n".join([f"CONNECT {place} HTTP/1.1", f"Host: {place}", *fields, "", ""]).encode())
    got = b""
    while b"\r\n\r\n" not in got:
        more = sock.recv(65_536)
        assert more, got
        got += more
    assert got.startswith(b"HTTP/1.1 200 "), got
    return sock


def trusting(folder: Path, *protocols: str) -> ssl.SSLContext:
    """A client's: it trusts the proxy's authority and nobody else."""
    made = ssl.create_default_context(cafile=str(folder / "ca" / "ca.pem"))
    if protocols:
        made.set_alpn_protocols(protocols)
    return made


def secured(
    proxy: penstock.Proxy,
    port: int,
    trust: ssl.SSLContext,
    name: str = NAME,
    place: str | None = None,
    *,
    asks: str = "",
) -> ssl.SSLSocket:
    """TLS with `name` in a tunnel to it, or to another place; `asks` is the field that says who asks for it."""
    sock = connected(proxy, f"{place or name}:{port}", *filter(None, [asks]))
    try:
        return trust.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)
    except BaseException:
        sock.close()
        raise


def whole_answer(sock: ssl.SSLSocket, path: str = "/", *fields: str, host: str | None = None) -> tuple[int, bytes]:
    """One request; the answer's status and all of it."""
    port = sock.getpeername()[1]
    assert port
    lines = [f"GET {path} HTTP/1.1", f"Host: {host or sock.server_hostname}", *fields]
    sock.sendall("\r\n".join([*lines, "", ""]).encode())
    got = b""
    while True:
        head, end, rest = got.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if end and lengths and len(rest) >= int(lengths[0].split(b":")[1]):
            return int(head.split(b" ")[1]), got
        more = sock.recv(65_536)
        assert more, got
        got += more
