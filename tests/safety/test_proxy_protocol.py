"""The PROXY protocol from those who may not use it, and from those who use it badly."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.announced import LINE, SIGNATURE, Recorder, binary, connect, read_all, request
from tests.certificates import answer
from tests.product.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLOSED_WITHIN = 3.0
"""Seconds that a header may take."""
BAD = {
    "no header": request(),
    "cut line": b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
    "bare line end": LINE.replace(b"\r\n", b"\n"),
    "long line": b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n",
    "port beyond": b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 1\r\n",
    "a name": b"PROXY TCP4 localhost 5.6.7.8 1 1\r\n",
    "length 65535": binary(length=65535),
    "length of less than addresses": binary(length=11),
    "TLV beyond its header": binary(tlvs=b"\x02\xff\xffa"),
    "half a TLV": binary(tlvs=b"\x02\0"),
    "checksum": binary(tlvs=b"\x03\0\x04abcd"),
    "version 3": SIGNATURE + b"\x31" + binary()[13:],
    "datagrams": SIGNATURE + b"\x21\x12" + binary()[14:],
}


def _config(app: Recorder, **listener: Any) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", **listener}},
        "upstreams": {"app": {"endpoints": [app.address]}},
        "routes": [{"upstream": "app"}],
        "engine": {"workers": 1},
    }


@pytest.fixture(scope="module")
def app() -> Iterator[Recorder]:
    with Recorder() as running:
        yield running


@pytest.fixture(scope="module")
def behind(app: Recorder) -> Iterator[penstock.Proxy]:
    """A proxy whose clients are all behind another."""
    with penstock.Proxy(_config(app, proxy_protocol={"from": ["127.0.0.0/8"]})) as running:
        yield running


def _whole(sent: bytes) -> list[bytes]:
    return [sent]


def _byte_by_byte(sent: bytes) -> list[bytes]:
    return [sent[at : at + 1] for at in range(len(sent))]


def _halves(sent: bytes) -> list[bytes]:
    return [sent[: len(sent) // 2], sent[len(sent) // 2 :]]


@pytest.mark.safety(137)
@pytest.mark.parametrize("cut", [_whole, _byte_by_byte, _halves])
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_header_closes(
    behind: penstock.Proxy, app: Recorder, case: str, cut: Callable[[bytes], list[bytes]]
) -> None:
    before = app.requests
    rejected = behind.stats().rejected
    with connect(behind.address()) as sock:
        try:
            for piece in cut(BAD[case] + request(path="/smuggled")):
                sock.sendall(piece)
        except ConnectionError:
            pass  # It closed before it had all.
        assert read_all(sock) == b""
    reason = "proxy_header_missing" if case == "no header" else "proxy_header_bad"
    assert behind.stats().rejected[reason] == rejected[reason] + 1
    with connect(behind.address()) as sentinel:
        sentinel.sendall(LINE + request(path="/sentinel"))
        assert answer(sentinel) == b"ok"
    assert app.requests == before + 1


@pytest.mark.safety(137)
@pytest.mark.parametrize("header", [LINE, binary(), binary(length=4096)], ids=["v1", "v2", "announced but not sent"])
def test_a_header_that_trickles_closes_in_time(behind: penstock.Proxy, header: bytes) -> None:
    before = behind.stats().rejected["proxy_header_timeout"]
    began = time.monotonic()
    with connect(behind.address()) as sock:
        sock.sendall(header[:-1])
        assert read_all(sock) == b""
    assert 0.5 < time.monotonic() - began < CLOSED_WITHIN + 1.5
    wait_for(lambda: behind.stats().rejected["proxy_header_timeout"] == before + 1, "it was counted")


@pytest.mark.safety(137)
@pytest.mark.parametrize("senders", [None, {"from": ["192.0.2.0/24"]}], ids=["plain listener", "from somebody else"])
@pytest.mark.parametrize("header", [LINE, binary()], ids=["v1", "v2"])
def test_nobody_else_is_believed(app: Recorder, senders: Any, header: bytes) -> None:
    before = app.requests
    with penstock.Proxy(_config(app, **({"proxy_protocol": senders} if senders else {}))) as proxy:
        with connect(proxy.address()) as sock:
            sock.sendall(header + request(path="/smuggled"))
            said = read_all(sock)
        # It is read as HTTP, which it is not.
        assert said.split(b" ")[1] == b"400", said
        assert b"connection: close\r\n" in said.lower()
        assert said.count(b"HTTP/1.1 ") == 1
    assert app.requests == before
