"""One port for TLS that is passed on and TLS that is opened: "tcp" hands to "http" what no route takes."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.announced import CLIENT, LINE, binary
from tests.certificates import answer, ask, authority, context, secure, write
from tests.product.test_server_names import asked, person
from tests.product.test_sni import arrives, hello, in_records
from tests.product.test_tcp_programs import program
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def config(folder: Path, mail: Origin, **more: Any) -> dict[str, Any]:
    """Mail is passed on, everything else is a web site's."""
    web = {"tls": {"certificates": [write(folder, "shop", "shop.example", "admin.example")]}}
    return {
        "listeners": {
            "db": {"bind": "127.0.0.1:0", "protocol": "tcp", "http": "web", **more.get("db", {})},
            "web": {**web, **more.get("web", {})},
        },
        "upstreams": {"mail": {"endpoints": [mail.address]}},
        "routes": [
            {"listeners": ["db"], "match": 'sni == "mail.example"', "upstream": "mail"},
            {"match": 'path == "/who"', "respond": {"body": "{client.ip} {sni}", "template": True}},
            {"respond": {"body": "shop"}},
        ],
        "engine": {"workers": 1},
    }


def in_pieces(address: tuple[str, int], *cuts: int, before: bytes = b"", trust: ssl.SSLContext | None = None) -> bytes:
    """One request over TLS whose first message is sent in pieces, and its answer's body."""
    with socket.create_connection(address, 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        come, said = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = (trust or context()).wrap_bio(come, said, server_hostname="shop.example")
        sock.sendall(before)
        first = True
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                out = said.read()
                for start, end in zip((0, *cuts), (*cuts, len(out)), strict=True) if first else ((0, len(out)),):
                    sock.sendall(out[start:end])
                first = False
                come.write(sock.recv(65_536) or _cut())
        tls.write(b"GET /who HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        sock.sendall(said.read())
        while True:
            try:
                return tls.read(65_536).partition(b"\r\n\r\n")[2]
            except ssl.SSLWantReadError:
                come.write(sock.recv(65_536) or _cut())


def _cut() -> bytes:
    raise ConnectionError("it ended before the answer")


def test_a_name_decides_whether_it_is_passed_on_or_opened(scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with penstock.Proxy({**config(tmp_path, scripted), "log": {"access": {"to": str(log)}}}) as proxy:
        address = proxy.address("db")
        arrives(proxy, scripted, hello("mail.example", "h2"))
        with secure(address) as sock:
            assert [ask(sock), ask(sock, "/who")] == [b"shop", b"127.0.0.1 shop.example"]
        arrives(proxy, scripted, in_records(hello("mail.example"), 7))
        # Resumed, and with TLS 1.2.
        for options in ({}, {"maximum_version": ssl.TLSVersion.TLSv1_2}):
            with secure(address, trust=context(**options)) as sock:
                assert ask(sock) == b"shop"
        with secure(address, None, trust=context(check_hostname=False)) as sock:
            assert ask(sock) == b"shop"
        passed, opened = proxy.stats().listeners
        assert (passed.protocol, passed.accepted, opened.protocol, opened.accepted, opened.handshakes) == (
            "tcp",
            6,
            "http",
            4,
            4,
        )
        wait_for(lambda: proxy.stats().listeners[1].connections == 0, "all have ended")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert {record["sni"] for record in records if record["listener"] == "web"} == {"shop.example", ""}


def test_what_was_read_already_is_lost_in_no_way_that_it_may_come(scripted: Origin, tmp_path: Path) -> None:
    with penstock.Proxy(config(tmp_path, scripted)) as proxy:
        for cuts in ((), (1,), (5, 6), (5, 9, 43, 44), tuple(range(1, 60))):
            assert in_pieces(proxy.address("db"), *cuts) == b"127.0.0.1 shop.example"
        assert in_pieces(proxy.address("db"), 3, trust=context(maximum_version=ssl.TLSVersion.TLSv1_2))


def test_http2_is_agreed_on_there(scripted: Origin, tmp_path: Path) -> None:
    with penstock.Proxy(config(tmp_path, scripted)) as proxy:
        trust = context()
        trust.set_alpn_protocols(["h2", "http/1.1"])
        with secure(proxy.address("db"), trust=trust) as sock:
            assert sock.selected_alpn_protocol() == "h2"
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            assert sock.recv(9)[3] == 4


def test_what_is_asked_of_clients_by_name_holds(scripted: Origin, tmp_path: Path) -> None:
    shown = person(tmp_path)
    more = {"names": {"admin.example": asked(tmp_path)}}
    plan = config(tmp_path, scripted)
    authority().cert_pem.write_to_path(tmp_path / "clients.pem")
    plan["listeners"]["web"]["tls"] |= more
    with penstock.Proxy(plan) as proxy:
        trust = context()
        with secure(proxy.address("db"), trust=trust) as sock:
            assert ask(sock) == b"shop"
        with pytest.raises((ssl.SSLError, ConnectionError)), secure(proxy.address("db"), "admin.example") as sock:
            ask(sock)
        trust.load_cert_chain(shown)
        with secure(proxy.address("db"), "admin.example", trust=trust) as sock:
            assert ask(sock) == b"shop"


def test_what_is_no_tls_is_what_it_is_on_that_listener(scripted: Origin, tmp_path: Path) -> None:
    with penstock.Proxy(config(tmp_path, scripted)) as proxy:
        with socket.create_connection(proxy.address("db"), 10) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            assert sock.recv(65_536).startswith(b"HTTP/1.1 400 ")
        assert proxy.stats().rejected["plain_on_tls"] == 1
        arrives(proxy, scripted, hello("mail.example"))


def test_a_proxy_in_front_says_who_the_client_is(scripted: Origin, tmp_path: Path) -> None:
    plan = config(tmp_path, scripted, db={"proxy_protocol": {"from": ["127.0.0.1"]}})
    with penstock.Proxy(plan) as proxy:
        for header in (LINE, binary()):
            assert in_pieces(proxy.address("db"), 30, before=header) == f"{CLIENT} shop.example".encode()
        client = connect(proxy.address("db"))
        client.send(LINE + hello("mail.example"))
        scripted.connection(1).read_until(lambda got: got.startswith(b"\x16\x03"))


def test_the_limits_of_both_hold(scripted: Origin, tmp_path: Path) -> None:
    with penstock.Proxy(config(tmp_path, scripted, web={"limits": {"connections": 1}})) as proxy:
        with secure(proxy.address("db")) as kept:
            assert ask(kept) == b"shop"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                secure(proxy.address("db"))
            assert proxy.stats().rejected["too_many_connections"] == 1
            arrives(proxy, scripted, hello("mail.example"))
            assert ask(kept) == b"shop"
        wait_for(lambda: proxy.stats().listeners[1].connections == 0, "there is a place")
        with secure(proxy.address("db")) as sock:
            assert ask(sock) == b"shop"


def test_a_reload_that_hands_over_no_more_leaves_what_is_open(scripted: Origin, tmp_path: Path) -> None:
    plan = config(tmp_path, scripted)
    with penstock.Proxy(plan) as proxy:
        address = proxy.address("db")
        with secure(address) as kept:
            assert ask(kept) == b"shop"
            plan["listeners"]["web"]["bind"] = "127.0.0.1:0"
            del plan["listeners"]["db"]["http"]
            proxy.apply(plan)
            assert (proxy.address("db"), ask(kept)) == (address, b"shop")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                secure(address)
            with secure(proxy.address("web")) as sock:
                assert ask(sock) == b"shop"


def test_curl_reaches_the_site(scripted: Origin, tmp_path: Path) -> None:
    curl = program("curl")
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    with penstock.Proxy(config(tmp_path, scripted)) as proxy:
        host, port = proxy.address("db")
        words = [curl, "-s", "--cacert", str(tmp_path / "ca.pem"), "--resolve", f"shop.example:{port}:{host}"]
        done = subprocess.run([*words, f"https://shop.example:{port}/"], capture_output=True, timeout=20, check=False)
        assert (done.returncode, done.stdout) == (0, b"shop")


def test_a_body_goes_on_behind_the_handshake(scripted: Origin, tmp_path: Path) -> None:
    plan = config(tmp_path, scripted)
    with penstock.Proxy(plan) as proxy, secure(proxy.address("db")) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 40000\r\n\r\n" + b"x" * 40_000)
        assert answer(sock) == b"shop"
