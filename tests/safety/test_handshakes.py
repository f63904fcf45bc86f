"""A flood of handshakes: bounded at the cost of those that take longest, while others are served."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest

import penstock
from tests.certificates import DEADLINE, ask, context, secure, write
from tests.product.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

MOST = 16
FLOOD = 200


def _hello() -> bytes:
    said = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="shop.example").do_handshake()
    return said.read()


@pytest.mark.safety(120)
def test_a_flood_of_handshakes_gives_way_to_others(tmp_path: Path) -> None:
    config = {
        "listeners": {
            "web": {
                "bind": "127.0.0.1:0",
                "tls": {"certificates": [write(tmp_path, "shop", "shop.example")]},
                "limits": {"handshakes": MOST},
            }
        },
        "routes": [{"respond": {"body": "served"}}],
        "engine": {"workers": 1},
    }
    hello = _hello()
    with penstock.Proxy(config) as proxy, contextlib.ExitStack() as flood:
        silent = [flood.enter_context(socket.create_connection(proxy.address(), DEADLINE)) for _ in range(MOST)]
        for number in range(FLOOD):
            sock = flood.enter_context(socket.create_connection(proxy.address(), DEADLINE))
            # Half of them say half a word, the others never answer.
            sock.sendall(hello if number % 2 else hello[:50])
            if number % 50 == 49:
                began = time.monotonic()
                with secure(proxy.address()) as other:
                    assert ask(other) == b"served"
                assert time.monotonic() - began < 5
        wait_for(lambda: proxy.stats().rejected["too_many_handshakes"] >= FLOOD - MOST, "the oldest were given up")
        # Who said nothing costs next to nothing and keeps nobody away.
        wait_for(lambda: proxy.stats().listeners[0].connections <= 2 * MOST, "so many are left")
        for sock in silent:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
