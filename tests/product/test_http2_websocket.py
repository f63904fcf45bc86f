"""WebSockets on a stream of HTTP/2 (RFC 8441): to the endpoint each is the upgrade that it is in HTTP/1.1."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hyperframe.frame import DataFrame, SettingsFrame
from tests.http2 import WHERE, Client, data, reset, room, serving
from tests.wire.peers import Connection, Origin
from websocket_streams import ASK, WebSocket, echo
from websockets.sync.server import serve

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = ((":method", "GET"), *WHERE, (":path", "/own"))
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s\r\n"
ACCEPT = b"Sec-WebSocket-Accept: %s\r\n"


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    with serving(scripted) as running:
        yield running


@pytest.fixture
def client(proxy: penstock.Proxy) -> Iterator[Client]:
    with Client(proxy.address()) as talking:
        yield talking


def begin(
    client: Client, origin: Origin, stream: int = 1, fields: Any = ASK, early: bytes = b""
) -> tuple[Connection, str, bytes]:
    """Ask; the connection on which the endpoint hears of it, what it hears, and the right answer to the key."""
    client.send(client.headers(stream, fields, ends=False), *([data(stream, early, ends=False)] if early else []))
    behind = origin.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    head = bytes(behind.received)
    behind.received.clear()
    key = re.search(rb"sec-websocket-key: (\S+)\r\n", head)
    assert key, head
    assert len(base64.b64decode(key[1], validate=True)) == 16
    return behind, head.decode(), ACCEPT % base64.b64encode(hashlib.sha1(key[1] + GUID).digest())


def switched(client: Client, origin: Origin, stream: int = 1) -> Connection:
    """The endpoint's end of an open WebSocket."""
    behind, _, accept = begin(client, origin, stream)
    behind.send(SWITCH % accept)
    client.read_until(lambda: client.streams[stream].heads)
    return behind


def test_it_is_offered_and_reaches_the_endpoint_as_an_upgrade(client: Client, scripted: Origin) -> None:
    behind, head, accept = begin(client, scripted, fields=(*ASK, ("sec-websocket-key", "mine"), ("x-token", "t")))
    lines = head.lower().split("\r\n")
    assert lines[0] == "get /chat?room=1 http/1.1"
    for line in ("connection: upgrade", "upgrade: websocket", "host: shop.example", "sec-websocket-version: 13"):
        assert lines.count(line) == 1, head
    assert "sec-websocket-protocol: chat" in lines
    assert "x-token: t" in lines
    assert "mine" not in head
    assert sum(line.startswith("sec-websocket-key:") for line in lines) == 1
    behind.send(SWITCH % (accept + b"Sec-WebSocket-Protocol: chat\r\n"))
    client.read_until(lambda: client.streams[1].heads)
    assert client.settings[SettingsFrame.ENABLE_CONNECT_PROTOCOL] == 1
    told = client.streams[1].heads[0]
    assert told[":status"] == "200"
    assert told["sec-websocket-protocol"] == "chat"
    assert not {"connection", "upgrade", "sec-websocket-accept", "content-length"} & told.keys()
    assert not client.streams[1].over


def test_bytes_pass_both_ways_and_each_end_by_itself(client: Client, scripted: Origin) -> None:
    behind = switched(client, scripted)
    client.send(data(1, b"there", ends=False))
    behind.read_until(lambda got: got == b"there")
    behind.send(b"and back")
    client.read_until(lambda: client.streams[1].body == b"and back")
    client.send(data(1, b", done"))
    behind.read_until(lambda got: got == b"there, done")
    behind.read_until(lambda _: behind.ended)
    behind.send(b", still")
    client.read_until(lambda: client.streams[1].body == b"and back, still")
    behind.close()
    assert client.outcome(1).ended


def test_what_comes_before_the_switch_waits_for_it(client: Client, scripted: Origin) -> None:
    behind, head, accept = begin(client, scripted, early=b"early")
    assert "content-length" not in head.lower()
    assert "transfer-encoding" not in head.lower()
    # A whole exchange later nothing of it is there.
    assert client.ask(3, OWN).body == b"own"
    assert behind.read_what_is_there() == b""
    behind.send(SWITCH % accept)
    behind.read_until(lambda got: got == b"early")


@pytest.mark.parametrize("accept", [b"", ACCEPT % b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="])
def test_an_endpoint_that_did_not_understand_is_not_believed(client: Client, scripted: Origin, accept: bytes) -> None:
    behind, _, _ = begin(client, scripted)
    behind.send(SWITCH % accept)
    seen = client.outcome(1)
    assert (seen.status, seen.ended) == (502, True)
    assert client.ask(3, OWN).body == b"own"


@pytest.mark.parametrize(("status", "told"), [(200, 502), (204, 502), (403, 403), (302, 302), (503, 503)])
def test_an_answer_that_switches_nothing(client: Client, scripted: Origin, status: int, told: int) -> None:
    behind, _, _ = begin(client, scripted)
    behind.send(b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n" % (status, 0 if status == 204 else 2))
    behind.send(b"" if status == 204 else b"no")
    seen = client.outcome(1)
    assert seen.status == told
    assert seen.body == b"no" or told == 502


def test_our_own_answers_open_no_websocket(client: Client) -> None:
    seen = client.ask(1, (*ASK[:-3], (":path", "/own")))
    assert seen.status == 502
    assert b"own" not in seen.body


def test_other_protocols_are_not_known(client: Client) -> None:
    fields = tuple((name, "connect-udp" if name == ":protocol" else value) for name, value in ASK)
    client.send(client.headers(1, fields, ends=False))
    assert client.outcome(1).status == 501
    client.send(client.headers(3, (*ASK, ("content-length", "0")), ends=False))
    assert client.outcome(3).reset == 1


def test_whoever_breaks_off_takes_the_other_side_along(client: Client, scripted: Origin) -> None:
    behind = switched(client, scripted)
    other = switched(client, scripted, 3)
    client.send(reset(1))
    behind.read_until(lambda _: behind.ended)
    other.send(b"alive")
    client.read_until(lambda: client.streams[3].body == b"alive")
    other.reset()
    seen = client.outcome(3)
    assert seen.over
    assert client.ask(5, OWN).body == b"own"


def test_a_client_that_does_not_read_holds_the_endpoint_up(client: Client, scripted: Origin) -> None:
    behind = switched(client, scripted)
    sent = threading.Thread(target=behind.send, args=(b"x" * 3_000_000,), daemon=True)
    sent.start()
    client.read_until(lambda: len(client.streams[1].body) == 65_535)
    while len(client.streams[1].body) < 3_000_000:
        client.send(room(0, 65_535), room(1, 65_535))
        before = len(client.streams[1].body)
        client.read_until(lambda before=before: len(client.streams[1].body) > before)  # type: ignore[misc]
    sent.join(5)
    assert client.streams[1].body == b"x" * 3_000_000


def test_a_drain_tells_the_websocket_to_go(scripted: Origin) -> None:
    with serving(scripted) as running, Client(running.address()) as client:
        behind = switched(client, scripted)
        behind.send(b"\x81\x02hi")
        client.read_until(lambda: client.streams[1].body == b"\x81\x02hi")
        ending = threading.Thread(target=running.drain, args=(1.0,))
        ending.start()
        client.read_until(lambda: client.streams[1].body.endswith(b"\x88\x02\x03\xe9"))
        client.send(data(1, b"\x88\x82\x00\x00\x00\x00\x03\xe9"))
        behind.read_until(lambda got: got.endswith(b"\x03\xe9"))
        behind.close()
        ending.join(10)
        assert not ending.is_alive()


def test_many_on_one_connection_with_a_real_server() -> None:
    with serve(echo, "127.0.0.1", 0, compression=None, max_size=None, subprotocols=["chat"]) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0", "h2c": True}},
            "upstreams": {"app": {"endpoints": ["{}:{}".format(*server.socket.getsockname())]}},
            "routes": [{"match": 'path == "/chat" and header["upgrade"] == "websocket"', "upstream": "app"}],
        }
        with penstock.Proxy(config) as running, Client(running.address()) as client:
            sockets = [WebSocket(client, 1 + 2 * number) for number in range(20)]
            for size in (0, 1, 125, 126, 65_535, 65_536, 300_000):
                for number, socket in enumerate(sockets[: 20 if size < 1000 else 3]):
                    message = bytes([number]) * size
                    assert socket.exchange(message) == message
        server.shutdown()
        thread.join(5)


def test_frames_of_it_are_no_flood() -> None:
    """Thousands of small frames are what a WebSocket is made of."""
    origin = Origin()
    with serving(origin) as running, Client(running.address()) as client:
        behind = switched(client, origin)
        frame = b"\x82\x80\x00\x00\x00\x00"
        for _ in range(50):
            client.send(*(DataFrame(1, frame) for _ in range(100)))
        behind.read_until(lambda got: len(got) == 5000 * len(frame))
        assert not client.goaways
    origin.close()
