"""A real WebSocket library on both sides, through the tunnel; on the configuration of examples/websocket_app.toml."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "websocket_app.toml"


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        if message == "leave":
            connection.close(4001, "as you wish")
            return
        connection.send(message)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A listener in front of an echo server."""
    with serve(_echo, "127.0.0.1", 0, compression="deflate", max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host, port = server.socket.getsockname()
        text = EXAMPLE.read_text(encoding="utf-8").replace('":8080"', '"127.0.0.1:0"')
        text = text.replace('"127.0.0.1:9000", "127.0.0.1:9001"', f'"{host}:{port}"')
        file = tmp_path_factory.mktemp("websocket") / EXAMPLE.name
        file.write_text(text, encoding="utf-8")
        with penstock.Proxy(file) as proxy:
            yield proxy.url("web").replace("http://", "ws://") + "/ws"
        server.shutdown()
        thread.join(5)


def test_messages_of_every_size(url: str) -> None:
    with connect(url, max_size=None) as client:
        for size in (0, 1, 125, 126, 65_535, 65_536, 1_000_000):
            for message in ("x" * size, b"\xff" * size):
                client.send(message)
                assert client.recv(timeout=5) == message


def test_many_messages_keep_their_order(url: str) -> None:
    with connect(url) as client:
        for number in range(500):
            client.send(str(number))
        assert [client.recv(timeout=5) for _ in range(500)] == [str(number) for number in range(500)]


def test_ping_and_close_codes_pass(url: str) -> None:
    with connect(url) as client:
        assert client.ping().wait(5)
        client.send("leave")
        with pytest.raises(ConnectionClosedError) as closed:
            client.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you wish")


def test_a_client_that_closes_first(url: str) -> None:
    with connect(url) as client:
        client.close(1000, "enough")
        with pytest.raises(ConnectionClosedOK):
            client.recv(timeout=5)


def test_what_is_no_websocket_path_is_no_tunnel(url: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(url.removesuffix("/ws") + "/other"):
        pass
    assert refused.value.response.status_code in (502, 503)  # nothing listens behind the pages of the example
