"""URLs of `https://` that are asked of a forward proxy without a tunnel: it speaks TLS to the server for the client."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from intercepting import NAME, asking, shop
from secured import SecuredOrigin, unknown
from test_forward_http2 import client, get
from test_intercept_http2 import records as requests
from test_intercept_http2 import site
from tests.certificates import authority, write
from tests.product.forwarding import ask, config, fields, say, status
from tests.product.users import basic, users
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def asked(folder: Path, **listener: Any) -> Iterator[penstock.Proxy]:
    """A forward proxy that believes the authority of the tests."""
    authority().cert_pem.write_to_path(folder / "roots.pem")
    made = config(**{"origins": {"tls": {"ca": str(folder / "roots.pem")}}, **listener})
    made["log"] = {"access": {"to": str(folder / "access.log"), "format": "json"}}
    with NameServer("127.0.0.1") as names, penstock.Proxy(asking(names, made)) as proxy:
        yield proxy


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[SecuredOrigin]:
    """One that proves to be `NAME`."""
    with shop(tmp_path) as running:
        yield running


def test_a_request_goes_there_over_tls(tmp_path: Path, origin: SecuredOrigin) -> None:
    with asked(tmp_path) as proxy:
        peer = connect(proxy.address("out"))
        for turn in range(5):
            line = f"GET https://u:secret@{NAME.upper()}:{origin.port}//a/./b?x={turn} HTTP/1.1\r\nHost: a\r\n\r\n"
            answer = say(peer, line)
            assert (status(answer), answer.endswith(b"ok")) == (200, True)
        assert origin.requests[0].startswith(b"GET //a/./b?x=0 HTTP/1.1\r\n")
        assert set(fields(origin.requests[0])) == {"host", "via"}
        assert fields(origin.requests[0])["host"] == f"{NAME}:{origin.port}"
        assert set(origin.names) == {NAME}
        # At most the first connection is lost to the tickets that came unasked.
        assert len(origin.names) <= 3
        rows = requests(tmp_path / "access.log", 5)
        assert rows[0]["target"] == f"https://{NAME.upper()}:{origin.port}//a/./b?x=0"
        assert (rows[0]["endpoint"], rows[0]["status"]) == (f"{NAME}:{origin.port}", 200)
    assert "secret" not in (tmp_path / "access.log").read_text()


def test_a_server_may_want_http_2(tmp_path: Path) -> None:
    with site(tmp_path, "h2", "http/1.1") as web, asked(tmp_path) as proxy:
        for _ in range(3):
            assert ask(proxy, f"GET https://{NAME}:{web.address('web')[1]}/x").endswith(b"\r\n\r\n/x")
        seen = requests(tmp_path / "site.log", 3)
        assert {(row["version"], row["target"]) for row in seen} == {("2.0", "/x")}
        assert web.stats().listeners[0].handshakes == 1


@pytest.mark.parametrize("case", ["unknown", "name", "no TLS"])
def test_one_that_does_not_prove_who_it_is_is_asked_for_nothing(tmp_path: Path, case: str) -> None:
    (tmp_path / "keys").mkdir(exist_ok=True)
    shown = unknown(tmp_path / "keys") if case == "unknown" else write(tmp_path / "keys", "other", "other.example")
    with shop(tmp_path, shown) as origin, asked(tmp_path) as proxy:
        port = origin.port
        if case == "no TLS":
            with penstock.Proxy(
                {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {"body": "clear"}}]}
            ) as clear:
                answer = ask(proxy, f"GET https://{NAME}:{clear.address('web')[1]}/")
        else:
            answer = ask(proxy, f"GET https://{NAME}:{port}/")
        assert status(answer) == 502
        told = {"unknown": b"reason: ", "name": b"not valid for name", "no TLS": b""}
        assert told[case] in answer
        assert origin.requests == []
        row = requests(tmp_path / "access.log", 1)[0]
        assert row["cause"] == ("upstream_tls_failed" if case == "no TLS" else "upstream_certificate")


def test_what_is_explained_is_what_happens(tmp_path: Path, origin: SecuredOrigin) -> None:
    rules = [
        {"name": "tunnels", "match": 'method == "CONNECT"', "deny": 403},
        {"name": "agents", "match": '"bad" in header["User-Agent"] and query["x"] == "1"', "deny": 451},
        {"name": "secret", "match": 'scheme == "http" and path.startswith("/secret")', "deny": 418},
    ]
    # Tunnels may go nowhere: it is none.
    with asked(tmp_path, rules=rules, connect_ports=[1]) as proxy:
        place = f"https://{NAME}:{origin.port}"
        for path, agent, expected, rule in (
            ("/a", "good", 200, None),
            ("/secret/a", "good", 418, "secret"),
            ("/a?x=1", "bad", 451, "agents"),
            ("/a?x=2", "bad", 200, None),
        ):
            found = proxy.explain("GET", f"{place}{path}", headers=[("User-Agent", agent)], listener="out")
            assert (found.rule and found.rule.name, found.status) == (rule, None if expected == 200 else expected)
            assert found.request["path"] == path.partition("?")[0]
            assert status(ask(proxy, f"GET {place}{path}", f"User-Agent: {agent}")) == expected
        assert proxy.explain("CONNECT", place, listener="out").refused == "port_forbidden"
        assert proxy.explain("GET", f"https://{NAME}:25/", listener="out").refused == "port_forbidden"


def test_what_holds_for_others_holds_for_it(tmp_path: Path, origin: SecuredOrigin) -> None:
    rules = [{"name": "no", "match": 'dest.host == "shop.example" and path == "/no"', "deny": 451}]
    with asked(tmp_path, rules=rules, users=users(tmp_path)) as proxy:
        place = f"https://{NAME}:{origin.port}"
        assert status(ask(proxy, f"GET {place}/")) == 407
        assert status(ask(proxy, f"GET {place}/no", basic())) == 451
        assert status(ask(proxy, f"GET https://{NAME}:22/", basic())) == 403
        assert status(ask(proxy, f"GET {place}/yes", basic())) == 200
        assert b"Proxy-Auth" not in origin.requests[0]
    with asked(tmp_path, allow_private=False) as proxy:
        assert status(ask(proxy, f"GET https://{NAME}:{origin.port}/")) == 403
        assert status(ask(proxy, "GET https://127.0.0.1/")) == 403
    assert len(origin.requests) == 1


def test_a_client_of_http_2_asks_by_its_scheme(tmp_path: Path, origin: SecuredOrigin) -> None:
    tls = {"certificates": [write(tmp_path / "keys", "proxy", NAME)]}
    with asked(tmp_path, tls=tls) as proxy, client(proxy) as peer:
        assert peer.ask(1, get(f"{NAME}:{origin.port}", "/x", scheme="https")).body == b"ok"
        assert origin.requests[0].startswith(b"GET /x HTTP/1.1\r\n")


def test_a_machine_that_trusts_nobody_has_a_proxy_all_the_same(
    tmp_path: Path, origin: SecuredOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none.pem").touch()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with asked(tmp_path, origins={}) as proxy:
        answer = ask(proxy, f"GET https://{NAME}:{origin.port}/", "Accept: application/json")
        assert status(answer) == 502
        assert "trusts no authority" in json.loads(answer.partition(b"\r\n\r\n")[2])["reason"]
        wait_for(lambda: "upstream_certificate" in (tmp_path / "access.log").read_text(), "it is in the log")
    assert origin.requests == []
