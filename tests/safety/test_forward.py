"""What a forward proxy does for nobody, and where it does not go: cases 147 to 154."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import penstock
from tests.product.forwarding import answered, ask, config, fields, status, whole
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import Origin, connect

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def strict() -> Iterator[penstock.Proxy]:
    """A forward proxy as it is without a word more."""
    with penstock.Proxy(config(allow_private=False)) as running:
        yield running


@pytest.mark.safety(147)
@pytest.mark.parametrize(
    ("client", "allowed", "served"),
    [
        ("192.0.2.7", [], False),
        ("10.1.2.3", [], False),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("192.0.2.7", ["10.0.0.0/8"], False),
    ],
)
@pytest.mark.parametrize("line", ["GET http://{}/", "CONNECT {}"])
def test_only_clients_that_are_named_are_served(client: str, allowed: list[str], served: bool, line: str) -> None:
    with closing(Origin()) as origin:
        settings = config(
            allow_clients=allowed, connect_ports=["1-65535"], proxy_protocol={"from": ["127.0.0.1"], "timeout": "5s"}
        )
        with penstock.Proxy(settings) as proxy:
            raw = connect(proxy.address("out"))
            target = line.format(origin.address)
            raw.send(f"PROXY TCP4 {client} 127.0.0.1 4000 3128\r\n{target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            if served and target.startswith("GET"):
                answered(origin)
            raw.read_until(whole)
            assert status(bytes(raw.received)) == (200 if served else 403)
            assert len(origin.accept_all()) == int(served)


@pytest.mark.safety(148)
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[::127.0.0.1]",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "localhost",
    ],
)
@pytest.mark.parametrize("line", ["GET http://{}/", "GET https://{}/", "CONNECT {}:443"])
def test_addresses_inside_are_not_reached(strict: penstock.Proxy, host: str, line: str) -> None:
    answer = ask(strict, line.format(host))
    assert status(answer) == 403
    # What a name stands for is not told to who may not go there.
    assert host.encode() not in answer
    assert strict.stats().rejected["address_forbidden"] > 0


@pytest.mark.safety(148, 154)
@pytest.mark.parametrize("line", ["GET http://{}:{}/", "CONNECT {}:{}"])
@pytest.mark.parametrize("bind", ["127.0.0.1:0", ":0"])
def test_our_own_listeners_are_not_reached_whatever_is_allowed(line: str, bind: str) -> None:
    settings = config(bind=bind, connect_ports=["1-65535"])
    settings["listeners"]["web"] = {"bind": bind}
    settings["routes"] = [{"respond": {"body": "inside"}}]
    with penstock.Proxy(settings) as proxy:
        for name in ("out", "web"):
            port = proxy.address(name)[1]
            for host in ("127.0.0.1", "[::ffff:127.0.0.1]"):
                assert status(ask(proxy, line.format(host, port))) == 403, (name, host)
            # Where we listen at one of its addresses alone, nobody does at the other.
            assert status(ask(proxy, line.format("localhost", port))) in (403, 502), name
        assert proxy.stats().listeners[1].accepted == 0


@pytest.mark.safety(148, 154)
@pytest.mark.parametrize("line", ["GET http://{}/status", "CONNECT {}"])
def test_the_admin_listener_is_not_reached_whatever_is_allowed(line: str) -> None:
    settings = config(connect_ports=["1-65535"]) | {"admin": {"bind": "127.0.0.1:0"}}
    with penstock.Proxy(settings) as proxy:
        assert proxy.admin
        assert status(ask(proxy, line.format(proxy.admin))) == 403
        assert proxy.stats().rejected["address_forbidden"] == 1


@pytest.mark.safety(149)
@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "127.0.0.1.",
        "localhost.",
        "LOCALHOST",
        "127\u30020\u30020\u30021",
        "127\uff0e1",
        "localhost\uff61",
    ],
)
@pytest.mark.parametrize("line", ["GET http://{}/", "GET https://{}/", "CONNECT {}:443"])
def test_addresses_in_disguise_are_known(strict: penstock.Proxy, host: str, line: str) -> None:
    assert status(ask(strict, line.format(host))) == 403


@pytest.mark.safety(150)
def test_a_name_is_judged_by_the_address_that_is_connected_to() -> None:
    """Forbidden here is the proxy's own address; the same port of another loopback address is not."""
    with NameServer("127.0.0.2") as names:
        settings = config(origins={"limits": {"idle_connections": 0}}) | {"dns": {"servers": [names.address]}}
        with penstock.Proxy(settings) as proxy:
            port = proxy.address("out")[1]
            with closing(_origin_at("127.0.0.2", port)) as origin:
                assert _get(proxy, origin, f"rebind.example:{port}") == 200
                asked = names.asked
                assert _get(proxy, origin, f"rebind.example:{port}") == 200
                assert names.asked == asked + 1, "a connection asks once"
                names.addresses = ("127.0.0.1",)
                assert status(ask(proxy, f"GET http://rebind.example:{port}/")) == 403
                names.addresses = ("127.0.0.1", "127.0.0.2")
                assert _get(proxy, origin, f"rebind.example:{port}") == 200


@pytest.mark.safety(150)
def test_a_name_of_an_address_inside_leads_nowhere(scripted: Origin) -> None:
    with NameServer("127.0.0.1") as names:
        settings = config(allow_private=False) | {"dns": {"servers": [names.address]}}
        with penstock.Proxy(settings) as proxy:
            port = scripted.address.rpartition(":")[2]
            assert status(ask(proxy, f"GET http://inside.example:{port}/")) == 403
        assert scripted.accept_all() == []


def _origin_at(host: str, port: int) -> Origin:
    class Placed(Origin):
        place = (host, port)

    return Placed()


def _get(proxy: penstock.Proxy, origin: Origin, place: str) -> int:
    client = connect(proxy.address("out"))
    client.send(f"GET http://{place}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    answered(origin, number=len(origin.connections) + 1)
    client.read_until(whole)
    client.close()
    return status(bytes(client.received))


@pytest.mark.safety(151)
@pytest.mark.parametrize("port", [22, 25, 80, 442, 444, 8443])
def test_tunnels_go_to_443_alone(strict: penstock.Proxy, port: int) -> None:
    assert status(ask(strict, f"CONNECT 192.0.2.1:{port}")) == 403
    assert strict.stats().rejected["port_forbidden"] > 0


@pytest.mark.safety(151)
@pytest.mark.parametrize("port", [22, 25, 110, 6667])
def test_requests_do_not_go_to_ports_of_other_protocols(strict: penstock.Proxy, port: int) -> None:
    assert status(ask(strict, f"GET http://192.0.2.1:{port}/")) == 403


@pytest.mark.safety(152)
def test_what_is_for_the_proxy_stays_there(scripted: Origin) -> None:
    secret = "dXNlcjpzZWNyZXQ="
    with penstock.Proxy(config()) as proxy:
        client = connect(proxy.address("out"))
        client.send(
            f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic {secret}\r\n"
            "Proxy-Connection: keep-alive, x-listed\r\nConnection: keep-alive\r\n\r\n".encode()
        )
        got = fields(answered(scripted))
        assert not {"proxy-authorization", "proxy-connection", "connection"} & got.keys()
        client.read_until(whole)
        refused = ask(proxy, "GET http://127.0.0.1:22/", f"Proxy-Authorization: Basic {secret}")
        assert (status(refused), secret.encode() in refused) == (403, False)


@pytest.mark.safety(153)
@pytest.mark.parametrize(
    "target", ["ftp://a/", "gopher://a:70/", "file:///etc/passwd", "urn:isbn:1", "javascript:1", "https:/a/", "//a/b"]
)
def test_other_schemes_lead_nowhere(strict: penstock.Proxy, target: str) -> None:
    answer = ask(strict, f"GET {target}")
    assert status(answer) in (400, 404)
    assert target.encode() not in answer


@pytest.mark.safety(153)
def test_a_user_in_a_url_goes_no_further(scripted: Origin) -> None:
    with penstock.Proxy(config()) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"GET http://u:p@{scripted.address}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = answered(scripted)
        assert b"u:p" not in head
        assert "authorization" not in fields(head)
        client.read_until(whole)


@pytest.mark.safety(154)
def test_a_way_through_another_proxy_that_comes_back_is_a_loop(scripted: Origin) -> None:
    """Whoever sends a request back to us sends our own word of it along."""
    with penstock.Proxy(config()) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\nVia: 1.1 other\r\n\r\n".encode())
        head = answered(scripted).decode().lower()
        via = [line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("via:")]
        assert len(via) == 2
        client.read_until(whole)
        for line in (f"GET http://{scripted.address}/", "CONNECT 127.0.0.1:443"):
            assert status(ask(proxy, line, f"Via: {', '.join(via)}")) == 508
        assert len(scripted.accept_all()) == 1
