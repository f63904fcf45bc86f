"""A listener of "forward": whatever server the client names, by request and by tunnel."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.product.forwarding import answered, ask, config, fields, say, status, whole
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, Refusal, connect, is_break_passed_on

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def proxy() -> Iterator[penstock.Proxy]:
    """One whose clients may reach this machine."""
    with penstock.Proxy(config(connect_ports=["1024-65535"])) as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PROPFIND"])
def test_a_request_goes_to_the_server_that_its_url_names(proxy: penstock.Proxy, scripted: Origin, method: str) -> None:
    client = connect(proxy.address("out"))
    body = "Content-Length: 3\r\n\r\nabc" if method == "POST" else "\r\n"
    client.send(f"{method} http://{scripted.address}//a/./b?x=%7e HTTP/1.1\r\nHost: other\r\n{body}".encode())
    head = answered(scripted, b"" if method == "HEAD" else b"hi")
    client.read_until(whole)
    assert status(bytes(client.received)) == 200
    # The path is the origin's affair, and the URL says who is asked, not the client's Host (RFC 9112 §3.2.2).
    assert head.startswith(f"{method} //a/./b?x=%7e HTTP/1.1\r\nhost: {scripted.address}\r\n".encode())
    assert head.endswith(b"abc" if method == "POST" else b"\r\n\r\n")


def test_an_origin_hears_nothing_of_the_client(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    client.send(
        f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"
        "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic dTpw\r\nAccept: */*\r\n\r\n".encode()
    )
    got = fields(answered(scripted))
    via = got.pop("via")
    assert via.startswith("1.1 penstock-")
    assert got == {"host": scripted.address, "accept": "*/*"}


def test_connections_to_origins_are_kept_and_made_anew_when_they_were_closed(
    proxy: penstock.Proxy, scripted: Origin
) -> None:
    client = connect(proxy.address("out"))
    for turn in range(3):
        client.received.clear()
        client.send(f"GET http://{scripted.address}/{turn} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert answered(scripted).startswith(b"GET /%d " % turn)
        client.read_until(whole)
    assert len(scripted.accept_all()) == 1
    scripted.connections[0].close()
    client.received.clear()
    client.send(f"GET http://{scripted.address}/new HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert answered(scripted, number=2).startswith(b"GET /new ")
    client.read_until(whole)
    assert status(bytes(client.received)) == 200


def test_a_tunnel_passes_bytes_both_ways(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    # What is sent ahead of the answer is for the other end, too.
    client.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n\x16early".encode())
    behind = scripted.connection(1)
    behind.read_until(lambda got: got == b"\x16early")
    client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    assert bytes(client.received) == b"HTTP/1.1 200 Connection established\r\n\r\n"
    large = bytes(range(256)) * 8192
    behind.send(large)
    client.received.clear()
    client.read_until(lambda got: len(got) == len(large))
    assert bytes(client.received) == large
    client.half_close()
    behind.read_until(lambda _: False)
    behind.send(b"last words")
    behind.half_close()
    client.read_until(lambda _: False)
    assert bytes(client.received).endswith(b"last words")
    wait_for(lambda: proxy.stats().listeners[0].connections == 0, "the tunnel has ended")


def opened(proxy: penstock.Proxy, scripted: Origin) -> tuple[Connection, Connection]:
    """Both ends of a tunnel."""
    client = connect(proxy.address("out"))
    client.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    client.received.clear()
    return client, scripted.connection(1)


@pytest.mark.parametrize("who", ["client", "origin"])
def test_a_tunnel_that_breaks_ends_in_no_order(proxy: penstock.Proxy, scripted: Origin, who: str) -> None:
    client, behind = opened(proxy, scripted)
    one, other = (client, behind) if who == "client" else (behind, client)
    assert is_break_passed_on(one, other)
    wait_for(lambda: proxy.stats().listeners[0].connections == 0, "the tunnel has ended")


def test_nobody_waits_for_a_tunnel_that_moves_nothing(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    settings = config(connect_ports=["1024-65535"], timeouts={"tunnel": "1s"})
    with penstock.Proxy(settings | {"log": {"access": {"to": str(log)}}}) as proxy:
        client, behind = opened(proxy, scripted)
        client.send(b"12345")
        behind.send(b"123")
        client.read_until(lambda _: False)
        behind.read_until(lambda _: False)
        wait_for(lambda: log.exists() and log.read_text().endswith("\n"), "it is in the log")
    row = json.loads(log.read_text())
    assert (row["cause"], row["status"]) == ("tunnel_idle", 200)
    answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert row["bytes_out"] == len(answer) + 3
    request = f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n"
    assert row["bytes_in"] == len(request) + 5


def test_what_goes_out_is_captured(scripted: Origin) -> None:
    settings = config(connect_ports=["1024-65535"], capture={"match": 'host == "127.0.0.1"', "memory": "1MB"})
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
        behind = scripted.connection(1)
        behind.send(b"not HTTP")
        client.read_until(lambda got: got.endswith(b"not HTTP"))
        client.close()
        behind.close()
        client = connect(proxy.address("out"))
        client.send(f"GET http://{scripted.address}/x HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        answered(scripted, number=2)
        client.read_until(whole)
        wait_for(lambda: captured(proxy) == 2, "both are kept")


def captured(proxy: penstock.Proxy) -> int:
    """Exchanges that the listener keeps."""
    found = proxy.stats().listeners[0].capture
    assert found is not None
    return found.entries


def test_an_upgrade_passes(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    client.send(
        f"GET http://{scripted.address}/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\n".encode()
    )
    behind = scripted.connection(1)
    behind.read_until(lambda got: b"\r\n\r\n" in got)
    assert b"upgrade: raw\r\n" in behind.received
    behind.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: raw\r\n\r\nhello")
    client.read_until(lambda got: got.endswith(b"hello"))
    assert status(bytes(client.received)) == 101


def test_what_cannot_be_reached_is_told(proxy: penstock.Proxy) -> None:
    with closing(Refusal()) as refusal:
        assert status(ask(proxy, f"GET http://{refusal.address}/")) == 502
        assert status(ask(proxy, f"CONNECT {refusal.address}")) == 502
    assert status(ask(proxy, "GET http://no-such-name.invalid/")) == 502
    failures = proxy.stats().failures
    assert (failures["connect_refused"], failures["name_unresolved"]) == (2, 1)


def test_a_request_without_a_url_is_none_for_a_proxy(proxy: penstock.Proxy) -> None:
    assert status(ask(proxy, "GET /no-page-of-ours")) == 404
    assert status(ask(proxy, "CONNECT a:443", "Content-Length: 1")) == 400


def test_a_name_is_asked_for_by_the_proxy(scripted: Origin) -> None:
    with penstock.Proxy(config()) as proxy:
        client = connect(proxy.address("out"))
        port = scripted.address.rpartition(":")[2]
        client.send(f"GET http://LOCALHOST.:{port}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert fields(answered(scripted))["host"] == f"localhost:{port}"
        client.read_until(whole)


def test_the_log_says_where_requests_went(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    settings = config(connect_ports=["1024-65535"]) | {"log": {"access": {"to": str(log)}}}
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"GET http://u:secret@{scripted.address}/x HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert "authorization" not in fields(answered(scripted))
        client.read_until(whole)
        assert status(say(client, "GET http://127.0.0.1:22/ HTTP/1.1\r\nHost: a\r\n\r\n")) == 403
        client.close()
        tunnel = connect(proxy.address("out"))
        tunnel.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        tunnel.read_until(lambda got: got.endswith(b"\r\n\r\n"))
        tunnel.close()
        scripted.connection(2).read_until(lambda _: False)
        scripted.connection(2).close()
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 3, "all three are in the log")
    assert "secret" not in log.read_text()
    rows: dict[str, dict[str, Any]] = {row["target"]: row for row in map(json.loads, log.read_text().splitlines())}
    asked = rows[f"http://{scripted.address}/x"]
    assert (asked["listener"], asked["endpoint"], asked["status"]) == ("out", scripted.address, 200)
    assert rows["http://127.0.0.1:22/"]["cause"] == "port_forbidden"
    assert (rows[scripted.address]["method"], rows[scripted.address]["status"]) == ("CONNECT", 200)


def test_a_reload_keeps_tunnels_and_takes_new_rules(scripted: Origin) -> None:
    with penstock.Proxy(config(connect_ports=["1024-65535"])) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
        proxy.apply(config(allow_private=False, connect_ports=["1024-65535"]))
        assert status(ask(proxy, f"CONNECT {scripted.address}")) == 403
        scripted.connection(1).send(b"still here")
        client.read_until(lambda got: got.endswith(b"still here"))


def test_what_a_forward_proxy_cannot_have_is_refused() -> None:
    settings = config(
        upstream="x", h2c=True, connect_ports=[0, "9-1", "x"], allow_clients=["10.0.0.0/33"], https_redirect=True
    )
    settings["routes"] = [{"listeners": ["out"], "respond": {"status": 204}}]
    settings["listeners"]["web"] = {"bind": "127.0.0.1:0", "allow_private": True}
    with pytest.raises(penstock.ConfigError) as refused, penstock.Proxy(settings):
        pass
    told = str(refused.value)
    for place in (
        "listeners.out.upstream",
        "listeners.out.h2c",
        "listeners.out.connect_ports[0]",
        "listeners.out.connect_ports[1]",
        "listeners.out.connect_ports[2]",
        "listeners.out.allow_clients[0]",
        "listeners.out.https_redirect",
        "routes[0].listeners[0]",
        "listeners.web.allow_private",
    ):
        assert place in told, (place, told)
