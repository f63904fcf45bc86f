"""Parents of a forward proxy: which way a request takes, how a parent is asked, and what becomes of its answers."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import authority, write
from tests.load.origin import EchoOrigins
from tests.product.forwarding import answered, ask, config, fields, status, whole
from tests.product.parents import SocksParent, answered_by, through
from tests.product.users import CHEAP
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import Connection, Origin, Refusal, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path

OURS = base64.b64encode(b"us:secret").decode()
THEIRS = base64.b64encode(b"ada:password").decode()
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def password(tmp_path: Path) -> dict[str, Any]:
    """Who we are at a parent."""
    (tmp_path / "password").write_text("secret\n")
    return {"user": "us", "password": {"file": str(tmp_path / "password")}}


def asking(proxy: penstock.Proxy, line: str, *more: str) -> Connection:
    """A client that has asked, and not heard yet."""
    client = connect(proxy.address("out"))
    rest = "".join(f"{field}\r\n" for field in ("Host: other", *more))
    client.send(f"{line} HTTP/1.1\r\n{rest}\r\n".encode())
    return client


def heard(client: Connection) -> bytes:
    """Its answer."""
    client.read_until(whole)
    return bytes(client.received)


def test_a_parent_of_http_gets_whole_urls_and_who_we_are(scripted: Origin, password: dict[str, Any]) -> None:
    with penstock.Proxy(through(scripted.address, parent=password)) as proxy:
        for number in range(2):
            said = f"Proxy-Authorization: Basic {THEIRS}"
            client = asking(proxy, f"GET http://a.example:81/{number}?b", said, "X-Forwarded-For: 6.6.6.6")
            head = answered_by(scripted.connection(1), EMPTY)
            assert head.startswith(f"GET http://a.example:81/{number}?b HTTP/1.1\r\nhost: a.example:81\r\n".encode())
            got = fields(head)
            assert got.pop("via").startswith("1.1 penstock-")
            assert got == {"host": "a.example:81", "proxy-authorization": f"Basic {OURS}"}
            assert status(heard(client)) == 200
        # Whatever server is asked for, its connections are used for all.
        assert len(scripted.accept_all()) == 1
        assert OURS not in repr(proxy.stats())


def test_a_tunnel_is_asked_for_and_what_comes_early_is_not_lost(scripted: Origin, password: dict[str, Any]) -> None:
    with penstock.Proxy(through(scripted.address, parent=password)) as proxy:
        client = asking(proxy, "CONNECT a.example:443", f"Proxy-Authorization: Basic {THEIRS}")
        parent = scripted.connection(1)
        head = answered_by(parent, b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nSSH-2.0-early\r\n")
        assert head.startswith(b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n")
        assert fields(head)["proxy-authorization"] == f"Basic {OURS}"
        assert fields(head)["via"].startswith("1.1 penstock-")
        client.read_until(lambda got: got.endswith(b"SSH-2.0-early\r\n"))
        assert bytes(client.received) == b"HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-early\r\n"
        client.send(b"ping")
        parent.read_until(lambda got: got == b"ping")
        stats = proxy.stats()
        assert [one.in_flight for one in stats.upstreams[0].endpoints] == [1]
        client.close()
        parent.close()
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 0, "its place is free")


@pytest.mark.parametrize("line", ["GET http://a.example/", "CONNECT a.example:443"])
@pytest.mark.parametrize("answer", [407, 403, 502])
def test_what_a_parent_refuses(scripted: Origin, line: str, answer: int) -> None:
    settings = through(scripted.address, outlier={"failures": 1})
    said = f"HTTP/1.1 {answer} No\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n\r\nno"
    with penstock.Proxy(settings) as proxy:
        client = asking(proxy, line)
        answered_by(scripted.connection(1), said.encode())
        got = heard(client)
        # Who the client is, is no question of a parent's: it asks us. What else it says to a request is the answer.
        passes = line.startswith("GET") and answer != 407
        assert status(got) == (answer if passes else 502)
        if not passes:
            assert "proxy-authenticate" not in fields(got)
            wait_for(lambda: proxy.stats().failures["parent_refused"] == 1, "it is counted")
            assert proxy.stats().upstreams[0].endpoints[0].state == "up"


def test_only_a_parent_may_ask_who_we_are(scripted: Origin) -> None:
    """An origin that asks a client what is for its proxy gets nothing, and the client is not asked."""
    with penstock.Proxy(config()) as proxy:
        client = asking(proxy, f"GET http://{scripted.address}/")
        answered_by(
            scripted.connection(1), b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=a\r\nContent-Length: 0\r\n\r\n"
        )
        got = heard(client)
        assert (status(got), "proxy-authenticate" in fields(got)) == (502, False)


def test_rules_choose_the_way(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    rules: list[dict[str, Any]] = [
        {"name": "near", "match": 'dest.host == "127.0.0.1" and path == "/near"', "direct": True},
        {"name": "far", "match": 'path == "/far"', "parent": "far"},
    ]
    with closing(Origin()) as corp, closing(Origin()) as far:
        settings = through(corp.address, rules=rules) | {"log": {"access": {"to": str(log)}}}
        settings["upstreams"]["far"] = {"endpoints": [far.address]}
        endpoints = (scripted.address, far.address, corp.address)
        with penstock.Proxy(settings) as proxy:
            for path, by in (("/near", scripted), ("/far", far), ("/else", corp)):
                client = asking(proxy, f"GET http://{scripted.address}{path}", "Connection: close")
                answered(by)
                assert status(heard(client)) == 200
            assert proxy.explain("GET", "http://127.0.0.1/near", listener="out").action == "forward"
            found = proxy.explain("GET", "http://127.0.0.1/far", listener="out")
            assert (found.action, [one.name for one in found.upstreams]) == ("parent", ["far"])
            found = proxy.explain("GET", "http://b.example/", listener="out")
            assert (found.action, found.rule, [one.name for one in found.upstreams]) == ("parent", None, ["corp"])
            wait_for(lambda: len(log.read_text().splitlines()) == 3, "all are in the log")
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(row.get("rule"), row["upstream"], row["endpoint"]) for row in rows] == [
        ("near", "_origins", endpoints[0]),
        ("far", "far", endpoints[1]),
        (None, "corp", endpoints[2]),
    ]


def test_an_address_chooses_the_way_where_a_rule_asks_for_it() -> None:
    rules: list[dict[str, Any]] = [
        {"name": "by-name", "match": 'dest.host == "named.example"', "parent": "corp"},
        {"name": "inside", "match": 'dest.ip in ["127.0.0.2/32"]', "direct": True},
        {"name": "never", "match": 'dest.ip in ["127.0.0.3/32"]', "deny": 403},
    ]
    with NameServer("127.0.0.2") as names, closing(Origin()) as corp:
        settings = through(corp.address, rules=rules, limits={"idle_connections": 0})
        settings["dns"] = {"servers": [names.address]}
        with penstock.Proxy(settings) as proxy, closing(_at("127.0.0.2")) as near:
            port = near.address.rpartition(":")[2]

            def served(host: str, by: Origin) -> int:
                client = asking(proxy, f"GET http://{host}:{port}/", "Connection: close")
                answered(by, number=len(by.connections) + 1)
                return status(heard(client))

            # What is decided by name needs no address.
            assert served("named.example", corp) == 200
            assert names.asked == 0
            assert served("other.example", near) == 200
            names.addresses = ("127.0.0.3",)
            assert status(ask(proxy, f"GET http://third.example:{port}/")) == 403
            names.addresses = ("127.0.0.4",)
            assert served("fourth.example", corp) == 200


def _at(host: str) -> Origin:
    class Placed(Origin):
        place = (host, 0)

    return Placed()


def test_parents_are_balanced_and_tried_like_endpoints(scripted: Origin) -> None:
    with closing(Refusal()) as refusal, EchoOrigins("echo") as origins:
        behind = config(connect_ports=["1-65535"])
        with penstock.Proxy(behind) as corp:
            settings = through(refusal.address, "{}:{}".format(*corp.address("out")), balance="first")
            with penstock.Proxy(settings) as proxy:
                for line in (f"GET http://{origins.address}/a", f"CONNECT {scripted.address}"):
                    assert status(ask(proxy, line)) == 200
                assert proxy.stats().upstreams[0].endpoints[0].failures >= 1
                assert [one.requests for one in proxy.stats().upstreams[0].endpoints][1] == 2
    with closing(Refusal()) as refusal, penstock.Proxy(through(refusal.address)) as proxy:
        assert status(ask(proxy, "CONNECT a.example:443")) == 502
        assert status(ask(proxy, "GET http://a.example/")) == 502


def test_parents_are_probed_like_endpoints(scripted: Origin) -> None:
    check = {"tcp": True, "interval": "20ms", "fall": 1, "rise": 1}
    with (
        closing(Refusal()) as refusal,
        penstock.Proxy(through(refusal.address, scripted.address, health_check=check)) as proxy,
    ):
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].state == "down", "it is seen")
        assert proxy.stats().upstreams[0].endpoints[1].state == "up"


def test_a_parent_over_tls(tmp_path: Path) -> None:
    """A parent that is one of us, over TLS, which asks for users; what is behind it is reached both ways."""
    write(tmp_path, "corp", "localhost")
    authority().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "users").write_text(f"us:{CHEAP}\n")
    tls = {"certificates": [{"cert": str(tmp_path / "corp.pem"), "key": str(tmp_path / "corp.key")}]}
    behind = config(connect_ports=["1-65535"], tls=tls, users={"htpasswd": str(tmp_path / "users")})
    (tmp_path / "password").write_text("password")
    with EchoOrigins("echo") as origins, penstock.Proxy(behind) as corp:
        port = corp.address("out")[1]
        us = {"user": "us", "password": {"file": str(tmp_path / "password")}}
        settings = through(f"localhost:{port}", tls={"ca": str(tmp_path / "ca.pem")}, parent=us)
        with penstock.Proxy(settings) as proxy:
            host, port = proxy.address("out")
            for options in ((), ("--proxytunnel",)):
                got = _curl("-x", f"http://{host}:{port}", *options, f"http://{origins.address}/a")
                assert got == b"GET /a - - echo\n"
        assert corp.stats().rejected["user_missing"] == 0


def _curl(*arguments: str) -> bytes:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: make debian")
    command = ["curl", "-s", "--max-time", "20", *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=30).stdout


@pytest.mark.parametrize("login", [None, ("us", "secret")])
def test_a_parent_of_socks(scripted: Origin, password: dict[str, Any], login: tuple[str, str] | None) -> None:
    with SocksParent(login, early=b"early") as parent:
        settings = through(parent.address, parent={"protocol": "socks5", **(password if login else {})})
        with penstock.Proxy(settings) as proxy:
            port = int(scripted.address.rpartition(":")[2])
            client = asking(proxy, f"CONNECT {scripted.address}")
            client.read_until(lambda got: got.endswith(b"early"))
            behind = scripted.connection(1)
            behind.send(b"pong")
            client.read_until(lambda got: got.endswith(b"earlypong"))
            assert parent.asked == [("127.0.0.1", port)]
            assert parent.logins == ([login] if login else [])


def test_a_request_through_socks_is_that_of_its_server(scripted: Origin) -> None:
    with SocksParent() as parent, penstock.Proxy(through(parent.address, parent={"protocol": "socks5"})) as proxy:
        settings = through(parent.address, parent={"protocol": "socks5"})
        settings["listeners"]["out"]["allow_private"] = True
        client = asking(proxy, f"GET http://localhost.:{scripted.address.rpartition(':')[2]}/a?b")
        head = answered(scripted)
        assert head.startswith(b"GET /a?b HTTP/1.1\r\nhost: localhost:")
        assert status(heard(client)) == 200
        # The name is asked for by the parent.
        assert parent.asked[0][0] == "localhost"


@pytest.mark.parametrize(("reply", "told"), [(2, "not allowed"), (5, "connection refused")])
def test_what_a_parent_of_socks_refuses(tmp_path: Path, reply: int, told: str) -> None:
    log = tmp_path / "access.log"
    with SocksParent(reply=reply) as parent:
        settings = through(parent.address, parent={"protocol": "socks5"}) | {"log": {"access": {"to": str(log)}}}
        with penstock.Proxy(settings) as proxy:
            assert status(ask(proxy, "CONNECT a.example:443")) == 502
            wait_for(lambda: log.exists() and log.read_text(), "it is in the log")
    row = json.loads(log.read_text())
    assert (row["cause"], row["reason"]) == ("parent_refused", f"the parent: it answered {reply}: {told}")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200", b"garbage that is long enough\r\n\r\n"])
def test_a_parent_that_is_none_is_told_of(scripted: Origin, said: bytes) -> None:
    with penstock.Proxy(through(scripted.address, retry=False)) as proxy:
        client = asking(proxy, "CONNECT a.example:443")
        parent = scripted.connection(1)
        answered_by(parent, said)
        parent.close()
        assert status(heard(client)) == 502


@pytest.mark.safety(148, 149)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "127.1", "localhost", "a.localhost."])
@pytest.mark.parametrize("line", ["GET http://{}/", "CONNECT {}:443"])
def test_what_names_an_address_inside_goes_through_no_parent(scripted: Origin, host: str, line: str) -> None:
    settings = through(scripted.address)
    settings["listeners"]["out"]["allow_private"] = False
    with penstock.Proxy(settings) as proxy:
        assert status(ask(proxy, line.format(host))) == 403
    assert scripted.accept_all() == []


@pytest.mark.safety(154)
@pytest.mark.parametrize("line", ["GET http://a.example/", "CONNECT a.example:443"])
def test_a_parent_that_is_ourselves_is_a_loop(line: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = "{}:{}".format(*free.getsockname())
    settings = through(address)
    settings["listeners"]["out"]["bind"] = address
    with penstock.Proxy(settings) as proxy:
        assert status(ask(proxy, line)) in (502, 508)
        assert proxy.stats().rejected["loop"] == 1


def test_a_password_that_cannot_be_had_is_a_fault(tmp_path: Path) -> None:
    parent = {"user": "us", "password": {"file": str(tmp_path / "none")}}
    with (
        pytest.raises(penstock.ConfigError, match="cannot be read") as refused,
        penstock.Proxy(through("127.0.0.1:1", parent=parent)),
    ):
        pass
    assert refused.value.faults[0].key == "upstreams.corp.parent.password"
