"""`h11`, as a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from tests.differential.readers import Reading, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANSWER = h11.Response(status_code=200, headers=[("content-length", "0")])
_MOST = 1 << 24
"""Bytes of a head: the recordings are whole, so that this limit is never what is tested."""


def read(recordings: Sequence[bytes]) -> list[Reading]:
    """One reading for each."""
    return [_read(recording) for recording in recordings]


def _read(recording: bytes) -> Reading:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST)
    connection.receive_data(recording)
    requests: list[Request] = []
    method, target, body = "", "", bytearray()
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, target, body = event.method.decode("latin-1"), event.target.decode("latin-1"), bytearray()
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                requests.append(Request(method, target, bytes(body)))
                connection.send(_ANSWER)
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                break
    except h11.RemoteProtocolError:
        return Reading(requests, "refused")
    at_rest = connection.their_state is h11.IDLE and not connection.trailing_data[0]
    return Reading(requests, "whole" if at_rest else "partial")
