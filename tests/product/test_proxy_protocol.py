"""The PROXY protocol: who the client is, for those who may say so, and what endpoints are told."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.announced import CLIENT, LINE, LOCAL, SIGNATURE, Recorder, binary, connect, read_all, request
from tests.certificates import answer, ask, authority, context, origin_context, write
from tests.product.waiting import wait_for

import penstock

if TYPE_CHECKING:
    from pathlib import Path

SEEN = {"match": f'client.ip == "{CLIENT}" and client.port == 40000', "respond": {"body": "told"}}
OTHER = {"respond": {"body": "other"}}


def configuration(*routes: Any, senders: Any = ("127.0.0.1",), **listener: Any) -> dict[str, Any]:
    web = {"bind": "127.0.0.1:0", "proxy_protocol": {"from": list(senders)}, **listener}
    return {"listeners": {"web": web}, "routes": list(routes) or [SEEN, OTHER], "engine": {"workers": 1}}


def forwarding(recorder: Recorder, listener: Any = None, **upstream: Any) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", **(listener or {})}},
        "upstreams": {"app": {"endpoints": [recorder.address], **upstream}},
        "routes": [{"upstream": "app"}],
        "engine": {"workers": 1},
    }


def ask_once(address: Any, *pieces: bytes) -> bytes:
    """Send these, and read one answer's body."""
    with connect(address) as sock:
        for piece in pieces:
            sock.sendall(piece)
        return answer(sock)


@pytest.mark.parametrize(
    "header",
    [
        LINE,
        binary(),
        binary(tlvs=b"\x02\0\x01a\x20\0\x05\0\0\0\0\0"),
        binary(f"::ffff:{CLIENT}"),
        binary(tlvs=b"\x04\x0f\xf1" + bytes(4081)),
    ],
    ids=["v1", "v2", "TLVs", "mapped", "longest"],
)
def test_the_client_is_whom_the_header_names(header: bytes, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    config = {**configuration(), "log": {"access": {"to": str(log), "format": "json"}}}
    with penstock.Proxy(config) as proxy:
        assert ask_once(proxy.address(), header + request()) == b"told"
        assert ask_once(proxy.address(), header, request()) == b"told"
        assert ask_once(proxy.address(), *(bytes([byte]) for byte in header), request()) == b"told"
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["client"] for record in records] == [CLIENT] * 3


@pytest.mark.parametrize(
    "header", [LOCAL, b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x21\0\0\x03abc", SIGNATURE + b"\x21\x31\0\xd8" + bytes(216)]
)
def test_who_speaks_for_nobody_is_the_client(header: bytes) -> None:
    with penstock.Proxy(configuration({"match": 'client.ip == "127.0.0.1"', "respond": {"body": "self"}})) as proxy:
        assert ask_once(proxy.address(), header + request()) == b"self"


@pytest.mark.parametrize(("timeout", "least", "most"), [("200ms", 0.1, 2.5), ("5s", 3.5, 7.5)])
def test_a_header_has_the_time_that_is_set(timeout: str, least: float, most: float) -> None:
    """Either side of the default of 3 s."""
    announced = {"from": ["127.0.0.1"], "timeout": timeout}
    with penstock.Proxy(configuration(proxy_protocol=announced)) as proxy, connect(proxy.address()) as sock:
        began = time.monotonic()
        sock.sendall(LINE[:-1])
        assert read_all(sock) == b""
        assert least < time.monotonic() - began < most
        assert proxy.stats().rejected["proxy_header_timeout"] == 1


def test_others_have_no_header(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    config = {**configuration(senders=("192.0.2.1",)), "log": {"access": {"to": str(log), "format": "json"}}}
    with penstock.Proxy(config) as proxy:
        assert ask_once(proxy.address(), request()) == b"other"
        with connect(proxy.address()) as sock:
            sock.sendall(LINE + request())
            assert read_all(sock).startswith(b"HTTP/1.1 400 ")
    assert {json.loads(line)["client"] for line in log.read_text().splitlines()} == {"127.0.0.1"}


def test_endpoints_and_fields_name_that_client() -> None:
    with Recorder() as app:
        config = forwarding(app, {"proxy_protocol": {"from": ["127.0.0.1"]}, "trusted_proxies": ["127.0.0.1"]})
        with penstock.Proxy(config) as proxy:
            # Whom the proxy speaks for is no trusted proxy: its fields are not believed.
            assert ask_once(proxy.address(), LINE + request("X-Forwarded-For: 192.0.2.66")) == b"ok"
            assert ask_once(proxy.address(), LOCAL + request("X-Forwarded-For: 192.0.2.66")) == b"ok"
    assert f"x-forwarded-for: {CLIENT}\r\n".encode() in app.heads[0][0].lower()
    assert b"x-forwarded-for: 192.0.2.66, 127.0.0.1\r\n" in app.heads[0][1].lower()


def test_it_comes_before_tls(tmp_path: Path) -> None:
    tls = {"certificates": [write(tmp_path, "shop", "shop.example")]}
    with penstock.Proxy(configuration(tls=tls)) as proxy:
        for header in (LINE, binary()):
            with connect(proxy.address()) as raw:
                raw.sendall(header)
                with context().wrap_socket(raw, server_hostname="shop.example") as sock:
                    assert ask(sock) == b"told"
        # A handshake without a header is refused; that TLS begins otherwise makes no difference.
        with connect(proxy.address()) as sock:
            sock.sendall(b"\x16\x03\x01\x00\x05hello")
            assert read_all(sock) == b""
        assert proxy.stats().rejected["proxy_header_missing"] == 1


def test_unix_sockets_have_senders_too(tmp_path: Path) -> None:
    path = str(tmp_path / "p.sock")
    with penstock.Proxy(configuration(senders=["unix"], bind=f"unix:{path}")) as proxy:
        assert ask_once(path, binary() + request()) == b"told"
        assert proxy.stats().rejected["proxy_header_missing"] == 0
    with penstock.Proxy(configuration(senders=["127.0.0.1"], bind=f"unix:{path}")):
        assert ask_once(path, request()) == b"other"


def test_clients_are_limited_by_who_they_are() -> None:
    with penstock.Proxy(configuration(limits={"connections_per_client": 1})) as proxy:
        with connect(proxy.address()) as first, connect(proxy.address()) as second, connect(proxy.address()) as third:
            first.sendall(LINE + request())
            assert answer(first) == b"told"
            second.sendall(binary("203.0.113.10") + request())
            assert answer(second) == b"other"
            third.sendall(binary() + request())
            assert read_all(third).startswith(b"HTTP/1.1 503 ")
        wait_for(lambda: ask_once(proxy.address(), LINE + request()) == b"told", "the place was given back")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_endpoints_are_told_who_connected(version: Any) -> None:
    with (
        Recorder(version) as app,
        penstock.Proxy(forwarding(app, proxy_protocol=version)) as proxy,
        connect(proxy.address()) as sock,
    ):
        (host, port), (_, own) = sock.getsockname(), proxy.address()
        sock.sendall(request())
        assert answer(sock) == b"ok"
        sock.sendall(request(path="/again"))
        assert answer(sock) == b"ok"
    if version == "v1":
        assert app.headers == [f"PROXY TCP4 {host} 127.0.0.1 {port} {own}\r\n".encode()]
    else:
        ends = socket.inet_aton(host) + socket.inet_aton("127.0.0.1") + port.to_bytes(2) + own.to_bytes(2)
        assert app.headers == [SIGNATURE + b"\x21\x11\0\x0c" + ends]
    assert len(app.heads[0]) == 2


def test_connections_to_endpoints_are_never_shared() -> None:
    listener = {"proxy_protocol": {"from": ["127.0.0.1"]}}
    with Recorder("v2") as app, penstock.Proxy(forwarding(app, listener, proxy_protocol="v2")) as proxy:
        clients = [f"203.0.113.{number % 3}" for number in range(9)]
        for client in clients:
            assert ask_once(proxy.address(), binary(client) + request(f"X-Client: {client}")) == b"ok"
        # What came in by a header goes on by one: both ends of it, and the ports.
        assert set(app.headers) == {binary(client) for client in clients}
        for header, heads in zip(app.headers, app.heads, strict=True):
            client = socket.inet_ntoa(header[16:20]).encode()
            assert all(b"X-Client: " + client in head for head in heads), header
        assert app.requests == len(clients)
        assert len(app.headers) == 3, "a client's own connection is used again"
        assert ask_once(proxy.address(), LOCAL + request()) == b"ok"
        assert len(app.headers) == 4


def test_of_one_connection_each_client_has_its_own() -> None:
    with Recorder("v1") as app:
        config = forwarding(app, {"trusted_proxies": ["127.0.0.1"]}, proxy_protocol="v1")
        with penstock.Proxy(config) as proxy, connect(proxy.address()) as sock:
            for client in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "2001:db8::7"):
                sock.sendall(request(f"X-Forwarded-For: {client}"))
                assert answer(sock) == b"ok"
    words = [header.split(b" ") for header in app.headers]
    assert [(family, source) for _, family, source, *_ in words] == [
        (b"TCP4", b"192.0.2.1"),
        (b"TCP4", b"192.0.2.2"),
        (b"TCP6", b"2001:db8::7"),
    ]
    assert [len(heads) for heads in app.heads] == [2, 1, 1]


def test_it_goes_before_tls_to_endpoints(tmp_path: Path) -> None:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = {"ca": str(tmp_path / "ca.pem"), "name": "origin.internal"}
    with (
        Recorder("v2", origin_context("origin.internal")) as app,
        penstock.Proxy(forwarding(app, proxy_protocol="v2", tls=tls)) as proxy,
    ):
        assert ask_once(proxy.address(), request()) == b"ok"
    assert app.headers[0].startswith(SIGNATURE + b"\x21\x11")


@pytest.mark.parametrize(("version", "header"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", LOCAL)])
def test_probes_speak_for_nobody(version: Any, header: bytes) -> None:
    check = {"path": "/healthz", "interval": "50ms", "timeout": "5s", "start": "down"}
    with Recorder(version) as app, penstock.Proxy(forwarding(app, proxy_protocol=version, health_check=check)) as proxy:
        wait_for(lambda: app.requests >= 2, "two probes")
        wait_for(lambda: ask_once(proxy.address(), request()) == b"ok", "the endpoint is up")
    assert app.headers[0] == header
