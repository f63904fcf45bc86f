"""What is refused or dropped is counted, by a reason that stays the same."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

REASONS = {
    "bad_content_length": b"Content-Length: +5\r\n",
    "bad_transfer_encoding": b"Transfer-Encoding: gzip\r\n",
    "bad_connection": b"Connection: host\r\n",
    "bad_expect": b"Expect: yes\r\n",
    "bad_head": b"X : 1\r\n",
    "bad_host": b"Host: b\r\n",
    "head_too_large": b"X: " + b"x" * 70_000 + b"\r\n",
    "too_many_fields": b"X: 1\r\n" * 101,
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[penstock.Proxy]:
    """Answers everything itself."""
    config = {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {"status": 204}}]}
    with penstock.Proxy(config) as running:
        yield running


def _ask(proxy: penstock.Proxy, fields: bytes) -> bytes:
    with socket.create_connection(proxy.address("web"), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + b"\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.safety(7, 14, 23, 63, 12, 55, 52, 53)
@pytest.mark.parametrize("reason", REASONS)
def test_a_refusal_is_counted_by_its_reason(proxy: penstock.Proxy, reason: str) -> None:
    before = proxy.stats().rejected.get(reason, 0)
    assert _ask(proxy, REASONS[reason]).startswith(b"HTTP/1.1 4")
    assert proxy.stats().rejected[reason] == before + 1


@pytest.mark.safety(13)
def test_a_field_with_an_underscore_is_dropped_and_counted(proxy: penstock.Proxy) -> None:
    before = proxy.stats().dropped_fields
    assert _ask(proxy, b"X_A: 1\r\nX-B: 2\r\nx_c: 3\r\n").startswith(b"HTTP/1.1 204 ")
    assert proxy.stats().dropped_fields == before + 2
