"""TLS that ends at a listener of connections, and TLS to the endpoints behind one."""

from __future__ import annotations

import ssl
from contextlib import closing
from typing import TYPE_CHECKING, Any

from tests.certificates import authority, write
from tests.product.test_tcp import config
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def secured(folder: Path, *addresses: str) -> dict[str, Any]:
    """A listener that shows a certificate for shop.example."""
    shown = write(folder, "shop", "shop.example")
    return config(*addresses, tls={"certificates": [{"cert": shown["cert"], "key": shown["key"]}]})


def trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority().configure_trust(context)
    return context


def test_the_endpoint_gets_what_was_inside(scripted: Origin, tmp_path: Path) -> None:
    with penstock.Proxy(secured(tmp_path, scripted.address)) as proxy:
        context = trust()
        context.set_alpn_protocols(["redis", "h2"])
        client = connect(proxy.address("db"), trust=context)
        assert client.sock.selected_alpn_protocol() is None  # type: ignore[attr-defined]
        client.send(b"PING\r\n")
        behind = scripted.read_until(lambda got: got == b"PING\r\n")
        behind.send(b"+PONG\r\n" * 20_000)
        behind.half_close()
        client.read_until(lambda _: False)
        assert (len(client.received), client.was_reset) == (140_000, False)
        client.close()
        assert proxy.stats().listeners[0].handshakes == 1


def test_the_name_of_the_handshake_decides(scripted: Origin, tmp_path: Path) -> None:
    with closing(Origin()) as shop:
        plan = secured(tmp_path, scripted.address)
        plan["upstreams"]["shop"] = {"endpoints": [shop.address]}
        plan["routes"] = [{"listeners": ["db"], "match": 'sni == "shop.example"', "upstream": "shop"}]
        with penstock.Proxy(plan) as proxy:
            client = connect(proxy.address("db"), trust=trust())
            client.send(b"hello")
            shop.read_until(lambda got: got == b"hello")
            client.close()


def test_what_is_no_handshake_reaches_no_endpoint(scripted: Origin, tmp_path: Path) -> None:
    with penstock.Proxy(secured(tmp_path, scripted.address)) as proxy:
        client = connect(proxy.address("db"))
        client.send(b"PING\r\n")
        client.read_until(lambda _: False)
        wait_for(lambda: proxy.stats().rejected["plain_on_tls"] == 1, "it is counted")
        assert scripted.accept_all() == []


def test_endpoints_are_spoken_to_with_tls(tmp_path: Path, leaf: dict[str, Any], ca: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"], leaf["key"])
    with closing(Origin(shows=context)) as origin:
        plan = config(origin.address)
        plan["upstreams"]["main"]["tls"] = {"ca": ca}
        with penstock.Proxy(plan) as proxy:
            client = connect(proxy.address("db"))
            client.send(b"in clear")
            behind = origin.read_until(lambda got: got == b"in clear")
            behind.send(b"answer")
            client.read_until(lambda got: got == b"answer")
            client.close()


def test_endpoints_are_offered_no_protocol(scripted: Origin) -> None:
    plan = config(scripted.address)
    plan["upstreams"]["main"]["tls"] = {"insecure": True}
    with penstock.Proxy(plan) as proxy:
        client = connect(proxy.address("db"))
        client.send(b"in clear")
        behind = scripted.read_until(lambda got: len(got) > 5 and len(got) >= 5 + int.from_bytes(got[3:5]))
        # What is spoken is not known: a server that takes one protocol alone would refuse another.
        assert b"http/1.1" not in behind.received
        assert b"in clear" not in behind.received
