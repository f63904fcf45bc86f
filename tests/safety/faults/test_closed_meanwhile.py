"""An endpoint closes an unused connection at the very moment at which a request wants it (safety.md 69)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.product.waiting import wait_for
from tests.safety.limits.process import Process
from tests.wire.peers import connect
from tests.wire.receive_queue import wait_until_read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.wire.peers import Origin

CONFIG = """
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{origin}"]
[[routes]]
upstream = "app"
[engine]
workers = 1
"""
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
MILLIS = 500
"""How long the worker does not hear of what the system knows already."""


@pytest.mark.safety(69)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_what_cannot_be_sent_again_goes_out_on_a_live_connection(scripted: Origin, tmp_path: Path, method: str) -> None:
    with Process(CONFIG.format(origin=scripted.address), tmp_path, env={"PENSTOCK_FAULTS": "1"}) as penstock:
        wait_for(lambda: penstock.logged("PENSTOCK_FAULTS is set"), "it is warned of")
        client = connect(penstock.address())
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        scripted.read_until(lambda got: b"\r\n\r\n" in got).send(ANSWER + b"ok")
        client.read_until(lambda got: got.endswith(b"ok"))
        client.received.clear()
        body = b"" if method == "GET" else b"body"
        fault = f"Penstock-Fault: block head {MILLIS}\r\nContent-Length: {len(body)}\r\n\r\n"
        client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n{fault}".encode() + body)
        # From here on the worker blocks, and is told nothing.
        if not wait_until_read(client.sock, limit=5):
            pytest.skip("the kernel does not tell what was read")
        scripted.hang_up()
        scripted.read_until(lambda got: b"\r\n\r\n" in got).send(ANSWER + b"go")
        client.read_until(lambda got: got.endswith(b"go"))
        assert client.received.startswith(b"HTTP/1.1 200 ")
        assert len(scripted.accept_all()) == 1, "one connection, and one request on it"
        client.close()
