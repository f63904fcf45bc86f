"""Unique tokens in path, header and body; each answer must carry its own (fault 182 of the catalogue)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import penstock
from tests.load.client import Tally, run_load
from tests.load.origin import EchoOrigins

if TYPE_CHECKING:
    import random


@dataclass(frozen=True)
class Tokens:
    """GET, POST by length and POST in chunks, some pipelined, some given up."""

    def request(self, number: int) -> bytes:
        """One of three kinds."""
        token = b"t%x" % (number * 2654435761 % 2**40)
        target, name = b"/a/%b?q=%b" % (token, token), b"Host: shop.example\r\nX-Token: %b\r\n" % token
        kind = number % 5
        if kind < 3:
            return b"GET %b HTTP/1.1\r\n%b\r\n" % (target, name)
        body = token * (1 + number % 40)
        if kind == 3:
            return b"POST %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (target, name, len(body), body)
        half = len(body) // 2
        chunks = b"%x\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (half, body[:half], len(body) - half, body[half:])
        return b"POST %b HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (target, name, chunks)

    def fault(self, number: int, head: bytes, body: bytes) -> str | None:
        """The answer must repeat the request."""
        token = b"t%x" % (number * 2654435761 % 2**40)
        if not head.startswith(b"HTTP/1.1 200 "):
            return f"{head[:60]!r} {body[:200]!r}"
        method = b"GET" if number % 5 < 3 else b"POST"
        sent = b"" if method == b"GET" else token * (1 + number % 40)
        expected = b"%b /a/%b?q=%b %b - " % (method, token, token, token)
        line, _, rest = body.partition(b"\n")
        if line.startswith(expected) and rest == sent:
            return None
        return f"expected {expected!r} and {len(sent)} bytes, got {line!r} and {rest[:100]!r}"

    def batch(self, dice: random.Random) -> int:
        """Mostly one at a time."""
        return dice.choice((1, 1, 1, 2, 4, 8))

    def aborts(self, dice: random.Random) -> bool:
        """One batch in a hundred."""
        return dice.random() < 0.01


def run_tokens(requests: int, workers: int = 2) -> Tally:
    """Through a proxy with two endpoints."""
    with EchoOrigins("a", "b") as origins:
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0"}},
            "upstreams": {"echo": {"endpoints": list(origins.addresses.values())}},
            "routes": [{"upstream": "echo"}],
            "engine": {"workers": workers},
        }
        with penstock.Proxy(config) as proxy:
            return run_load(Tokens(), proxy.address("web"), requests=requests)
