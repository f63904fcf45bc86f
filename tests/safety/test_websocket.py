"""WebSocket through the tunnel: whatever is legal in RFC 6455 arrives byte for byte, and so do pings and close codes.

The groups are those of the Autobahn suite: 1 messages, 2 pings, 4 and 5 frames and fragments, 7 closing, 9 large
messages, 10 pieces.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

import penstock
from tests.wire.peers import Origin
from tests.wire.tunnels import open_tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZES = (0, 1, 125, 126, 127, 128, 65_535, 65_536, 1_000_000)
CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        if isinstance(message, str) and message.startswith("leave "):
            connection.close(int(message.split(" ")[1]), "as you wish")
            return
        connection.send(message)


def _proxy(endpoint: str) -> penstock.Proxy:
    return penstock.Proxy(
        {
            "listeners": {"web": {"bind": "127.0.0.1:0"}},
            "upstreams": {"app": {"endpoints": [endpoint]}},
            "routes": [{"upstream": "app"}],
            "engine": {"workers": 1},
        }
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An echo server behind Penstock."""
    with serve(_echo, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host, port = server.socket.getsockname()
        with _proxy(f"{host}:{port}") as proxy:
            yield proxy.url("web").replace("http://", "ws://") + "/ws"
        server.shutdown()
        thread.join(5)


@pytest.fixture
def client(url: str) -> Iterator[ClientConnection]:
    """A connection of a real client."""
    with connect(url, max_size=None) as connection:
        yield connection


@pytest.mark.safety(80)
@pytest.mark.parametrize("size", SIZES)
def test_messages(client: ClientConnection, size: int) -> None:
    for message in ("\u00e4" * (size // 2) + "x" * (size % 2), bytes(n % 256 for n in range(size))):
        client.send(message)
        assert client.recv(timeout=5) == message


@pytest.mark.safety(80)
@pytest.mark.parametrize("count", [1, 2, 7, 100])
@pytest.mark.parametrize("piece", ["", "x", "y" * 1000])
def test_fragments(client: ClientConnection, count: int, piece: str) -> None:
    client.send([piece] * count)
    assert client.recv(timeout=5) == piece * count


@pytest.mark.safety(80)
@pytest.mark.parametrize("size", [0, 1, 125])
def test_pings(client: ClientConnection, size: int) -> None:
    for number in range(10):
        assert client.ping(bytes([number]) * size).wait(5)


@pytest.mark.safety(80)
@pytest.mark.parametrize("code", CODES)
def test_close_codes_of_either_side(url: str, code: int) -> None:
    with connect(url) as client:
        client.send(f"leave {code}")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, "as you wish")
    with connect(url) as client:
        client.close(code, "enough")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


@pytest.mark.safety(80)
@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x85\x01\x02\x03\x04ignoe",
        b"\x01\x80\x00\x00\x00\x00\x89\x80\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00",  # a ping between two fragments
        b"\xf1\x80\x00\x00\x00\x00",  # reserved bits: for the endpoints to judge
        b"\x83\x80\x00\x00\x00\x00",  # a reserved opcode
        b"\x88\x82\x00\x00\x00\x00\x03\xe7",  # a close code that is none
        b"\x81\x83\x00\x00\x00\x00\xff\xfe\xfd",  # no UTF-8
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff",  # a length beyond all bounds
        bytes(range(256)) * 300,
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_bytes_pass_as_they_are_in_pieces_of_any_size(frames: bytes, piece: int) -> None:
    origin = Origin()
    with _proxy(origin.address) as proxy:
        client, there = open_tunnel(proxy.address("web"), origin, b"websocket")
        for sender, receiver in ((client, there), (there, client)):
            size = piece if len(frames) < 1000 else max(piece, 500)
            sender.send(*(frames[at : at + size] for at in range(0, len(frames), size)))
            receiver.read_until(lambda received: len(received) >= len(frames))
            assert bytes(receiver.received) == frames
        client.close()
        there.read_until(lambda _: False)
        assert there.ended
    origin.close()


@pytest.mark.safety(80)
def test_an_idle_tunnel_ends_by_its_timeout_unless_it_is_pinged() -> None:
    with serve(_echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = "{}:{}".format(*server.socket.getsockname())
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0", "timeouts": {"tunnel": "600ms"}}},
            "upstreams": {"app": {"endpoints": [address]}},
            "routes": [{"upstream": "app"}],
        }
        with penstock.Proxy(config) as proxy:
            target = proxy.url("web").replace("http://", "ws://") + "/ws"
            with connect(target, ping_interval=0.1) as alive, connect(target, ping_interval=None) as idle:
                with pytest.raises(ConnectionClosed):
                    idle.recv(timeout=5)
                alive.send("still there")
                assert alive.recv(timeout=5) == "still there"
        server.shutdown()
        thread.join(5)
