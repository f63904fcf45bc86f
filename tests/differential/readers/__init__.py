"""Those who read what was forwarded. A new one is one file with a `read(recordings)` and one line in `lane.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Request(NamedTuple):
    """One request as a reader sees it."""

    method: str
    target: str
    body: bytes


@dataclass
class Reading:
    """The requests that a reader finds in one connection, and how the bytes end for it."""

    requests: list[Request]
    end: Literal["whole", "partial", "refused"]
    starts: tuple[int, ...] = ()
    """First byte of each request and the one behind the last, from the reader that tells."""
