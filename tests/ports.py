"""Ports for servers that cannot be told 0 and asked for what they got."""

from __future__ import annotations

import socket
from contextlib import closing


class Reserved:
    """A port that nobody has, on any address of this machine, for connections or datagrams, and that nobody is given.

    The system gives no port away that a socket is bound to. That socket does not listen, and allows servers that set
    `SO_REUSEADDR`, as nearly all do, beside it. For datagrams there is no such leave: there the port is only looked at.
    """

    def __init__(self) -> None:
        while True:
            self._holder = _on_every_address(socket.SOCK_STREAM)
            self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._holder.bind(("", 0))
            self.number: int = self._holder.getsockname()[1]
            with closing(_on_every_address(socket.SOCK_DGRAM)) as datagrams:
                try:
                    datagrams.bind(("", self.number))
                except OSError:
                    self._holder.close()
                    continue
            return

    def close(self) -> None:
        """Give it back."""
        self._holder.close()


def _on_every_address(kind: socket.SocketKind) -> socket.socket:
    """A socket that, bound to no address, stands for those of both families.

    A server may listen on all of them (Python's own does): what a client of another test has on `::1` is in its way.
    """
    if not socket.has_dualstack_ipv6():
        return socket.socket(socket.AF_INET, kind)
    found = socket.socket(socket.AF_INET6, kind)
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return found
