"""Records of TLS that come in pieces, with time between."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Self

import pytest
from tests.certificates import DEADLINE, ask, context, secure, write

import penstock

if TYPE_CHECKING:
    from pathlib import Path

REQUEST = b"GET / HTTP/1.1\r\nHost: shop.example\r\nX-Long: " + b"x" * 3000 + b"\r\n\r\n"


class Pieces:
    """A client that decides when which bytes of its records go."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.sock = socket.create_connection(address, DEADLINE)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context().wrap_bio(self._in, self._out, server_hostname="shop.example")
        self._until(self.session.do_handshake)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def seal(self, content: bytes) -> bytes:
        """Records of this content, which did not go yet."""
        self.session.write(content)
        return self._out.read()

    def read(self) -> bytes:
        """The next content that comes."""
        return self._until(lambda: self.session.read(65_536))

    def _until(self, step: object) -> bytes:
        assert callable(step)
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._out.read())
                more = self.sock.recv(65_536)
                assert more, "the connection ended"
                self._in.write(more)
            else:
                self.sock.sendall(self._out.read())
                return done if isinstance(done, bytes) else b""


@pytest.mark.parametrize("cut", [1, 5, 6, 1000, -1])
def test_a_record_may_take_a_rest(tmp_path: Path, cut: int) -> None:
    tls = {"certificates": [write(tmp_path, "shop", "shop.example")]}
    listener = {"bind": "127.0.0.1:0", "tls": tls}
    config = {
        "listeners": {"web": listener, "clock": {**listener, "timeouts": {"idle": "900ms"}}},
        "routes": [{"respond": {"body": "whole"}}],
        "engine": {"workers": 1},
    }
    with penstock.Proxy(config) as proxy, Pieces(proxy.address("web")) as client:
        client.sock.sendall(client.seal(REQUEST))
        assert client.read().endswith(b"whole")
        record = client.seal(REQUEST)
        client.sock.sendall(record[:cut])
        with secure(proxy.address("clock")) as clock:
            ask(clock)
            # By then the other connection has given its buffers back.
            assert clock.recv(1) == b""
        client.sock.sendall(record[cut:])
        assert client.read().endswith(b"whole")
