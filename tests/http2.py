"""Both ends of HTTP/2, which may say anything: frames are made and read one by one, and nothing is done by itself but
what every connection needs."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

import penstock
from tests.wire.peers import DEADLINE, Connection, Origin, TimedOutError, connect

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WHERE = ((":scheme", "http"), (":authority", "shop.example"))
GET = ((":method", "GET"), *WHERE, (":path", "/"))
POST = ((":method", "POST"), *WHERE, (":path", "/"))

Fields = tuple[tuple[str, str], ...]


@dataclass
class Stream:
    """What came on one stream."""

    heads: list[dict[str, str]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        """Of the last head that has one."""
        return next((int(head[":status"]) for head in reversed(self.heads) if ":status" in head), None)

    @property
    def over(self) -> bool:
        """Nothing more comes."""
        return self.ended or self.reset is not None


class Peer:
    """One connection. What is sent is sent as it is; settings and pings are acknowledged when they are read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._encoder, self._decoder = Encoder(), Decoder()
        self._decoder.max_allowed_table_size = 4096
        self._block = b""
        self.streams: defaultdict[int, Stream] = defaultdict(Stream)
        self.settings: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        """Last stream and reason of each."""
        self.credit: defaultdict[int, int] = defaultdict(int)
        """How far the proxy has opened the window of each stream beyond its settings; of the connection, under 0."""
        self.pongs = 0
        self.pings = 0
        """Pings that came and were answered, or would have been."""
        self.quiet = False
        """Acknowledge nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def window(self) -> int:
        """What the proxy lets be sent on a stream ahead of its credit, as far as its settings were read."""
        return self.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE, 65_535)

    @property
    def sock(self) -> socket.socket:
        """Its socket."""
        return self._connection.sock

    @property
    def closed(self) -> bool:
        """The proxy has ended the connection."""
        return self._connection.ended

    def send_raw(self, *pieces: bytes) -> None:
        """Bytes as they are."""
        self._connection.send(*pieces)

    def send(self, *frames: Frame) -> None:
        """Frames, in one segment."""
        self.send_raw(b"".join(frame.serialize() for frame in frames))

    def pack(self, fields: Any) -> bytes:
        """Fields as HPACK has them."""
        return self._encoder.encode(fields, huffman=False)

    def headers(self, stream: int, fields: Any = GET, *, ends: bool = True, more: bool = False) -> HeadersFrame:
        """A frame that begins a stream."""
        flags = (["END_STREAM"] if ends else []) + ([] if more else ["END_HEADERS"])
        return HeadersFrame(stream, self.pack(fields), flags=flags)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def ask(self, stream: int, fields: Any = GET, body: bytes | None = None) -> Stream:
        """A whole request, and what came of it."""
        frames: list[Frame] = [self.headers(stream, fields, ends=body is None)]
        if body is not None:
            frames.append(data(stream, body))
        self.send(*frames)
        return self.outcome(stream)

    def outcome(self, stream: int) -> Stream:
        """What came on a stream, once it is over or the connection is."""
        seen = self.streams[stream]
        self.read_until(lambda: seen.over or self.closed)
        return seen

    def read_until(self, done: Callable[[], object], deadline: float = DEADLINE) -> None:
        """Take in frames until `done` says so; `TimedOutError` at the deadline."""
        end = time.monotonic() + deadline
        while not done():
            left = end - time.monotonic()
            if left <= 0 or self.closed:
                raise TimedOutError(f"not so within {deadline:g} s: {self.streams} {self.goaways} {self.closed}")
            before = len(self._connection.received)
            with contextlib.suppress(TimedOutError):
                self._connection.read_until(lambda received, before=before: len(received) > before, left)
            for frame in self._frames():
                self._take(frame)

    def end(self, deadline: float = DEADLINE) -> int | None:
        """The reason of the last GOAWAY, once the connection is closed."""
        self.read_until(lambda: self.closed, deadline)
        return self.goaways[-1][1] if self.goaways else None

    def _frames(self) -> Iterator[Frame]:
        received = self._connection.received
        while len(received) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(bytes(received[:9])))
            if len(received) < 9 + length:
                return
            frame.parse_body(memoryview(bytes(received[9 : 9 + length])))
            del received[: 9 + length]
            yield frame

    def _take(self, frame: Frame) -> None:
        stream = self.streams[frame.stream_id] if frame.stream_id else Stream()
        if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self.settings.update(frame.settings)
            self._reply(SettingsFrame(0, flags=["ACK"]))
        elif isinstance(frame, PingFrame):
            if "ACK" in frame.flags:
                self.pongs += 1
            else:
                self.pings += 1
                self._reply(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, GoAwayFrame):
            self.goaways.append((frame.last_stream_id, frame.error_code))
        elif isinstance(frame, WindowUpdateFrame):
            self.credit[frame.stream_id] += frame.window_increment
        elif isinstance(frame, RstStreamFrame):
            stream.reset = frame.error_code
        elif isinstance(frame, DataFrame):
            stream.body += frame.data
        elif isinstance(frame, HeadersFrame | ContinuationFrame):
            self._block += frame.data
            if "END_HEADERS" in frame.flags:
                block, self._block = self._block, b""
                stream.heads.append({str(name): str(value) for name, value in self._decoder.decode(block)})
        stream.ended |= "END_STREAM" in frame.flags

    def _reply(self, frame: Frame) -> None:
        if not self.quiet:
            self.send(frame)


class Client(Peer):
    """A connection to the proxy."""

    def __init__(
        self, address: tuple[str, int], *, window: int = 65_535, trust: ssl.SSLContext | None = None, begin: bool = True
    ) -> None:
        super().__init__(connect(address, trust=trust))
        if begin:
            self.send_raw(PREFACE)
            self.send(SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: window}))


class Endpoint(Peer):
    """A connection of the proxy's to an endpoint; waits for it. `settings`: what is said first, or nothing is.
    `behind`: bytes that come with them."""

    def __init__(
        self, origin: Origin, number: int = 1, settings: dict[int, int] | None = None, behind: bytes = b""
    ) -> None:
        super().__init__(origin.connection(number))
        self._connection.read_until(lambda received: len(received) >= len(PREFACE))
        assert self._connection.received.startswith(PREFACE), bytes(self._connection.received)
        del self._connection.received[: len(PREFACE)]
        self.send_raw(SettingsFrame(0, settings=settings or {}).serialize() + behind)

    def head(self, stream: int = 1) -> dict[str, str]:
        """The head of the request on a stream, once it is there."""
        seen = self.streams[stream]
        self.read_until(lambda: seen.heads or seen.over)
        return seen.heads[0]

    def request(self, stream: int = 1) -> Stream:
        """A request, once it is whole or given up."""
        return self.outcome(stream)

    def answer(
        self, stream: int, *pieces: bytes, fields: Fields = (), trailers: Fields = (), status: int = 200
    ) -> None:
        """A whole answer: its head, a body in pieces, trailers."""
        ends = not pieces and not trailers
        frames: list[Frame] = [self.headers(stream, ((":status", str(status)), *fields), ends=ends)]
        for number, piece in enumerate(pieces, start=1):
            frames.append(data(stream, piece, ends=number == len(pieces) and not trailers))
        if trailers:
            frames.append(self.headers(stream, trailers))
        self.send(*frames)


def data(stream: int, body: bytes, *, ends: bool = True) -> DataFrame:
    """A frame of a body."""
    return DataFrame(stream, body, flags=["END_STREAM"] if ends else [])


def reset(stream: int, reason: int = 8) -> RstStreamFrame:
    """CANCEL, unless another reason is given."""
    return RstStreamFrame(stream, error_code=reason)


def room(stream: int, count: int) -> WindowUpdateFrame:
    """A window that opens."""
    return WindowUpdateFrame(stream, window_increment=count)


def configuration(*origins: Origin | str, log: str | None = None, **upstream: Any) -> dict[str, Any]:
    """Speaks HTTP/2 in clear to these endpoints, and either version to clients."""
    endpoints = [origin if isinstance(origin, str) else origin.address for origin in origins]
    config: dict[str, Any] = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "h2c": True}},
        "upstreams": {"app": {"endpoints": endpoints, "protocol": "h2c", **upstream}},
        "routes": [{"upstream": "app"}],
        "engine": {"workers": 1, "drain_timeout": "5s"},
    }
    return {**config, "log": {"access": {"format": "json", "to": log}}} if log else config


def in_front_of(*origins: Origin | str, log: str | None = None, **upstream: Any) -> penstock.Proxy:
    """A proxy that speaks HTTP/2 to these endpoints."""
    return penstock.Proxy(configuration(*origins, log=log, **upstream))


def serving(origin: Origin | None = None, **listener: Any) -> penstock.Proxy:
    """A proxy that answers `/own` by itself and sends all else to the endpoint."""
    own = {"match": 'path == "/own"', "respond": {"body": "own"}}
    return penstock.Proxy(
        {
            "listeners": {"web": {"bind": "127.0.0.1:0", "h2c": True, **listener}},
            "upstreams": {"app": {"endpoints": [origin.address]}} if origin else {},
            "routes": [own, {"upstream": "app"}] if origin else [own],
            "engine": {"workers": 1, "drain_timeout": "5s"},
        }
    )
