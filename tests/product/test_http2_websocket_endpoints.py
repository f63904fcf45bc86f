"""WebSockets to endpoints that speak HTTP/2 (RFC 8441): an upgrade in HTTP/1.1 and one on a stream are one to them."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from hyperframe.frame import SettingsFrame
from secured import SecuredOrigin
from tests.http2 import GET, Client, Endpoint, configuration, data, in_front_of, reset, room
from tests.wire.peers import Origin, TimedOutError, connect
from websocket_clients import KEY, UPGRADE, Either, OverHttp1, OverHttp2
from websocket_streams import Server, WebSocket
from websockets.sync.client import connect as websocket

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTS = {SettingsFrame.ENABLE_CONNECT_PROTOCOL: 1}
CANCEL = 8
OTHERS = [("GET", "Upgrade: other\r\n"), ("POST", ""), ("GET", "Content-Length: 2\r\n")]
BIG = 2_000_000


@pytest.fixture(params=[OverHttp1, OverHttp2])
def kind(request: pytest.FixtureRequest) -> Any:
    """A client of either version."""
    return request.param


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    with in_front_of(scripted) as running:
        yield running


@pytest.fixture
def client(kind: Any, proxy: penstock.Proxy) -> Iterator[Either]:
    with closing(kind(proxy.address())) as talking:
        yield talking


def switched(client: Either, origin: Origin) -> Endpoint:
    """The endpoint's connection, with a WebSocket on its first stream."""
    client.ask()
    endpoint = Endpoint(origin, settings=CONNECTS)
    endpoint.head()
    endpoint.send(endpoint.headers(1, ((":status", "200"),), ends=False))
    client.opened()
    return endpoint


def test_an_upgrade_is_an_extended_connect(client: Either, scripted: Origin) -> None:
    client.ask()
    endpoint = Endpoint(scripted, settings=CONNECTS)
    head = endpoint.head()
    expected = {
        ":method": "CONNECT",
        ":protocol": "websocket",
        ":scheme": "http",
        ":authority": "shop.example",
        ":path": "/chat?room=1",
        "sec-websocket-version": "13",
        "sec-websocket-protocol": "chat",
        "x-forwarded-for": "127.0.0.1",
    }
    assert {name: head.get(name) for name in expected} == expected
    assert not {"connection", "upgrade", "sec-websocket-key", "content-length", "host"} & head.keys()
    assert not endpoint.streams[1].ended
    fields = ((":status", "200"), ("sec-websocket-protocol", "chat"), ("x-answer", "yes"))
    endpoint.send(endpoint.headers(1, fields, ends=False), data(1, b"first", ends=False))
    status, told = client.head()
    assert status == (101 if isinstance(client, OverHttp1) else 200)
    assert (told["sec-websocket-protocol"], told["x-answer"]) == ("chat", "yes")
    client.hear(b"first")


def test_bytes_pass_both_ways_and_each_end_by_itself(client: Either, scripted: Origin) -> None:
    endpoint = switched(client, scripted)
    client.send(b"there")
    endpoint.read_until(lambda: endpoint.streams[1].body == b"there")
    endpoint.send(data(1, b"and back", ends=False))
    client.hear(b"and back")
    client.end()
    endpoint.read_until(lambda: endpoint.streams[1].ended)
    endpoint.send(data(1, b", still", ends=False))
    client.hear(b"and back, still")
    endpoint.send(data(1, b""))
    client.is_over()
    assert endpoint.streams[1].reset is None


def test_what_comes_before_the_switch_waits_for_it(client: Either, scripted: Origin) -> None:
    client.ask(early=b"early")
    endpoint = Endpoint(scripted, settings=CONNECTS)
    endpoint.head()
    with pytest.raises(TimedOutError):
        endpoint.read_until(lambda: endpoint.streams[1].body, 0.3)
    endpoint.send(endpoint.headers(1, ((":status", "200"),), ends=False))
    client.opened()
    endpoint.read_until(lambda: endpoint.streams[1].body == b"early")


@pytest.mark.parametrize("status", [302, 403, 503])
def test_an_answer_that_switches_nothing_is_the_clients(client: Either, scripted: Origin, status: int) -> None:
    client.ask()
    endpoint = Endpoint(scripted, settings=CONNECTS)
    endpoint.head()
    endpoint.answer(1, b"no", status=status)
    assert client.head()[0] == status
    client.hear_body(b"no")
    # The stream ended well on our side, too.
    seen = endpoint.request()
    assert (seen.ended, seen.reset, seen.body) == (True, None, b"")


def test_one_that_offers_none_gets_no_request(kind: Any, scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with in_front_of(scripted, log=str(log)) as proxy, closing(kind(proxy.address())) as client:
        client.ask()
        endpoint = Endpoint(scripted)
        assert client.head()[0] == 501
        with Client(proxy.address()) as other:
            other.send(other.headers(1))
            # What the endpoint is asked first is this.
            assert endpoint.head()[":method"] == "GET"
            endpoint.answer(1)
            assert other.outcome(1).status == 200
        assert proxy.stats().upstreams[0].endpoints[0].failures == 0
    first = json.loads(log.read_text("utf-8").splitlines()[0])
    assert (first["cause"], first["status"]) == ("upgrade_unsupported", 501)


def test_another_endpoint_that_offers_them_is_asked(kind: Any, scripted: Origin) -> None:
    with (
        closing(Origin()) as other,
        in_front_of(scripted, other, balance="first") as proxy,
        closing(kind(proxy.address())) as client,
    ):
        client.ask()
        Endpoint(scripted)
        second = Endpoint(other, settings=CONNECTS)
        assert second.head()[":protocol"] == "websocket"
        second.send(second.headers(1, ((":status", "200"),), ends=False))
        client.opened()


def test_looking_for_one_that_offers_them_is_no_retry_that_others_miss(kind: Any, scripted: Origin) -> None:
    with closing(Origin()) as other, in_front_of(scripted, other, balance="first") as proxy:
        for number in range(20):
            with closing(kind(proxy.address())) as client:
                client.ask()
                if not number:
                    Endpoint(scripted)
                    Endpoint(other)
                assert client.head()[0] == 501
        told = proxy.stats().upstreams[0]
        assert (told.retries, told.retries_refused) == (20, 0)


@pytest.mark.parametrize(("method", "lines"), OTHERS)
def test_an_upgrade_that_has_no_form_on_a_stream(
    scripted: Origin, proxy: penstock.Proxy, method: str, lines: str
) -> None:
    text = UPGRADE.decode().replace("GET", method)
    text = text.replace("Upgrade: websocket\r\n", lines) if "Upgrade" in lines else text[:-2] + lines + "\r\n"
    _refused(scripted, proxy, text.encode() + b"ab" * ("Length" in lines), 501)


@pytest.mark.parametrize("key", ["", "Sec-WebSocket-Key: short\r\n", f"Sec-WebSocket-Key: {KEY}\r\n" * 2])
def test_an_upgrade_without_its_key(scripted: Origin, proxy: penstock.Proxy, key: str) -> None:
    _refused(scripted, proxy, UPGRADE.replace(f"Sec-WebSocket-Key: {KEY}\r\n".encode(), key.encode()), 400)


def _refused(origin: Origin, proxy: penstock.Proxy, asked: bytes, status: int) -> None:
    client = connect(proxy.address())
    client.send(asked)
    endpoint = Endpoint(origin, settings=CONNECTS)
    client.read_until(lambda got: got.startswith(b"HTTP/1.1 %d " % status))
    client.close()
    assert not endpoint.streams[1].heads


def test_a_silent_one_ends_after_its_time(kind: Any, scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    config = configuration(scripted, log=str(log))
    config["listeners"]["web"]["timeouts"] = {"tunnel": "600ms"}
    with penstock.Proxy(config) as proxy, closing(kind(proxy.address())) as client:
        endpoint = switched(client, scripted)
        client.is_over()
        assert endpoint.request().reset == CANCEL
    record = json.loads(log.read_text("utf-8").splitlines()[0])
    assert record["cause"] == "tunnel_idle"


def test_whoever_vanishes_takes_its_stream_along_and_no_other(
    kind: Any, scripted: Origin, proxy: penstock.Proxy
) -> None:
    with closing(kind(proxy.address())) as client, Client(proxy.address()) as other:
        endpoint = switched(client, scripted)
        other.send(other.headers(1))
        endpoint.head(3)
        client.vanish()
        assert endpoint.request(1).reset == CANCEL
        endpoint.answer(3, b"alive")
        assert other.outcome(1).body == b"alive"
        assert proxy.stats().upstreams[0].endpoints[0].connects == 1


@pytest.mark.parametrize("whole", [False, True])
def test_an_endpoint_that_breaks_off_ends_it(client: Either, scripted: Origin, whole: bool) -> None:
    endpoint = switched(client, scripted)
    if whole:
        endpoint.close()
    else:
        endpoint.send(reset(1))
    client.is_over()


def test_an_endpoint_is_held_up_by_who_does_not_read(client: Either, scripted: Origin) -> None:
    endpoint = switched(client, scripted)
    sent = 0

    def is_held_up() -> bool:
        try:
            endpoint.read_until(lambda: endpoint.credit[1] + 131_072 >= sent + 16_000, 1.0)
        except TimedOutError:
            return True
        return False

    while not is_held_up():
        endpoint.send(data(1, bytes(16_000), ends=False))
        sent += 16_000
        assert sent < 64 * BIG
    client.hear(bytes(sent))
    endpoint.send(data(1, b"on", ends=False))
    client.hear(bytes(sent) + b"on")


def test_a_client_is_held_up_by_an_endpoint_that_does_not_read(client: Either, scripted: Origin) -> None:
    endpoint = switched(client, scripted)
    piece = bytes(16 * BIG)
    assert client.is_held_up(piece)
    assert len(endpoint.streams[1].body) <= 65_535
    endpoint.send(room(1, 1 << 26), room(0, 1 << 26))
    endpoint.read_until(lambda: len(endpoint.streams[1].body) > 100_000)


def test_a_drain_tells_the_client_to_go(kind: Any, scripted: Origin) -> None:
    with in_front_of(scripted) as proxy, closing(kind(proxy.address())) as client:
        endpoint = switched(client, scripted)
        endpoint.send(data(1, b"\x81\x02hi", ends=False))
        client.hear(b"\x81\x02hi")
        ending = threading.Thread(target=proxy.drain, args=(1.0,))
        ending.start()
        client.hear(b"\x81\x02hi\x88\x02\x03\xe9")
        client.send(b"\x88\x82\x00\x00\x00\x00\x03\xe9")
        endpoint.read_until(lambda: endpoint.streams[1].body.endswith(b"\x03\xe9"))
        client.end()
        assert endpoint.request().over
        ending.join(10)
        assert not ending.is_alive()


def _messages() -> list[bytes]:
    return [bytes([size % 251]) * size for size in (0, 1, 125, 126, 65_535, 65_536, 300_000)]


def test_real_clients_and_a_real_server() -> None:
    """Many at once, of both versions, share a connection to the endpoint."""
    with Server() as server, penstock.Proxy(configuration(server.address)) as proxy:
        with Client(proxy.address()) as client, ExitStack() as stack:
            streams = [WebSocket(client, 1 + 2 * number) for number in range(5)]
            url = proxy.url("web").replace("http://", "ws://") + "/chat"
            asked = [websocket(url, max_size=None, subprotocols=["chat"]) for _ in range(5)]  # type: ignore[list-item]
            sockets = [stack.enter_context(one) for one in asked]
            for message in _messages():
                for stream in streams[: 5 if len(message) < 1000 else 1]:
                    assert stream.exchange(message) == message
                for socket in sockets:
                    socket.send(message)
                for socket in sockets:
                    assert socket.recv(timeout=10) == message
            for socket in sockets:
                assert socket.ping().wait(5)
                socket.close(1000, "enough")
        assert len(server.connections) == 1
        assert len(server.asked) == 10


def _speaking(leaf: dict[str, Any], *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"], leaf["key"])
    context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_over_tls(ca: str, leaf: dict[str, Any], protocol: str) -> None:
    tls = {"ca": ca, "name": "app.internal"}
    with Server(_speaking(leaf, "h2", "http/1.1")) as server:
        with in_front_of(server.address, protocol=protocol, tls=tls) as proxy, Client(proxy.address()) as client:
            assert WebSocket(client, 1).exchange(b"over TLS") == b"over TLS"
            with websocket(proxy.url("web").replace("http", "ws"), subprotocols=["chat"]) as socket:  # type: ignore[list-item]
                socket.send(b"as well")
                assert socket.recv(timeout=10) == b"as well"
        assert [head[b":scheme"] for head in server.asked] == [b"https"] * 2


def test_where_either_version_will_do_one_without_them_is_asked_in_http_1(
    kind: Any, ca: str, leaf: dict[str, Any]
) -> None:
    """HTTP/2 has no WebSockets there; HTTP/1.1 has."""
    heads: list[bytes] = []

    def talk(sock: ssl.SSLSocket) -> None:
        if sock.selected_alpn_protocol() == "h2":
            sock.sendall(SettingsFrame(0).serialize())
            while sock.recv(65_536):
                pass
            return
        heads.append(SecuredOrigin.read_head(sock))
        sock.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    tls = {"ca": ca, "name": "app.internal"}
    with (
        SecuredOrigin(leaf, talk=talk) as origin,
        in_front_of(origin.address, protocol="auto", tls=tls) as proxy,
        closing(kind(proxy.address())) as client,
    ):
        client.ask()
        assert client.head()[0] == 403
    assert heads[0].startswith(b"GET /chat?room=1 HTTP/1.1\r\n")
    assert b"upgrade: websocket\r\n" in heads[0]


def test_one_that_speaks_nothing_but_http_2_is_not_blamed(leaf: dict[str, Any], ca: str, tmp_path: Path) -> None:
    """It refuses the handshake of a request that would upgrade to what HTTP/2 does not have."""
    behind = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": {"certificates": [leaf], "alpn": ["h2"]}}},
        "routes": [{"respond": {"body": "ok"}}],
    }
    log = tmp_path / "access.log"
    tls = {"ca": ca, "name": "app.internal"}
    with penstock.Proxy(behind) as endpoint:
        address = "{}:{}".format(*endpoint.address())
        with in_front_of(address, log=str(log), protocol="auto", tls=tls) as proxy:
            client = connect(proxy.address())
            client.send(UPGRADE.replace(b"Upgrade: websocket", b"Upgrade: other"))
            client.read_until(lambda got: got.startswith(b"HTTP/1.1 501 "))
            client.close()
            with Client(proxy.address()) as other:
                assert other.ask(1, GET).body == b"ok"
            assert proxy.stats().upstreams[0].endpoints[0].failures == 0
    assert json.loads(log.read_text("utf-8").splitlines()[0])["cause"] == "upgrade_unsupported"
