"""HTTP/2 to origins behind a parent: on the way that the parent opens, shared by whoever asks them through it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from intercepting import NAME, OPEN, connected, secured, trusting, whole_answer
from test_browser import echo, running
from test_intercept_http2 import records, site
from test_intercept_parents import corp, place, through
from tests.certificates import write
from tests.load.origin import EchoOrigins
from tests.product.forwarding import ask, status
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import Origin
from websockets.sync.client import connect as websocket
from websockets.sync.server import serve

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BOTH = ("h2", "http/1.1")


@pytest.fixture
def names() -> Iterator[NameServer]:
    """Says that every name is on this machine."""
    with NameServer("127.0.0.1") as running:
        yield running


def asked_for(parent: penstock.Proxy) -> int:
    """How many ways the parent was asked for."""
    return parent.stats().listeners[0].rules["all"]


@pytest.mark.parametrize("tls", [False, True])
def test_urls_of_many_clients_take_one_way(tmp_path: Path, names: NameServer, *, tls: bool) -> None:
    listener: dict[str, Any] = {"tls": {"certificates": [write(tmp_path / "keys", "parent", "127.0.0.1")]}}
    with site(tmp_path, *BOTH) as origin, corp(names, **(listener if tls else {})) as parent:
        upstream = {"tls": {"ca": str(tmp_path / "roots.pem")}} if tls else {}
        with penstock.Proxy(through(tmp_path, [place(parent)], **upstream)) as proxy:
            port = origin.address("web")[1]
            for turn in range(4):
                assert ask(proxy, f"GET https://{NAME}:{port}/{turn}").endswith(b"\r\n\r\n/%d" % turn)
            seen = records(tmp_path / "site.log", 4)
            assert [row["version"] for row in seen] == ["2.0"] * 4
            assert (asked_for(parent), origin.stats().listeners[0].handshakes) == (1, 1)
            endpoint = proxy.stats().upstreams[0].endpoints[0]
            assert (endpoint.requests, endpoint.reused, endpoint.failures) == (4, 3, 0)
            rows = records(tmp_path / "access.log", 4)
            assert [row["reused"] for row in rows] == [False, True, True, True]
            assert {(row["upstream"], row["endpoint"]) for row in rows} == {("corp", place(parent))}


def test_an_opened_tunnel_has_the_way_on_which_its_origin_was_proved(tmp_path: Path, names: NameServer) -> None:
    with (
        site(tmp_path, *BOTH) as origin,
        corp(names) as parent,
        penstock.Proxy(through(tmp_path, [place(parent)])) as proxy,
    ):
        host = f"{NAME}:{origin.address('web')[1]}"
        proxied = "http://{}:{}".format(*proxy.address("out"))

        async def asks() -> list[str]:
            trust = trusting(tmp_path)
            async with httpx.AsyncClient(proxy=proxied, verify=trust, http2=True, timeout=20) as http:
                await http.get(f"https://{host}/first")
                answers = await asyncio.gather(*(http.get(f"https://{host}/{turn}") for turn in range(30)))
                return [answer.text for answer in answers]

        assert asyncio.run(asks()) == [f"/{turn}" for turn in range(30)]
        with secured(proxy, int(host.rpartition(":")[2]), trusting(tmp_path)) as sock:
            assert whole_answer(sock, "/x", host=host)[0] == 200
        assert {row["version"] for row in records(tmp_path / "site.log", 32)} == {"2.0"}
        # The second tunnel was asked for, and its origin had proved who it is.
        assert (asked_for(parent), origin.stats().listeners[0].handshakes) == (2, 1)


def test_bodies_go_both_ways(tmp_path: Path, names: NameServer) -> None:
    with (
        EchoOrigins() as echoes,
        site(tmp_path, *BOTH, app=echoes.address) as origin,
        corp(names) as parent,
        penstock.Proxy(through(tmp_path, [place(parent)])) as proxy,
    ):
        proxied = "http://{}:{}".format(*proxy.address("out"))
        with httpx.Client(proxy=proxied, verify=trusting(tmp_path), http2=True) as http:
            body = bytes(range(256)) * 8000
            assert http.post(f"https://{NAME}:{origin.address('web')[1]}/app", content=body).content.endswith(body)
        assert records(tmp_path / "site.log", 1)[0]["version"] == "2.0"


@pytest.mark.parametrize("protocols", [BOTH, ("http/1.1",)])
def test_a_websocket(tmp_path: Path, names: NameServer, protocols: tuple[str, ...]) -> None:
    with (
        serve(echo, "127.0.0.1", 0) as server,
        running(server) as (address,),
        site(tmp_path, *protocols, ws=address) as origin,
        corp(names) as parent,
        penstock.Proxy(through(tmp_path, [place(parent)])) as proxy,
    ):
        proxied = "http://{}:{}".format(*proxy.address("out"))
        url = f"wss://{NAME}:{origin.address('web')[1]}/ws"
        with websocket(url, proxy=proxied, ssl=trusting(tmp_path)) as client:
            client.send("hello")
            assert client.recv() == "hello"


@pytest.mark.parametrize("protocols", [BOTH, ("http/1.1",)])
def test_a_way_that_nobody_uses_makes_room(tmp_path: Path, names: NameServer, protocols: tuple[str, ...]) -> None:
    closed = {"name": "closed", "tunnel": True}
    with site(tmp_path, *protocols) as origin, corp(names) as parent, closing(Origin()) as other:
        made = through(tmp_path, [place(parent)], closed, limits={"connections": 2})
        with penstock.Proxy(made) as proxy:
            port = origin.address("web")[1]
            for turn in range(3):
                assert ask(proxy, f"GET https://{NAME}:{port}/{turn}").endswith(b"/%d" % turn)
            with connected(proxy, other.address):
                # With the tunnel that is one connection more, and the way that is kept leads elsewhere.
                assert status(ask(proxy, f"GET https://127.0.0.1:{port}/")) == 502
                assert proxy.stats().failures["upstream_certificate"] == 1
            assert asked_for(parent) == 3


def test_another_parent_and_a_parent_that_is_told_of_the_client_have_ways_of_their_own(
    tmp_path: Path, names: NameServer
) -> None:
    far = {"name": "far", "match": 'path.startswith("/far")', "parent": "far"}
    told = {"name": "told", "match": 'path.startswith("/told")', "parent": "told"}
    heard = {"from": ["127.0.0.0/8"]}
    with (
        site(tmp_path, *BOTH) as origin,
        corp(names) as parent,
        corp(names) as other,
        corp(names, proxy_protocol=heard) as third,
    ):
        made = through(tmp_path, [place(parent)], far, told, OPEN)
        made["upstreams"]["far"] = {"endpoints": [place(other)]}
        made["upstreams"]["told"] = {"endpoints": [place(third)], "proxy_protocol": "v2"}
        with penstock.Proxy(made) as proxy:
            url = f"https://{NAME}:{origin.address('web')[1]}"
            for path in ("/a", "/far/a", "/told/a") * 2:
                assert status(ask(proxy, f"GET {url}{path}")) == 200, path
            assert [asked_for(one) for one in (parent, other, third)] == [1, 1, 2]
            versions = {row["target"]: row["version"] for row in records(tmp_path / "site.log", 6)}
            assert versions == {"/a": "2.0", "/far/a": "2.0", "/told/a": "1.1"}
            # After a reload nobody knows who we were to the parent.
            proxy.apply(made)
            assert status(ask(proxy, f"GET {url}/a")) == 200
            assert asked_for(parent) == 2
