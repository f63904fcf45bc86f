"""What costs a server of HTTP/2 more than its client: resets, small frames, heads in pieces or bombs, closed windows.

Cases 88 to 92, 94 and 95 of the catalogue. Somebody else is served meanwhile, and memory stays where it was.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http2 import GET, POST, WHERE, Client, Stream, data, reset, room, serving
from tests.product.waiting import wait_for
from tests.safety.base_line import resident

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import penstock
    from tests.wire.peers import Origin

OWN = ((":method", "GET"), *WHERE, (":path", "/own"))
ENHANCE_YOUR_CALM, COMPRESSION_ERROR = 11, 9
MEBIBYTE = 1 << 20


class Unknown:
    """A frame of a type that nobody has defined."""

    def serialize(self) -> bytes:
        """Its octets."""
        return b"\0\0\x01\x77\0\0\0\0\0x"


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    with serving(scripted) as running:
        yield running


def calmed(
    proxy: penstock.Proxy, flood: Callable[[Client], None], reasons: tuple[int, ...] = (ENHANCE_YOUR_CALM,)
) -> None:
    """A client that floods is told to be calm and loses its connection; another is served meanwhile and afterwards."""
    with Client(proxy.address()) as client, Client(proxy.address()) as sentinel:
        assert sentinel.ask(1, OWN).body == b"own"
        client.quiet = True
        flood(client)
        assert sentinel.ask(3, OWN).body == b"own"
        assert client.end() in reasons
        assert sentinel.ask(5, OWN).body == b"own"
    word = "frame_flood" if ENHANCE_YOUR_CALM in reasons else "bad_frame"
    wait_for(lambda: proxy.stats().rejected[word] >= 1, "it is counted")
    assert proxy.stats().panics == 0


@pytest.mark.safety(88)
def test_rapid_reset_ends_within_a_budget(proxy: penstock.Proxy, scripted: Origin) -> None:
    def flood(client: Client) -> None:
        client.send_raw(
            b"".join(client.headers(number).serialize() + reset(number).serialize() for number in range(1, 20_001, 2))
        )

    calmed(proxy, flood)
    assert len(scripted.accept_all()) <= 300


@pytest.mark.safety(88)
def test_resets_that_come_slowly_are_counted_too(proxy: penstock.Proxy, scripted: Origin) -> None:
    def flood(client: Client) -> None:
        for number in range(1, 403, 2):
            client.send(client.headers(number))
            # Each is with the endpoint before it is given up.
            scripted.connection((number + 1) // 2)
            client.send(reset(number))

    calmed(proxy, flood)


@pytest.mark.safety(89)
@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        pytest.param(lambda number: [WindowUpdateFrame(number, window_increment=2**31 - 1)], (11,), id="a window"),
        pytest.param(lambda number: [PriorityFrame(number, depends_on=number)], (11,), id="a stream that needs itself"),
        pytest.param(lambda number: [data(number, b"longer than it said")], (11,), id="a body beyond its length"),
        # This one ends the connection at once.
        pytest.param(lambda number: [data(number, b"hello"), data(number, b"x")], (1, 5), id="a body behind the end"),
    ],
)
def test_made_you_reset_is_the_same_budget(
    proxy: penstock.Proxy, scripted: Origin, fault: Any, reasons: tuple[int, ...]
) -> None:
    def flood(client: Client) -> None:
        for number in range(1, 1001, 2):
            client.send(client.headers(number, (*POST, ("content-length", "5")), ends=False), *fault(number))

    calmed(proxy, flood, reasons)
    assert len(scripted.accept_all()) <= 300


@pytest.mark.safety(90)
@pytest.mark.parametrize("payload", [b"", b"\0\x01x\x010" * 3000], ids=["empty", "full"])
def test_a_head_without_an_end(proxy: penstock.Proxy, scripted: Origin, payload: bytes) -> None:
    # Ours, and in the same process: made before it is measured.
    sent = ContinuationFrame(1, payload).serialize() * 2000
    before = resident()

    def flood(client: Client) -> None:
        client.send(client.headers(1, more=True))
        client.send_raw(sent)

    calmed(proxy, flood)
    assert resident() - before < 8 * MEBIBYTE
    assert scripted.accept_all() == []


def test_a_head_that_never_comes_to_its_end_is_not_waited_for(scripted: Origin) -> None:
    with serving(scripted, timeouts={"head": "100ms"}) as proxy, Client(proxy.address()) as client:
        assert client.ask(1, OWN).status == 200
        client.send(client.headers(3, more=True))
        client.read_until(lambda: client.closed)
        assert proxy.stats().rejected["head_timeout"] == 1


@pytest.mark.safety(91)
@pytest.mark.parametrize("value", ["", "x" * 4000], ids=["many fields", "much in each"])
def test_a_packed_bomb_is_refused_before_it_is_unpacked(proxy: penstock.Proxy, scripted: Origin, value: str) -> None:
    before = resident()
    with Client(proxy.address(), window=0) as client, Client(proxy.address()) as sentinel:
        for number in range(1, 101, 2):
            # One field is put into the table, then named again and again by one octet.
            block = client.pack((*GET, ("x", value))) + b"\xbe" * 15_000
            client.send(HeadersFrame(number, block, flags=["END_HEADERS", "END_STREAM"]))
        assert sentinel.ask(1, OWN).body == b"own"
        client.read_until(lambda: client.closed or len(client.streams) >= 50)
        assert all(seen.status in (431, None) for seen in client.streams.values())
        assert resident() - before < 8 * MEBIBYTE
    assert scripted.accept_all() == []


@pytest.mark.safety(92)
def test_every_crumb_of_a_cookie_counts(proxy: penstock.Proxy, scripted: Origin) -> None:
    with Client(proxy.address()) as client:
        crumbs = [("cookie", f"c{number}=1") for number in range(101)]
        assert client.ask(1, (*GET, *crumbs)).status == 431
        seen = Stream()
        frame = HeadersFrame(3, client.pack(GET) + b"\x0f\x11\x00" * 10_000, flags=["END_HEADERS", "END_STREAM"])
        client.send_raw(*_in_pieces(frame))
        seen = client.outcome(3)
        assert client.closed or seen.status == 431 or seen.reset is not None
    assert scripted.accept_all() == []


def _in_pieces(frame: HeadersFrame) -> Iterator[bytes]:
    """A head too large for one frame, as a head and what goes on with it."""
    block, size = frame.data, 16_000
    yield HeadersFrame(frame.stream_id, block[:size], flags=["END_STREAM"]).serialize()
    for at in range(size, len(block), size):
        last = at + size >= len(block)
        yield ContinuationFrame(
            frame.stream_id, block[at : at + size], flags=["END_HEADERS"] if last else []
        ).serialize()


@pytest.mark.safety(94)
@pytest.mark.parametrize(
    "frame",
    [
        SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 65_535}),
        PingFrame(0, b"12345678"),
        PriorityFrame(7, depends_on=0, stream_weight=1),
        DataFrame(1, b""),
        Unknown(),
    ],
    ids=["SETTINGS", "PING", "PRIORITY", "empty DATA", "unknown"],
)
def test_frames_that_ask_for_nothing(proxy: penstock.Proxy, frame: Any) -> None:
    def flood(client: Client) -> None:
        client.send(client.headers(1, POST, ends=False))
        client.send_raw(frame.serialize() * 5000)

    calmed(proxy, flood)


@pytest.mark.safety(94)
def test_fields_without_a_name_end_the_connection(proxy: penstock.Proxy) -> None:
    def flood(client: Client) -> None:
        block = client.pack(GET) + b"\0\0\0" * 5000
        client.send(HeadersFrame(1, block, flags=["END_HEADERS", "END_STREAM"]))

    calmed(proxy, flood, (1, COMPRESSION_ERROR))


@pytest.mark.safety(95)
def test_a_hundred_streams_that_nobody_reads(scripted: Origin) -> None:
    before = resident()
    large, streams = MEBIBYTE, 100
    with (
        serving(scripted, timeouts={"rate": "300ms"}, limits={"write_rate": 500}) as proxy,
        Client(proxy.address(), window=0) as client,
        Client(proxy.address()) as sentinel,
    ):
        client.send(*(client.headers(number) for number in range(1, 2 * streams, 2)))
        for number in range(1, streams + 1):
            connection = scripted.connection(number)
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % large, b"x" * large)
        assert sentinel.ask(1, OWN).body == b"own"
        assert resident() - before < 40 * MEBIBYTE
        # Nobody takes anything, so each of them ends.
        client.read_until(lambda: sum(seen.reset is not None for seen in client.streams.values()) == streams)
        assert all(seen.body == b"" for seen in client.streams.values())
        assert proxy.stats().rejected["client_too_slow"] == streams


@pytest.mark.safety(95)
def test_what_is_ready_for_a_socket_that_nobody_reads_is_bounded(scripted: Origin) -> None:
    """The windows are open as far as they go, but the client reads nothing from its socket."""
    large, streams = 4 * MEBIBYTE, 20
    with serving(scripted) as proxy, Client(proxy.address(), window=2**31 - 1) as client:
        client.send(room(0, 2**31 - 1 - 65_535))
        client.send(*(client.headers(number) for number in range(1, 2 * streams, 2)))
        connections = [scripted.connection(number) for number in range(1, streams + 1)]
        for connection in connections:
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % large, b"x" * large)
        deadline = time.monotonic() + 20
        for number in range(1, 2 * streams, 2):
            seen = client.streams[number]
            client.read_until(lambda seen=seen: seen.over, deadline - time.monotonic())
            assert (len(seen.body), seen.ended) == (large, True)
