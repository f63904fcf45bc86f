"""Frames of HTTP/2 that break the protocol (safety.md 93, 103, 104)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http2 import PREFACE, WHERE, Client, data, reset, serving
from tests.product.waiting import wait_for
from tests.wire.peers import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    import penstock

OWN = ((":method", "GET"), *WHERE, (":path", "/own"))
COMPRESSION_ERROR = 9


@pytest.fixture(scope="module")
def proxy() -> Iterator[penstock.Proxy]:
    with serving() as running:
        yield running


def block(*octets: int | bytes) -> Any:
    """A head of a whole request, and these octets behind it as they are."""
    raw = b"".join(bytes([octet]) if isinstance(octet, int) else octet for octet in octets)
    return lambda client: [HeadersFrame(1, client.pack(OWN) + raw, flags=["END_HEADERS", "END_STREAM"])]


@pytest.mark.safety(93)
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(block(0x80), id="index 0"),
        pytest.param(block(0xFE), id="an index beyond the table"),
        pytest.param(block(0x7F, 0xFF, 0xFF, 0xFF, 0x0F, 0x01, b"x"), id="a name from beyond the table"),
        pytest.param(block(0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0F), id="a number beyond 2^35"),
        pytest.param(block(0x40, 0x01, b"x", 0x82, 0xFF, 0xFF), id="padding of more than 7 bits"),
        pytest.param(block(0x40, 0x01, b"x", 0x84, 0xFF, 0xFF, 0xFF, 0xFF), id="the end symbol in a text"),
        pytest.param(block(0x40, 0x01, b"x", 0x7F), id="a text that is cut"),
        pytest.param(
            lambda client: [HeadersFrame(1, b"\x3f\xe2\x1f" + client.pack(OWN), flags=["END_HEADERS", "END_STREAM"])],
            id="a table larger than allowed",
        ),
    ],
)
def test_hpack_that_breaks_its_grammar(proxy: penstock.Proxy, sent: Any) -> None:
    with Client(proxy.address()) as client, Client(proxy.address()) as sentinel:
        client.send(*sent(client))
        assert client.end() == COMPRESSION_ERROR
        assert client.streams[1].heads == []
        assert sentinel.ask(1, OWN).body == b"own"
    assert proxy.stats().panics == 0


@pytest.mark.safety(103)
@pytest.mark.parametrize(
    ("reasons", "sent"),
    [
        pytest.param((1,), lambda client: [client.headers(2, OWN)], id="an even stream"),
        pytest.param(
            (1, 5), lambda client: [client.headers(5, OWN), client.headers(3, OWN)], id="a stream that decreases"
        ),
        pytest.param((1,), lambda _: [data(1, b"x")], id="a body of an idle stream"),
        pytest.param((1,), lambda _: [reset(1)], id="a reset of an idle stream"),
        pytest.param((1,), lambda _: [WindowUpdateFrame(1, window_increment=1)], id="a window of an idle stream"),
        pytest.param((1,), lambda _: [ContinuationFrame(1, b"", flags=["END_HEADERS"])], id="more of no head"),
        pytest.param(
            (1,),
            lambda client: [client.headers(1, OWN, more=True), PingFrame(0, bytes(8))],
            id="something else within a head",
        ),
        pytest.param((3,), lambda _: [WindowUpdateFrame(0, window_increment=2**31 - 1)], id="a window beyond 2^31"),
    ],
)
def test_streams_out_of_order(proxy: penstock.Proxy, reasons: tuple[int, ...], sent: Any) -> None:
    with Client(proxy.address()) as client, Client(proxy.address()) as sentinel:
        client.send(*sent(client))
        assert client.end() in reasons
        assert sentinel.ask(1, OWN).body == b"own"


def raw(length: int, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


@pytest.mark.safety(103)
@pytest.mark.parametrize(
    ("reasons", "sent"),
    [
        pytest.param((6,), raw(16_385, 0, 0, 1, bytes(16_385)), id="DATA beyond the limit"),
        pytest.param((6,), raw(2**24 - 1, 9, 0, 1, b""), id="CONTINUATION of 16 MB"),
        pytest.param((1, 6), raw(5, 4, 0, 0, bytes(5)), id="SETTINGS of 5 bytes"),
        pytest.param((1, 6), raw(7, 6, 0, 0, bytes(7)), id="PING of 7 bytes"),
        pytest.param((1, 6), raw(3, 8, 0, 0, bytes(3)), id="WINDOW_UPDATE of 3 bytes"),
        pytest.param((1, 6), raw(3, 3, 0, 1, bytes(3)), id="RST_STREAM of 3 bytes"),
        pytest.param((1, 6), raw(6, 4, 1, 0, bytes(6)), id="an acknowledgement with content"),
        pytest.param((1, 6), raw(6, 4, 0, 1, bytes(6)), id="SETTINGS on a stream"),
        pytest.param((1,), raw(8, 6, 0, 1, bytes(8)), id="PING on a stream"),
        pytest.param((1,), raw(1, 1, 5, 0, b"\x82"), id="a head on no stream"),
        pytest.param((1,), raw(2, 0, 8, 0, b"\x05x"), id="padding longer than the frame"),
        pytest.param((1, 3), raw(6, 4, 0, 0, b"\0\x04\x80\0\0\0"), id="an initial window beyond 2^31"),
        pytest.param((1,), raw(6, 4, 0, 0, b"\0\x05\0\0\0\x01"), id="frames smaller than the least"),
    ],
)
def test_frames_of_the_wrong_size(proxy: penstock.Proxy, reasons: tuple[int, ...], sent: bytes) -> None:
    with Client(proxy.address()) as client, Client(proxy.address()) as sentinel:
        client.send_raw(sent)
        assert client.end() in reasons
        assert sentinel.ask(1, OWN).body == b"own"


@pytest.mark.safety(103)
def test_what_is_no_preface_is_no_connection(proxy: penstock.Proxy) -> None:
    with Client(proxy.address(), begin=False) as client:
        client.send_raw(PREFACE[:-2] + b"xx" + SettingsFrame(0).serialize())
        client.read_until(lambda: client.closed)


@pytest.mark.safety(104)
def test_a_body_behind_a_reset_is_passed_over() -> None:
    origin = Origin()
    with serving(origin) as proxy, Client(proxy.address()) as client:
        post = ((":method", "POST"), *WHERE, (":path", "/"))
        for number in range(1, 101, 2):
            client.send(client.headers(number, post, ends=False), reset(number), DataFrame(number, b"x" * 100))
        assert client.ask(101, OWN).body == b"own"
        client.send(client.headers(103, post, ends=False))
        origin.connection(1)
        client.send(RstStreamFrame(103, error_code=8), data(103, b"late"))
        assert client.ask(105, OWN).body == b"own"
        # Streams that were given up before they were looked at cost the endpoint nothing.
        assert len(origin.accept_all()) == 1
        wait_for(lambda: proxy.stats().rejected["client_closed"] == 51, "all are counted")
        assert proxy.stats().panics == 0
    origin.close()
