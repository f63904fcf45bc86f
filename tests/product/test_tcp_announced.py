"""Connections of layer 4 that a proxy in front makes for somebody else: the PROXY protocol on listeners of "tcp"."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from tests.announced import CLIENT, LINE, LOCAL, binary
from tests.certificates import authority, write
from tests.product.test_sni import config as by_name
from tests.product.test_sni import hello, other
from tests.product.test_tcp import config, ended
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["other"]
SENDERS: dict[str, Any] = {"proxy_protocol": {"from": ["127.0.0.1"], "timeout": "1s"}}


def arrives(proxy: penstock.Proxy, origin: Origin, *pieces: bytes, as_: bytes) -> None:
    """What is said in these pieces comes to this origin like this, and an answer goes back."""
    before = len(origin.accept_all())
    client = connect(proxy.address("db"))
    client.send(*pieces)
    behind = origin.connection(before + 1)
    behind.read_until(lambda got: got == as_)
    behind.send(b"answer")
    client.read_until(lambda got: got == b"answer")
    client.close()


@pytest.mark.parametrize(
    "header", [LINE, binary(), binary(tlvs=b"\x04\x0f\xf1" + bytes(4081))], ids=["v1", "v2", "longest"]
)
def test_the_client_is_whom_the_header_names(scripted: Origin, header: bytes, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    plan = {**config(scripted.address, **SENDERS), "log": {"access": {"to": str(log)}}}
    plan["listeners"]["db"]["upstream"] = "nowhere"
    plan["upstreams"]["nowhere"] = {"endpoints": ["127.0.0.1:1"]}
    match = f'client.ip == "{CLIENT}" and client.port == 40000'
    plan["routes"] = [{"listeners": ["db"], "match": match, "upstream": "main"}]
    with penstock.Proxy(plan) as proxy:
        arrives(proxy, scripted, header + b"\x00hello", as_=b"\x00hello")
        arrives(proxy, scripted, header, b"hello", as_=b"hello")
        arrives(proxy, scripted, *(header[at : at + 1] for at in range(40)), header[40:] + b"hello", as_=b"hello")
        scripted.connections[-1].close()
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= 1, "they are logged")
    assert {json.loads(line)["client"] for line in log.read_text().splitlines()} == {CLIENT}


def test_the_endpoint_is_told_of_that_client(scripted: Origin) -> None:
    plan = config(scripted.address, **SENDERS)
    plan["upstreams"]["main"]["proxy_protocol"] = "v1"
    with penstock.Proxy(plan) as proxy:
        arrives(proxy, scripted, binary() + b"hello", as_=LINE + b"hello")
        # Who speaks for nobody is the client.
        client = connect(proxy.address("db"))
        client.send(LOCAL + b"hello")
        behind = scripted.connection(2)
        behind.read_until(lambda got: got.endswith(b"hello"))
        assert bytes(behind.received).startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")


def test_others_have_no_header_and_what_they_send_is_passed_on(scripted: Origin) -> None:
    plan = config(scripted.address, proxy_protocol={"from": ["192.0.2.1"]})
    plan["upstreams"]["main"]["proxy_protocol"] = "v1"
    with penstock.Proxy(plan) as proxy:
        client = connect(proxy.address("db"), source="127.0.0.7")
        client.send(LINE)
        behind = scripted.read_until(lambda got: got.endswith(LINE))
        assert bytes(behind.received).startswith(b"PROXY TCP4 127.0.0.7 ")


@pytest.mark.safety(137)
@pytest.mark.parametrize(
    ("said", "word"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "proxy_header_missing"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "proxy_header_bad"),
        (binary(length=65535), "proxy_header_bad"),
        (binary(tlvs=b"\x02\xff\xffa"), "proxy_header_bad"),
        (LINE[:-1], "proxy_header_timeout"),
        (b"", "proxy_header_timeout"),
    ],
    ids=["none", "cut", "65535", "TLV", "half", "silence"],
)
def test_what_is_no_header_gets_a_reset(scripted: Origin, said: bytes, word: str) -> None:
    with penstock.Proxy(config(scripted.address, **SENDERS)) as proxy:
        client = connect(proxy.address("db"))
        client.send(said)
        client.read_until(lambda _: False)
        assert (bytes(client.received), client.was_reset) == (b"", True)
        wait_for(lambda: ended(proxy, "failed") == 1, "it is counted")
        assert proxy.stats().rejected[word] == 1
        arrives(proxy, scripted, LINE + b"hello", as_=b"hello")
        assert len(scripted.accept_all()) == 1


def test_each_client_behind_the_proxy_is_counted_for_itself(scripted: Origin) -> None:
    with penstock.Proxy(config(scripted.address, **SENDERS, limits={"connections_per_client": 1})) as proxy:
        kept = [connect(proxy.address("db")) for _ in range(2)]
        for client, number in zip(kept, (1, 2), strict=True):
            client.send(binary(f"203.0.113.{number}") + b"x")
            scripted.connection(number).read_until(lambda got: got == b"x")
        third = connect(proxy.address("db"))
        third.send(binary("203.0.113.2") + b"x")
        third.read_until(lambda _: False)
        assert third.was_reset
        assert proxy.stats().rejected["too_many_per_client"] == 1
        kept[1].reset()
        wait_for(lambda: proxy.stats().listeners[0].connections == 1, "there is a place")
        arrives(proxy, scripted, binary("203.0.113.2") + b"x", as_=b"x")
        # Who may not connect for others has a limit of its own.
        another = connect(proxy.address("db"), source="127.0.0.2")
        another.send(b"me")
        scripted.read_until(lambda got: got == b"me")


def test_it_comes_before_the_hello_that_decides(scripted: Origin, other: Origin) -> None:
    with penstock.Proxy(by_name(scripted, other, **SENDERS)) as proxy:
        said = hello("shop.example")
        arrives(proxy, scripted, LINE + said, as_=said)
        arrives(proxy, scripted, LINE, said, as_=said)
        said = hello("elsewhere.example")
        arrives(proxy, other, binary() + said, as_=said)


def test_it_comes_before_tls_that_ends_here(scripted: Origin, tmp_path: Path) -> None:
    tls = {"certificates": [write(tmp_path, "shop", "shop.example")]}
    with penstock.Proxy(config(scripted.address, **SENDERS, tls=tls)) as proxy:
        client = connect(proxy.address("db"))
        client.send(binary())
        trust = ssl.create_default_context()
        authority().configure_trust(trust)
        client.sock.settimeout(10)
        with trust.wrap_socket(client.sock, server_hostname="shop.example") as secured:
            secured.sendall(b"secret")
            scripted.read_until(lambda got: got == b"secret")
