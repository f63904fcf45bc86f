"""Requests that make others work: keys that collide, patterns that explode, requests whose answers nobody reads."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.product.waiting import wait_for
from tests.safety.base_line import GROWTH, resident

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOW = 1.0
"""Seconds that no single request may take here. What explodes takes minutes; what is linear takes milliseconds."""
PIPELINED = 100_000
ANSWER = 1000

CONFIG: dict[str, Any] = {
    "listeners": {
        "web": {
            "bind": "127.0.0.1:0",
            "limits": {"head": "2MB", "uri": "1MB", "fields": 20_000},
            "timeouts": {"write": "500ms"},
        }
    },
    "routes": [
        {"match": 'header["X"].matches(r"(a+)+$")', "respond": {"status": 418}},
        {"match": 'header["Y"].matches(r"^(([a-z])+.)+[A-Z]([a-z])+$")', "respond": {"status": 418}},
        {"match": 'query["wanted"] == "1" or cookie["wanted"] == "1"', "respond": {"body": "found"}},
        {"name": "rest", "respond": {"body": "x" * ANSWER}},
    ],
    "engine": {"workers": 1},
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[penstock.Proxy]:
    """Wide limits, so that there is room for an attack."""
    with penstock.Proxy(CONFIG) as running:
        yield running


KEYS = 10_000
HEAVY = {
    "query": ("/?" + "&".join(f"k{n}={n}" for n in range(KEYS)) + "&wanted=1", []),
    "one key of a query": ("/?" + "k=1&" * KEYS + "wanted=1", []),
    "cookies": ("/", [("Cookie", "; ".join(f"k{n}={n}" for n in range(KEYS)) + "; wanted=1")]),
    "cookie fields": ("/", [("Cookie", f"k{n}=1") for n in range(KEYS)] + [("Cookie", "wanted=1")]),
    "fields": ("/?wanted=1", [(f"X-K{n}", "1") for n in range(KEYS)]),
    "one field": ("/?wanted=1", [("X-K", "1")] * KEYS),
    "nested repeats": ("/?wanted=1", [("X", "a" * 1_000_000 + "!")]),
    "overlapping repeats": ("/?wanted=1", [("Y", "a" * 1_000_000 + "!")]),
}


@pytest.mark.safety(117)
@pytest.mark.parametrize("name", HEAVY)
def test_what_looks_expensive_is_not(proxy: penstock.Proxy, name: str) -> None:
    target, fields = HEAVY[name]
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    head += "".join(f"{field}: {value}\r\n" for field, value in fields) + "\r\n"
    with socket.create_connection(proxy.address("web"), timeout=20) as client:
        client.sendall(head.encode()[:-2])
        began = time.monotonic()
        client.sendall(b"\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nfound")
    assert time.monotonic() - began < SLOW


@pytest.mark.safety(119)
def test_pipelined_requests_whose_answers_nobody_reads(proxy: penstock.Proxy) -> None:
    def answered() -> int:
        return next(route.requests for route in proxy.stats().routes if route.name == "rest")

    memory, before = resident(), answered()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(proxy.address("web"))
    client.settimeout(20)
    outcome: list[bool] = []

    def flood() -> None:
        try:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Filler: " + b"x" * 60 + b"\r\n\r\n")
            for _ in range(PIPELINED // 100):
                client.sendall((b"GET / HTTP/1.1\r\nHost: a\r\nX-Filler: " + b"x" * 60 + b"\r\n\r\n") * 100)
            outcome.append(True)
        except OSError:
            outcome.append(False)

    sending = threading.Thread(target=flood)
    sending.start()
    other = http.client.HTTPConnection(*proxy.address("web"), timeout=SLOW)
    served = 0
    while sending.is_alive():
        other.request("GET", "/?wanted=1")
        assert other.getresponse().read() == b"found"
        served += 1
    sending.join()
    assert outcome == [False], "all was read though nobody took the answers"
    assert served > 0
    # What fits into the buffers of both systems was answered and no more; the connection is gone.
    assert answered() - before < PIPELINED / 2
    wait_for(lambda: _open(proxy) == 1, "the end of the connection that does not read")
    assert resident() - memory < GROWTH
    other.close()
    client.close()


def _open(proxy: penstock.Proxy) -> int:
    return proxy.stats().listeners[0].connections
