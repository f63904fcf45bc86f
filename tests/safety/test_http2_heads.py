"""HTTP/2 heads and bodies that would be another message in HTTP/1.1: nothing of them reaches an endpoint.

Cases 96 to 102 and 105 of the catalogue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hyperframe.frame import Frame, HeadersFrame

from tests.http2 import GET, POST, WHERE, Client, data, serving
from tests.wire.peers import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    import penstock

OWN = ((":method", "GET"), *WHERE, (":path", "/own"))
PROTOCOL_ERROR = 1


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[penstock.Proxy, Origin]]:
    """A proxy and its endpoint."""
    origin = Origin()
    with serving(origin) as proxy:
        yield proxy, origin
    origin.close()


def refused(both: tuple[penstock.Proxy, Origin], *frames_of: Any) -> None:
    """What these frames say is refused as a protocol error, of the stream or the connection; nothing reaches the
    endpoint, and somebody else is served."""
    proxy, origin = both
    with Client(proxy.address()) as client, Client(proxy.address()) as sentinel:
        frames: list[Frame] = [frame for make in frames_of for frame in make(client)]
        client.send(*frames)
        client.read_until(lambda: client.streams[1].over or client.closed)
        reason = client.streams[1].reset if client.streams[1].over else client.end()
        assert reason == PROTOCOL_ERROR, (client.streams, client.goaways)
        assert client.streams[1].heads == []
        if not client.closed:
            assert client.ask(3, OWN).body == b"own"
        assert sentinel.ask(1, OWN).body == b"own"
    assert origin.accept_all() == []
    assert proxy.stats().panics == 0


def head(*fields: tuple[str, str], ends: bool = True) -> Any:
    return lambda client: [client.headers(1, fields, ends=ends)]


def with_field(name: str, value: str) -> Any:
    return head(*GET, (name, value))


def pseudo(**changed: str | None) -> Any:
    fields = {**dict(GET), **{f":{name}": value for name, value in changed.items()}}
    return head(*((name, value) for name, value in fields.items() if value is not None))


def content(*bodies: bytes, length: int | str) -> Any:
    fields = (*POST, ("content-length", str(length)))
    frames = [data(1, body, ends=body is bodies[-1]) for body in bodies]
    return lambda client: [client.headers(1, fields, ends=not bodies), *frames]


@pytest.mark.safety(96, 105)
@pytest.mark.parametrize(
    "sent",
    [
        content(b"x", length=0),
        content(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", length=0),
        content(b"hello!", length=5),
        content(b"hel", b"lo!", length=5),
        content(b"hell", length=5),
        content(b"hello", length="+5"),
        content(b"hello", length="5, 5"),
        content(b"hello", length=""),
        content(b"hello", length=2**64 + 5),
        lambda client: [
            client.headers(1, (*POST, ("content-length", "5"), ("content-length", "5")), ends=False),
            data(1, b"hello"),
        ],
    ],
)
def test_a_length_that_is_not_that_of_the_content(both: tuple[penstock.Proxy, Origin], sent: Any) -> None:
    refused(both, sent)


@pytest.mark.safety(97, 105)
@pytest.mark.parametrize(
    "sent",
    [
        content(length=10),
        lambda client: [
            client.headers(1, (*POST, ("content-length", "10")), ends=False),
            HeadersFrame(1, client.pack((("x-sum", "1"),)), flags=["END_HEADERS", "END_STREAM"]),
        ],
    ],
)
def test_a_length_and_the_end_before_it(both: tuple[penstock.Proxy, Origin], sent: Any) -> None:
    refused(both, sent)


@pytest.mark.safety(98, 105)
@pytest.mark.parametrize(
    "fields",
    [
        (("transfer-encoding", "chunked"),),
        (("transfer-encoding", "identity"),),
        (("connection", "close"),),
        (("connection", "x-secret"),),
        (("keep-alive", "timeout=5"),),
        (("proxy-connection", "keep-alive"),),
        (("upgrade", "h2c"),),
        (("upgrade", "websocket"), ("connection", "upgrade")),
        (("te", "gzip"),),
        (("te", "trailers, chunked"),),
        (("te", "trailers"), ("te", "trailers")),
    ],
)
def test_fields_of_a_connection(both: tuple[penstock.Proxy, Origin], fields: tuple[tuple[str, str], ...]) -> None:
    refused(both, head(*GET, *fields))


@pytest.mark.safety(99, 105)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nSmuggled: b"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "\x01"),
        ("x", "\x7f"),
        ("x\r\nsmuggled", "1"),
        ("x\0", "1"),
        ("x y", "1"),
        ("x:", "1"),
        ("x: y\r\nz", "1"),
        ("X-Upper", "1"),
        ("x\x80", "1"),
        ("x", " a"),
        ("x", "a "),
        ("x", "a\t"),
        ("", "1"),
        ("content_length", "5"),
        ("transfer_encoding", "chunked"),
    ],
)
def test_fields_that_http_1_would_read_otherwise(both: tuple[penstock.Proxy, Origin], name: str, value: str) -> None:
    refused(both, with_field(name, value))


@pytest.mark.safety(100, 105)
@pytest.mark.parametrize(
    "sent",
    [
        pseudo(path="/ HTTP/1.1\r\nHost: evil\r\n\r\nGET /smuggled"),
        pseudo(path="/a b"),
        pseudo(path="/\r\nx"),
        pseudo(path="/\0"),
        pseudo(path=""),
        pseudo(path="x"),
        pseudo(path="*"),
        pseudo(path="@evil/"),
        pseudo(path="http://shop.example/"),
        pseudo(method="GET / HTTP/1.1\r\nX: "),
        pseudo(method="GET /smuggled"),
        pseudo(method="G\nT"),
        pseudo(method=""),
        pseudo(method="XGET"),
        pseudo(scheme="http://evil/?"),
        pseudo(scheme="http\r\nx: y"),
        pseudo(scheme="javascript"),
        pseudo(scheme=""),
    ],
)
def test_pseudo_fields_that_smuggle(both: tuple[penstock.Proxy, Origin], sent: Any) -> None:
    refused(both, sent)


@pytest.mark.safety(101, 105)
@pytest.mark.parametrize(
    "sent",
    [
        head(*GET, (":method", "GET")),
        head(*GET, (":path", "/smuggled")),
        head(*GET, (":authority", "shop.example")),
        head(*GET, (":status", "200")),
        head(*GET, (":unknown", "1")),
        head(*GET, (":protocol", "websocket")),
        head(("x", "1"), *GET),
        head(*GET[:2], ("x", "1"), *GET[2:]),
        pseudo(method=None),
        pseudo(scheme=None),
        pseudo(path=None),
    ],
)
def test_pseudo_fields_out_of_their_place(both: tuple[penstock.Proxy, Origin], sent: Any) -> None:
    refused(both, sent)


@pytest.mark.safety(101, 105)
@pytest.mark.parametrize("field", [(":path", "/smuggled"), (":status", "200"), ("X-Upper", "1"), ("x", "a\r\nb")])
def test_what_cannot_be_behind_a_body_makes_it_none(
    both: tuple[penstock.Proxy, Origin], field: tuple[str, str]
) -> None:
    trailers = (field, ("x-sum", "1"))
    refused(
        both,
        lambda client: [
            client.headers(1, POST, ends=False),
            HeadersFrame(1, client.pack(trailers), flags=["END_HEADERS", "END_STREAM"]),
        ],
    )


@pytest.mark.safety(100, 105)
@pytest.mark.parametrize("path", ["/public#/../admin", "/public#?x", "/public# HTTP/1.1", "/public#"])
def test_a_fragment_goes_nowhere(both: tuple[penstock.Proxy, Origin], path: str) -> None:
    """It is refused as it is in HTTP/1.1: readers disagree about where a path with one ends."""
    proxy, origin = both
    with Client(proxy.address()) as client:
        client.send(client.headers(1, (*GET[:-1], (":path", path))))
        seen = client.outcome(1)
        assert seen.status == 400 or seen.reset == PROTOCOL_ERROR
    assert origin.accept_all() == []


@pytest.mark.safety(102, 105)
@pytest.mark.parametrize(
    "sent",
    [
        head(*GET, ("host", "evil.example")),
        head(*GET, ("host", "shop.example"), ("host", "evil.example")),
        head(*GET, ("host", "shop.example:81")),
        head(*GET, ("host", "")),
        pseudo(authority="user@shop.example"),
        pseudo(authority="user:password@shop.example"),
        pseudo(authority="shop.example, evil.example"),
        pseudo(authority="shop.example/x"),
        pseudo(authority="shop.example:99999"),
        pseudo(authority=""),
        pseudo(authority=None),
    ],
)
def test_hosts_that_disagree_or_are_none(both: tuple[penstock.Proxy, Origin], sent: Any) -> None:
    refused(both, sent)
