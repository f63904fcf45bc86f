"""Clients that ask for a WebSocket, in either version of HTTP, and play by hand what is on it."""

from __future__ import annotations

from typing import Any

from tests.http2 import Client, data, reset, room
from tests.wire.peers import TimedOutError, connect
from websocket_streams import ASK

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE = (
    f"GET /chat?room=1 HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
).encode()


class OverHttp1:
    """A client that upgrades its connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = connect(address)

    def ask(self, early: bytes = b"") -> None:
        self._connection.send(UPGRADE + early)

    def head(self) -> tuple[int, dict[str, str]]:
        """Status and fields of the answer."""
        received = self._connection.received
        self._connection.read_until(lambda got: b"\r\n\r\n" in got)
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        received[:] = rest
        first, *lines = head.decode().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value for name, value in fields.items()}

    def opened(self) -> None:
        status, fields = self.head()
        assert status == 101
        assert fields["sec-websocket-accept"].encode() == ACCEPT
        assert (fields["connection"], fields["upgrade"], fields["via"]) == ("upgrade", "websocket", "2.0 penstock")
        assert not {"content-length", "transfer-encoding"} & fields.keys()

    def send(self, piece: bytes) -> None:
        self._connection.send(piece)

    def hear(self, expected: bytes) -> None:
        self._connection.read_until(lambda got: got == expected)
        assert self._connection.received == expected

    def hear_body(self, expected: bytes) -> None:
        self._connection.read_until(lambda got: expected in got)

    def end(self) -> None:
        self._connection.half_close()

    def is_over(self) -> None:
        self._connection.read_until(lambda _: False)

    def vanish(self) -> None:
        self._connection.reset()

    def is_held_up(self, piece: bytes) -> bool:
        """Whether of a large piece some cannot be sent."""
        sock = self._connection.sock
        sock.settimeout(1.0)
        try:
            sock.sendall(piece)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._connection.close()


class OverHttp2:
    """A client that has a stream for it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._client = Client(address)

    @property
    def _stream(self) -> Any:
        return self._client.streams[1]

    def ask(self, early: bytes = b"") -> None:
        self._client.send(self._client.headers(1, ASK, ends=False))
        if early:
            self._client.send(data(1, early, ends=False))

    def head(self) -> tuple[int, dict[str, str]]:
        self._client.read_until(lambda: self._stream.heads)
        return self._stream.status, self._stream.heads[0]

    def opened(self) -> None:
        status, fields = self.head()
        assert (status, fields["via"]) == (200, "2.0 penstock")
        assert not {"connection", "upgrade", "sec-websocket-accept", "content-length"} & fields.keys()
        assert not self._stream.over

    def send(self, piece: bytes) -> None:
        self._client.send(data(1, piece, ends=False))

    def hear(self, expected: bytes) -> None:
        while len(self._stream.body) < len(expected):
            before = len(self._stream.body)
            self._client.read_until(lambda before=before: len(self._stream.body) > before)  # type: ignore[misc]
            more = len(self._stream.body) - before
            self._client.send(room(0, more), room(1, more))
        assert self._stream.body == expected

    def hear_body(self, expected: bytes) -> None:
        assert self._client.outcome(1).body == expected

    def end(self) -> None:
        self._client.send(data(1, b""))

    def is_over(self) -> None:
        self._client.outcome(1)

    def vanish(self) -> None:
        self._client.send(reset(1))

    def is_held_up(self, piece: bytes) -> bool:
        """Whether the window is not opened for all of a large piece."""
        sent, client = 0, self._client
        try:
            while sent < len(piece):
                client.read_until(lambda sent=sent: client.credit[1] + client.window >= sent + 16_000, 1.0)  # type: ignore[misc]
                self.send(piece[sent : sent + 16_000])
                sent += 16_000
        except TimedOutError:
            return True
        return False

    def close(self) -> None:
        self._client.close()


Either = OverHttp1 | OverHttp2
