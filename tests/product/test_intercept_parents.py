"""Tunnels that are opened, and go through a parent: it is asked for the way, and the origin proves itself on that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from intercepting import NAME, OPEN, asking, secured, settings, shop, trusting, whole_answer
from secured import SecuredOrigin, unknown
from tests.certificates import write
from tests.product.forwarding import ask, config, fields, say, status
from tests.product.parents import SocksParent
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import connect

import penstock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def names() -> Iterator[NameServer]:
    """Says that every name is on this machine."""
    with NameServer("127.0.0.1") as running:
        yield running


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[SecuredOrigin]:
    """One that proves to be `NAME`."""
    with SecuredOrigin(write(tmp_path / "keys", "shop", NAME), protocols=("http/1.1",)) as running:
        yield running


def through(folder: Path, endpoints: list[str], *rules: dict[str, Any], **upstream: Any) -> dict[str, Any]:
    """Tunnels are opened, and go out through these."""
    made = settings(folder, *rules, parent="corp")
    return made | {"upstreams": {"corp": {"endpoints": endpoints, **upstream}}}


def corp(names: NameServer, **more: Any) -> penstock.Proxy:
    """A parent that is one of us."""
    made = config(connect_ports=["1-65535"], rules=[{"name": "all", "allow": True}], **more)
    return penstock.Proxy(asking(names, made))


def place(proxy: penstock.Proxy) -> str:
    """Where it listens."""
    return "{}:{}".format(*proxy.address("out"))


def rows(folder: Path, count: int) -> list[dict[str, Any]]:
    """That many lines of the access log."""
    log = folder / "access.log"
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= count, f"{count} records")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_the_parent_is_asked_for_the_way_and_no_more(tmp_path: Path, names: NameServer, origin: SecuredOrigin) -> None:
    host = f"{NAME}:{origin.port}"
    with corp(names) as parent:
        # Only the parent knows where names lead.
        with penstock.Proxy(through(tmp_path, [place(parent)])) as proxy:
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                for turn in range(3):
                    assert whole_answer(sock, f"/{turn}", host=host)[0] == 200
            tunnel, first, *_ = rows(tmp_path, 4)
            assert (tunnel["interception"], tunnel["upstream"], tunnel["endpoint"]) == ("opened", "corp", place(parent))
            assert (first["target"], first["upstream"], first["reused"]) == (f"https://{host}/0", "corp", True)
            assert proxy.stats().upstreams[0].endpoints[0].requests == 4
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 0, "its place is free")
        assert parent.stats().listeners[0].rules == {"all": 1}
    # One way, one handshake; what is asked for is what the origin gets without a parent, too.
    assert (len(origin.names), [head.split(b" ")[1] for head in origin.requests]) == (1, [b"/0", b"/1", b"/2"])
    asked = fields(origin.requests[0])
    assert asked.pop("via").startswith("1.1 penstock-")
    assert asked == {"host": host}


def test_a_way_that_has_ended_is_opened_anew(tmp_path: Path, origin: SecuredOrigin) -> None:
    def once(sock: ssl.SSLSocket) -> None:
        origin.requests.append(origin.read_head(sock))
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    origin._talk = once
    host = f"{NAME}:{origin.port}"
    with SocksParent() as parent:
        made = through(tmp_path, [parent.address], parent={"protocol": "socks5"})
        with (
            penstock.Proxy(made) as proxy,
            secured(proxy, origin.port, trusting(tmp_path), place="127.0.0.1") as sock,
        ):
            for _ in range(2):
                assert whole_answer(sock, "/", host=host)[0] == 200
        # The tunnel's own host, whatever name its client has asked for in it.
        assert parent.asked == [("127.0.0.1", origin.port)] * 2
    assert len(origin.requests) == 2


def test_a_kept_way_that_the_origin_closed_is_no_failure(tmp_path: Path, origin: SecuredOrigin) -> None:
    host = f"{NAME}:{origin.port}"
    with SocksParent() as parent:
        made = through(tmp_path, [parent.address], parent={"protocol": "socks5"})
        with (
            penstock.Proxy(made) as proxy,
            secured(proxy, origin.port, trusting(tmp_path), place="127.0.0.1") as sock,
        ):
            for _ in range(2):
                assert whole_answer(sock, "/", host=host)[0] == 200
                origin.hang_up()
        assert len(parent.asked) == 2


def test_what_is_in_it_takes_the_way_of_its_rule(tmp_path: Path, names: NameServer, origin: SecuredOrigin) -> None:
    near = {"name": "near", "match": 'path == "/near"', "direct": True}
    far = {"name": "far", "match": 'path == "/far"', "parent": "far"}
    with corp(names) as parent, corp(names) as other:
        made = asking(names, through(tmp_path, [place(parent)], near, far, OPEN))
        made["upstreams"]["far"] = {"endpoints": [place(other)]}
        with penstock.Proxy(made) as proxy:
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                for path in ("/near", "/far", "/", "/near"):
                    assert whole_answer(sock, path, host=f"{NAME}:{origin.port}")[0] == 200
            told = [(row["target"].rpartition("/")[2], row["upstream"]) for row in rows(tmp_path, 5)[1:]]
        assert told == [("near", "_origins"), ("far", "far"), ("", "corp"), ("near", "_origins")]
        assert [one.stats().listeners[0].rules["all"] for one in (parent, other)] == [1, 1]


def test_an_origin_that_does_not_prove_itself_is_no_fault_of_the_parent(tmp_path: Path, names: NameServer) -> None:
    with SecuredOrigin(unknown(tmp_path)) as bad, corp(names) as parent:
        made = through(tmp_path, [place(parent)], outlier={"failures": 1})
        with penstock.Proxy(made) as proxy:
            with secured(proxy, bad.port, trusting(tmp_path)) as sock:
                code, got = whole_answer(sock, host=f"{NAME}:{bad.port}")
            assert (code, b"UnknownIssuer" in got) == (502, True)
            assert proxy.stats().failures["upstream_certificate"] == 1
            endpoint = proxy.stats().upstreams[0].endpoints[0]
            assert (endpoint.state, endpoint.failures) == ("up", 0)
        assert bad.requests == []


def test_a_parent_may_speak_tls_and_tls_to_the_origin_is_inside_of_that(
    tmp_path: Path, names: NameServer, origin: SecuredOrigin
) -> None:
    host = f"{NAME}:{origin.port}"
    shown = write(tmp_path / "keys", "parent", "127.0.0.1")
    with corp(names, tls={"certificates": [shown]}) as parent:
        made = through(tmp_path, [place(parent)], tls={"ca": str(tmp_path / "roots.pem")})
        with penstock.Proxy(made) as proxy:
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                for turn in range(2):
                    assert whole_answer(sock, f"/{turn}", host=host)[0] == 200
            # One for the tunnel's own name serves a URL of that name, too.
            assert ask(proxy, f"GET https://{host}/2").endswith(b"ok")
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 0, "its place is free")
            assert [row["reused"] for row in rows(tmp_path, 4)[1:]] == [True, True, True]
        assert (parent.stats().listeners[0].rules, parent.stats().listeners[0].handshakes) == ({"all": 1}, 1)
    assert (len(origin.names), len(origin.requests)) == (1, 3)


def test_why_a_parents_own_certificate_is_refused_is_no_matter_of_clients(tmp_path: Path, names: NameServer) -> None:
    shown = unknown(tmp_path)
    (tmp_path / "bad.pem").chmod(0o600)
    with corp(names, tls={"certificates": [shown]}) as parent:
        made = through(tmp_path, [place(parent)], tls={"ca": str(tmp_path / "roots.pem")})
        with penstock.Proxy(made) as proxy:
            got = ask(proxy, f"GET https://{NAME}/")
            assert (status(got), b"UnknownIssuer" in got) == (502, False)
            row = rows(tmp_path, 1)[0]
    assert (row["cause"], "UnknownIssuer" in row["reason"]) == ("upstream_certificate", True)


def test_an_https_url_is_asked_over_a_way_that_is_kept(tmp_path: Path, names: NameServer) -> None:
    with shop(tmp_path) as origin, SecuredOrigin(unknown(tmp_path)) as bad, corp(names) as parent:
        made = through(tmp_path, [place(parent)])
        with penstock.Proxy(made) as proxy:
            for turn in range(3):
                assert ask(proxy, f"GET https://{NAME}:{origin.port}/{turn}").endswith(b"ok")
            # Another name is another server.
            assert ask(proxy, f"GET https://other.example:{origin.port}/").endswith(b"ok")
            refused = ask(proxy, f"GET https://{NAME}:{bad.port}/")
            assert (status(refused), b"UnknownIssuer" in refused) == (502, True)
            assert proxy.stats().failures["upstream_certificate"] == 1
            assert proxy.stats().upstreams[0].endpoints[0].failures == 0
            assert (len(origin.names), parent.stats().listeners[0].rules) == (2, {"all": 3})
            # One that the origin has closed is opened anew.
            origin.hang_up()
            assert ask(proxy, f"GET https://{NAME}:{origin.port}/").endswith(b"ok")
            # After a reload nobody knows who we were to the parent.
            proxy.apply(made)
            assert ask(proxy, f"GET https://{NAME}:{origin.port}/").endswith(b"ok")
            assert len(origin.names) == 4
        assert fields(origin.requests[0])["host"] == f"{NAME}:{origin.port}"
        assert bad.requests == []


def test_a_way_that_a_client_has_authenticated_is_its_own(tmp_path: Path, names: NameServer) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        """As servers with NTLM: who has proved who it is on a connection is known on that alone."""
        known = False
        while head := origin.read_head(sock):
            proves = b"authorization: ntlm" in head.lower()
            known |= proves and b" 3" in head
            said = b"200 OK" if known else b"401 No\r\nWWW-Authenticate: NTLM 2"
            sock.sendall(b"HTTP/1.1 %s\r\nContent-Length: 2\r\n\r\nok" % said)

    keys = write(tmp_path / "keys", "shop", NAME)
    with SecuredOrigin(keys, protocols=("http/1.1",), talk=talk) as origin, corp(names) as parent:
        host = f"{NAME}:{origin.port}"
        with penstock.Proxy(through(tmp_path, [place(parent)])) as proxy:
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                told = [
                    whole_answer(sock, "/", *fields, host=host)[0]
                    for fields in (["Authorization: NTLM 1"], ["Authorization: NTLM 3"], [], [])
                ]
                assert told == [401, 200, 200, 200]
                with secured(proxy, origin.port, trusting(tmp_path)) as other:
                    assert whole_answer(other, "/", host=host)[0] == 401
                assert ask(proxy, f"GET https://{host}/").split(b" ")[1] == b"401"
            assert ask(proxy, f"GET https://{host}/").split(b" ")[1] == b"401"


def test_a_way_is_shared_by_tunnels_and_not_by_listeners(tmp_path: Path, names: NameServer) -> None:
    with shop(tmp_path) as origin, corp(names) as parent:
        host = f"{NAME}:{origin.port}"
        made = through(tmp_path, [place(parent)])
        other = made["listeners"]["out"] | {"origins": {"tls": {"ca": str(tmp_path / "nobody.pem")}}}
        trustme.CA().cert_pem.write_to_path(tmp_path / "nobody.pem")
        made["listeners"]["other"] = other
        with penstock.Proxy(made) as proxy:
            for _ in range(2):
                with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                    for _ in range(2):
                        assert whole_answer(sock, host=host)[0] == 200
            # Each tunnel asks for a proof of its own.
            assert len(origin.names) == 2
            client = connect(proxy.address("other"))
            refused = say(client, f"GET https://{host}/ HTTP/1.1\r\nHost: a\r\n\r\n")
            client.close()
            # Who is believed here is not who was believed there.
            assert (status(refused), len(origin.names)) == (502, 3)


def test_it_is_explained(tmp_path: Path) -> None:
    with penstock.Proxy(through(tmp_path, ["127.0.0.1:1"])) as proxy:
        found = proxy.explain("CONNECT", f"https://{NAME}", listener="out")
        assert (found.action, [one.name for one in found.upstreams]) == ("intercept", ["corp"])
