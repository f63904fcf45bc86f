"""Python's own server: `http.server` reads heads, `http.client` chunks."""

from __future__ import annotations

import http.client
import http.server
import io
from typing import TYPE_CHECKING, Any

from tests.differential.readers import Reading, Request

if TYPE_CHECKING:
    from collections.abc import Sequence


def read(recordings: Sequence[bytes]) -> list[Reading]:
    """One reading for each."""
    return [_read(recording) for recording in recordings]


class _Stream(io.BytesIO):
    """Stays open when a body has ended."""

    def close(self) -> None:
        """Not yet."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """The handler's reading of a head, without a socket."""

    protocol_version = "HTTP/1.1"

    def __init__(self, stream: io.BytesIO) -> None:
        self.rfile, self.wfile = stream, io.BytesIO()
        self.client_address, self.request_version = ("", 0), ""

    def log_message(self, *_: Any) -> None:
        """Refusals are counted, not printed."""


class _Chunks(http.client.HTTPResponse):
    """The library's reading of a chunked body."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.fp, self.chunked, self.chunk_left, self.length = stream, True, None, None  # type: ignore[assignment]
        self._method = "POST"


def _read(recording: bytes) -> Reading:
    stream = _Stream(recording)
    handler = _Handler(stream)
    requests: list[Request] = []
    while True:
        handler.raw_requestline = stream.readline(65537)
        if not handler.raw_requestline:
            return Reading(requests, "whole")
        if not handler.parse_request():
            return Reading(requests, "refused")
        try:
            body = _body(handler.headers, stream)
        except http.client.IncompleteRead:
            return Reading(requests, "partial")
        except ValueError:
            return Reading(requests, "refused")
        requests.append(Request(handler.command, handler.path, body))


def _body(headers: Any, stream: io.BytesIO) -> bytes:
    if headers.get("Transfer-Encoding", "").lower() == "chunked":
        return _Chunks(stream).read()
    length = int(headers.get("Content-Length", 0))
    body = stream.read(length)
    if len(body) < length:
        raise http.client.IncompleteRead(body)
    return body
