"""TLS that is passed on unopened, by the names in its first message."""

from __future__ import annotations

import json
import ssl
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import authority, write
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def config(shop: Origin, other: Origin, **listener: Any) -> dict[str, Any]:
    """Those who ask for the shop, for a protocol, and all others."""
    return {
        "listeners": {"db": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "other", **listener}},
        "upstreams": {"shop": {"endpoints": [shop.address]}, "other": {"endpoints": [other.address]}},
        "routes": [
            {"name": "shop", "listeners": ["db"], "match": 'sni == "shop.example"', "upstream": "shop"},
            {"name": "acme", "listeners": ["db"], "match": 'alpn == "acme-tls/1"', "upstream": "shop"},
        ],
        "engine": {"workers": 1},
    }


def hello(host: str | None, *alpn: str, most: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> bytes:
    """What a client of OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = host is not None
    context.maximum_version = most
    if alpn:
        context.set_alpn_protocols(list(alpn))
    said = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), said, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return said.read()


def in_records(said: bytes, size: int) -> bytes:
    """The same message in records of so many bytes."""
    body = said[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(said[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def arrives(proxy: penstock.Proxy, origin: Origin, *pieces: bytes) -> None:
    """What is said in these pieces comes to this origin, byte for byte."""
    before = len(origin.accept_all())
    client = connect(proxy.address("db"))
    client.send(*pieces)
    behind = origin.connection(before + 1)
    behind.read_until(lambda got: got == b"".join(pieces))
    behind.send(b"answer")
    client.read_until(lambda got: got == b"answer")
    client.close()


@pytest.fixture
def other() -> Any:
    with closing(Origin()) as origin:
        yield origin


def test_a_host_or_a_protocol_decides_and_the_bytes_stay_as_they_are(scripted: Origin, other: Origin) -> None:
    with penstock.Proxy(config(scripted, other)) as proxy:
        arrives(proxy, scripted, hello("shop.example"))
        arrives(proxy, scripted, hello("SHOP.example", "h2"))
        arrives(proxy, scripted, hello("shop.example", most=ssl.TLSVersion.TLSv1_2))
        arrives(proxy, scripted, hello("elsewhere.example", "acme-tls/1"))
        arrives(proxy, other, hello("elsewhere.example", "h2", "acme-tls/1"))
        arrives(proxy, other, hello(None))
        arrives(proxy, other, b"GET / HTTP/1.1\r\n\r\n")
        arrives(proxy, other, b"\0")


def test_pieces_and_records_make_no_difference(scripted: Origin, other: Origin) -> None:
    with penstock.Proxy(config(scripted, other)) as proxy:
        said = hello("shop.example", "h2")
        for cut in (1, 4, 5, 6, 43, len(said) - 1):
            arrives(proxy, scripted, said[:cut], said[cut:])
        arrives(proxy, scripted, *(said[at : at + 1] for at in range(60)), said[60:])
        for size in (1, 7, 64):
            arrives(proxy, scripted, in_records(said, size))


def test_the_handshake_is_between_client_and_endpoint(other: Origin, tmp_path: Path) -> None:
    shown = write(tmp_path, "shop", "shop.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown["cert"], shown["key"])
    trust = ssl.create_default_context()
    authority().configure_trust(trust)
    log = tmp_path / "access.log"
    with closing(Origin()) as shop:
        plan = {**config(shop, other), "log": {"access": {"to": str(log)}}}
        with penstock.Proxy(plan) as proxy:
            clients: list[Connection] = []
            thread = threading.Thread(target=lambda: clients.append(connect(proxy.address("db"), trust=trust)))
            thread.start()
            behind = shop.connection(1)
            behind.sock.settimeout(10)
            tls = context.wrap_socket(behind.sock, server_side=True)
            thread.join(10)
            clients[0].send(b"secret")
            assert tls.recv(6) == b"secret"
            tls.sendall(b"answer")
            clients[0].read_until(lambda got: got == b"answer")
            clients[0].close()
            tls.close()
            behind.close()
            wait_for(lambda: log.exists() and log.read_text(), "it is logged")
    record = json.loads(log.read_text())
    assert (record["sni"], record["route"], record["upstream"]) == ("shop.example", "shop", "shop")


def test_who_says_nothing_or_half_is_let_go(scripted: Origin, other: Origin) -> None:
    with penstock.Proxy(config(scripted, other, timeouts={"hello": "200ms"})) as proxy:
        said = hello("shop.example")
        for part in (b"", said[:1], said[:80]):
            client = connect(proxy.address("db"))
            client.send(part)
            client.read_until(lambda _: False)
            assert client.was_reset
        assert proxy.stats().rejected["tls_timeout"] == 3
        gone = connect(proxy.address("db"))
        gone.send(said[:80])
        gone.close()
        wait_for(lambda: proxy.stats().rejected["client_closed"] == 1, "one went away")
        assert (scripted.accept_all(), other.accept_all()) == ([], [])


def test_what_is_endless_or_ambiguous_is_refused(scripted: Origin, other: Origin) -> None:
    said = hello("shop.example")
    at = said.index(b"shop.example")
    wrong = [
        b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\0" * 16380,
        in_records(b"\x16\x03\x01\0\0\x01\0\x3f\xff" + b"\0" * 16383, 64),
        said[:at] + b"shop\0xample" + said[at + 11 :],
        b"\x16\x03\x01\0\0" * 100,
        b"\x16\x02\0",
    ]
    with penstock.Proxy(config(scripted, other)) as proxy:
        for number, bytes_ in enumerate(wrong, 1):
            client = connect(proxy.address("db"))
            client.send(bytes_)
            client.read_until(lambda _: False)
            assert client.was_reset
            assert proxy.stats().rejected["tls_failed"] == number
        assert (scripted.accept_all(), other.accept_all()) == ([], [])
        arrives(proxy, scripted, said)


def test_without_an_upstream_of_its_own_others_are_refused(scripted: Origin, other: Origin) -> None:
    plan = config(scripted, other)
    del plan["listeners"]["db"]["upstream"], plan["upstreams"]["other"]
    with penstock.Proxy(plan) as proxy:
        client = connect(proxy.address("db"))
        client.send(hello("elsewhere.example"))
        client.read_until(lambda _: False)
        assert client.was_reset
        assert proxy.stats().failures["no_route"] == 1
        arrives(proxy, scripted, hello("shop.example"))


def test_where_nothing_asks_for_a_name_nothing_is_waited_for(scripted: Origin, other: Origin) -> None:
    plan = config(scripted, other)
    plan["routes"] = [{"listeners": ["db"], "match": 'client.ip == "127.0.0.9"', "upstream": "shop"}]
    with penstock.Proxy(plan) as proxy:
        client = connect(proxy.address("db"))
        behind = other.connection(1)
        behind.send(b"+OK ready\r\n")
        client.read_until(lambda got: got == b"+OK ready\r\n")
