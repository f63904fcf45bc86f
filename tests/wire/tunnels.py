"""Connections that were upgraded, and belong to the client and the endpoint from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.wire.peers import connect

if TYPE_CHECKING:
    from tests.wire.peers import Address, Connection, Origin

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"


def ask_for_tunnel(address: Address, protocol: bytes = b"echo") -> Connection:
    """A client that asked to be upgraded."""
    client = connect(address)
    client.send(b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n" % protocol)
    return client


def open_tunnel(address: Address, origin: Origin, protocol: bytes = b"echo") -> tuple[Connection, Connection]:
    """Both ends of a tunnel, with nothing on its way: the client's and the endpoint's."""
    client = ask_for_tunnel(address, protocol)
    behind = origin.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    behind.received.clear()
    behind.send(SWITCH % protocol)
    client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    client.received.clear()
    return client, behind
