"""What endpoints may say in HTTP/2: cases 82 to 85 in frames, and floods that cost us more than them.

An endpoint that breaks the rules fails what it was asked, is told so, and is asked anew: nothing of what it said wrong
reaches a client.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http2 import GET, Client, Endpoint, Stream, data, in_front_of, reset
from tests.product.waiting import wait_for
from tests.safety.base_line import resident
from tests.wire.peers import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import penstock

OK = ((":status", "200"),)
MEBIBYTE = 1 << 20
HEAD = ((":method", "HEAD"), *GET[1:])


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    with in_front_of(scripted, retry=False, outlier=False) as running:
        yield running


def said(origin: Origin, proxy: penstock.Proxy, say: Callable[[Endpoint], None], fields: Any = GET) -> Stream:
    """What a client gets of what an endpoint says; a second request is served, whatever becomes of the connection."""
    with Client(proxy.address()) as client:
        client.send(client.headers(1, fields))
        endpoint = Endpoint(origin)
        endpoint.request(1)
        say(endpoint)
        seen = client.outcome(1)
        client.send(client.headers(3))
        endpoint.read_until(lambda: endpoint.closed or endpoint.streams[3].over)
        stream = 1 if endpoint.closed else 3
        if endpoint.closed:
            endpoint = Endpoint(origin, 2)
            endpoint.request(1)
        endpoint.answer(stream, b"whole")
        assert client.outcome(3).body == b"whole"
    return seen


HEADS: dict[str, Any] = {
    "connection": (*OK, ("connection", "close")),
    "transfer-encoding": (*OK, ("transfer-encoding", "chunked")),
    "upgrade": (*OK, ("upgrade", "websocket")),
    "keep-alive": (*OK, ("keep-alive", "timeout=5")),
    "proxy-connection": (*OK, ("proxy-connection", "x")),
    "line ends in a value": (*OK, ("x", "a\r\nset-cookie: b")),
    "NUL in a value": (*OK, ("x", "a\0b")),
    "spaces around a value": (*OK, ("x", " a")),
    "capitals": (*OK, ("X-Up", "a")),
    "a space in a name": (*OK, ("x y", "a")),
    "no name": (*OK, ("", "a")),
    "no status": (("x", "a"),),
    "two statuses": (*OK, *OK),
    "a status that is none": ((":status", "2x0"),),
    "a status of two digits": ((":status", "99"),),
    "a switch": ((":status", "101"),),
    "an unknown pseudo-field": (*OK, (":x", "y")),
    "a late pseudo-field": (("x", "y"), *OK),
    "two lengths": (*OK, ("content-length", "5"), ("content-length", "6")),
    "a length that is none": (*OK, ("content-length", "+5")),
    "many fields": (*OK, *(("x", "y") for _ in range(201))),
    "a large head": (*OK, ("x", "y" * 70_000)),
}


@pytest.mark.safety(82, 84)
@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_breaks_the_rules(scripted: Origin, proxy: penstock.Proxy, name: str) -> None:
    def say(endpoint: Endpoint) -> None:
        block = endpoint.pack(HEADS[name])
        first, rest = block[:16_000], [block[at : at + 16_000] for at in range(16_000, len(block), 16_000)]
        endpoint.send(HeadersFrame(1, first, flags=[] if rest else ["END_HEADERS"]))
        for number, piece in enumerate(rest, start=1):
            endpoint.send(ContinuationFrame(1, piece, flags=["END_HEADERS"] if number == len(rest) else []))
        if not endpoint.closed:
            endpoint.send(data(1, b"hello"))

    seen = said(scripted, proxy, say)
    assert seen.status == 502
    assert b"hello" not in seen.body
    assert not {"x", "set-cookie"} & set(seen.heads[0])


BODIES: dict[str, Any] = {
    "more than its length": ("5", (b"hello!",), None),
    "less than its length": ("5", (b"hell",), None),
    "a length and no body": ("5", (), None),
    "capitals in trailers": (None, (b"hello",), (("X", "y"),)),
}


@pytest.mark.safety(81, 85)
@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_not_what_was_said(scripted: Origin, proxy: penstock.Proxy, name: str) -> None:
    length, pieces, trailers = BODIES[name]

    def say(endpoint: Endpoint) -> None:
        fields = (("content-length", length),) if length else ()
        endpoint.answer(1, *pieces, fields=fields, trailers=trailers or ())

    seen = said(scripted, proxy, say)
    assert seen.reset is not None or seen.status == 502
    assert not seen.ended or seen.status == 502


def test_pseudo_fields_out_of_place_do_not_pass(scripted: Origin, proxy: penstock.Proxy) -> None:
    """The library drops them unsaid; what matters is that they become nothing else."""

    def say(endpoint: Endpoint) -> None:
        endpoint.answer(1, b"hello", fields=(), trailers=((":status", "500"), ("x", "y")))

    seen = said(scripted, proxy, say)
    assert (seen.heads[0][":status"], seen.heads[1:]) == ("200", [{"x": "y"}])


@pytest.mark.safety(85)
@pytest.mark.parametrize(("fields", "status"), [(HEAD, 200), (GET, 204), (GET, 304)])
def test_a_body_where_none_may_be(scripted: Origin, proxy: penstock.Proxy, fields: Any, status: int) -> None:
    seen = said(scripted, proxy, lambda endpoint: endpoint.answer(1, b"hello", status=status), fields)
    assert (seen.status, seen.body) in {(status, b""), (502, seen.body)}
    assert b"hello" not in seen.body


@pytest.mark.safety(83)
def test_endless_interim_answers(scripted: Origin, proxy: penstock.Proxy) -> None:
    def say(endpoint: Endpoint) -> None:
        for _ in range(100):
            endpoint.send(endpoint.headers(1, ((":status", "103"), ("link", "</a>")), ends=False))

    assert said(scripted, proxy, say).status == 502


class Unknown:
    """A frame of a type that nobody has defined."""

    def serialize(self) -> bytes:
        """Its octets."""
        return b"\0\0\x01\x77\0\0\0\0\0x"


def pushed(endpoint: Endpoint) -> PushPromiseFrame:
    """A promise that nobody has asked for."""
    return PushPromiseFrame(1, 2, endpoint.pack(GET), flags=["END_HEADERS"])


FLOODS: dict[str, Callable[[Endpoint], Any]] = {
    "PING": lambda _: PingFrame(0, b"12345678"),
    "SETTINGS": lambda _: SettingsFrame(0),
    "PRIORITY": lambda _: PriorityFrame(1, depends_on=0, stream_weight=1),
    "empty DATA": lambda _: data(1, b"", ends=False),
    "unknown": lambda _: Unknown(),
    "heads": lambda endpoint: endpoint.headers(1, ((":status", "103"),), ends=False),
}


@pytest.mark.safety(94)
@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_small_frames(scripted: Origin, proxy: penstock.Proxy, name: str) -> None:
    before = resident()

    def say(endpoint: Endpoint) -> None:
        endpoint.quiet = True
        if name == "empty DATA":
            endpoint.send(endpoint.headers(1, OK, ends=False))
        for _ in range(30):
            endpoint.send(*(FLOODS[name](endpoint) for _ in range(100)))
        endpoint.read_until(lambda: endpoint.closed)

    seen = said(scripted, proxy, say)
    assert seen.status == 502 or seen.reset is not None
    assert resident() - before < 8 * MEBIBYTE


@pytest.mark.safety(88)
def test_resets_of_what_is_over(scripted: Origin, proxy: penstock.Proxy) -> None:
    def say(endpoint: Endpoint) -> None:
        endpoint.quiet = True
        endpoint.answer(1, b"ok")
        for _ in range(30):
            endpoint.send(*(reset(1) for _ in range(100)))
        endpoint.read_until(lambda: endpoint.closed)

    assert said(scripted, proxy, say).status in (200, 502)


@pytest.mark.safety(90)
def test_a_head_that_never_ends(scripted: Origin, proxy: penstock.Proxy) -> None:
    def say(endpoint: Endpoint) -> None:
        endpoint.send(HeadersFrame(1, endpoint.pack(OK), flags=[]))
        endpoint.send(*(ContinuationFrame(1, b"") for _ in range(100)))
        endpoint.read_until(lambda: endpoint.closed)

    assert said(scripted, proxy, say).status == 502


BROKEN: dict[str, Callable[[Endpoint], Any]] = {
    "a push": pushed,
    "DATA on a stream that nobody opened": lambda _: data(7, b"x"),
    "a head on a stream of its own": lambda endpoint: endpoint.headers(2, OK),
    "a window of nothing": lambda _: WindowUpdateFrame(0, window_increment=0),
    "a window too large": lambda _: WindowUpdateFrame(0, window_increment=(1 << 31) - 1),
    "a PING of three bytes": lambda _: Raw(b"\0\0\x03\x06\0\0\0\0\0abc"),
    "HPACK that is none": lambda _: Raw(b"\0\0\x01\x01\x04\0\0\0\x01\xff"),
}


class Raw:
    """Octets that no library would write."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def serialize(self) -> bytes:
        """As they are."""
        return self._octets


@pytest.mark.safety(103)
@pytest.mark.parametrize("name", BROKEN)
def test_frames_that_break_the_protocol(scripted: Origin, proxy: penstock.Proxy, name: str) -> None:
    def say(endpoint: Endpoint) -> None:
        endpoint.send(BROKEN[name](endpoint))
        endpoint.read_until(lambda: endpoint.closed)
        assert endpoint.goaways

    assert said(scripted, proxy, say).status == 502


def test_an_endpoint_that_resets_all_is_bounded_by_what_it_is_asked(scripted: Origin, proxy: penstock.Proxy) -> None:
    """Each reset ends a request of ours: a busy service that turns many away is no flood."""
    with Client(proxy.address()) as client:
        client.send(client.headers(1))
        endpoint = Endpoint(scripted)
        for stream in range(1, 801, 2):
            endpoint.request(stream)
            endpoint.send(reset(stream))
            assert client.outcome(stream).status == 502
            client.send(client.headers(stream + 2))
        assert not endpoint.closed


@pytest.mark.safety(169)
def test_a_connection_that_died_is_noticed(scripted: Origin) -> None:
    """Nothing is heard of an endpoint that is asked: a PING, then another connection. This waits for all of it."""
    with closing(Origin()), in_front_of(scripted) as proxy, Client(proxy.address()) as client:
        client.send(client.headers(1))
        dead = Endpoint(scripted)
        dead.request(1)
        dead.answer(1, b"ok")
        assert client.outcome(1).body == b"ok"
        dead.quiet = True
        client.send(client.headers(3))
        dead.read_until(lambda: dead.pings, 20)
        second = Endpoint(scripted, 2) if wait_for(lambda: len(scripted.accept_all()) == 2, "a new one", 10) else None
        assert second is not None
        second.request(1)
        second.answer(1, b"alive")
        assert client.outcome(3).body == b"alive"
