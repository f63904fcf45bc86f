"""HTTP/2 in tunnels that are opened: with the client, with the origin, and with both."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from intercepting import NAME, intercepting, shop, trusting
from test_browser import echo, running
from tests.certificates import write
from tests.product.waiting import wait_for
from websockets.sync.client import connect as websocket
from websockets.sync.server import serve

import penstock
from product import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def site(folder: Path, *protocols: str, **routes: str) -> Iterator[penstock.Proxy]:
    """An origin that speaks these protocols, and says in `site.log` what it was asked."""
    tls: dict[str, Any] = {"certificates": [write(folder / "keys", "site", NAME)], "alpn": protocols}
    upstreams = {name: {"endpoints": [address]} for name, address in routes.items()}
    made = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}},
        "upstreams": upstreams,
        "routes": [{"match": f'path.startswith("/{name}")', "upstream": name} for name in routes]
        + [{"respond": {"body": "{path}", "template": True}}],
        "engine": {"workers": 1},
        "log": {"access": {"to": str(folder / "site.log"), "format": "json"}},
    }
    with penstock.Proxy(made) as proxy:
        yield proxy


def records(path: Path, count: int) -> list[dict[str, Any]]:
    """That many requests, tunnels left out."""

    def rows() -> list[dict[str, Any]]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [row for row in map(json.loads, lines) if row.get("method") not in ("CONNECT", None)]

    wait_for(lambda: len(rows()) >= count, f"{count} records in {path.name}")
    return rows()


@pytest.mark.parametrize("with_client", ["2.0", "1.1"])
@pytest.mark.parametrize("with_origin", ["2.0", "1.1"])
def test_many_requests_of_one_client(tmp_path: Path, with_client: str, with_origin: str) -> None:
    protocols = ("h2", "http/1.1") if with_origin == "2.0" else ("http/1.1",)
    with site(tmp_path, *protocols) as origin, intercepting(tmp_path) as proxy:
        place = f"https://{NAME}:{origin.address('web')[1]}"

        async def ask() -> list[str]:
            proxied = "http://{}:{}".format(*proxy.address("out"))
            trust = trusting(tmp_path)
            async with httpx.AsyncClient(proxy=proxied, verify=trust, http2=with_client == "2.0", timeout=20) as http:
                # The first learns what is spoken; until then each would open a tunnel of its own.
                await http.get(f"{place}/first")
                answers = await asyncio.gather(*(http.get(f"{place}/{number}") for number in range(50)))
                assert {answer.http_version for answer in answers} == {f"HTTP/{with_client.removesuffix('.0')}"}
                return [answer.text for answer in answers]

        assert asyncio.run(ask()) == [f"/{number}" for number in range(50)]
        asked, seen = records(tmp_path / "access.log", 51), records(tmp_path / "site.log", 51)
        assert {row["version"] for row in asked} == {with_client}
        assert {row["version"] for row in seen} == {with_origin}
        expected = {f"{place}/first", *(f"{place}/{number}" for number in range(50))}
        assert {row["target"] for row in asked} == expected
        if with_client == with_origin == "2.0":
            # One tunnel, and one connection behind it.
            assert (proxy.stats().listeners[0].interception["opened"], origin.stats().listeners[0].handshakes) == (1, 1)


def test_a_second_client_shares_the_connection(tmp_path: Path) -> None:
    with site(tmp_path, "h2", "http/1.1") as origin, intercepting(tmp_path) as proxy:
        place = f"https://{NAME}:{origin.address('web')[1]}/x"
        for _ in range(3):
            proxied = "http://{}:{}".format(*proxy.address("out"))
            with httpx.Client(proxy=proxied, verify=trusting(tmp_path), http2=True) as client:
                assert client.get(place).text == "/x"
        assert origin.stats().listeners[0].handshakes == 1
        assert proxy.stats().listeners[0].interception["opened"] == 3


def test_bodies_and_refusals(tmp_path: Path) -> None:
    rules: Any = ({"name": "no", "match": 'method == "PUT"', "deny": 451}, {"intercept": True})
    with (
        Origin("one") as inner,
        running_origin(inner),
        site(tmp_path, "h2", app=inner.address) as origin,
        intercepting(tmp_path, *rules) as proxy,
    ):
        place = f"https://{NAME}:{origin.address('web')[1]}"
        proxied = "http://{}:{}".format(*proxy.address("out"))
        with httpx.Client(proxy=proxied, verify=trusting(tmp_path), http2=True) as client:
            assert client.get(f"{place}/app").text == "one"
            refused = client.put(f"{place}/x", content=b"x" * 100_000)
            assert (refused.status_code, "rule: no" in refused.text) == (451, True)
            # What is for another host is refused on its stream, and the others go on.
            other = client.get(f"{place}/x", headers={"Host": "other.example"})
            assert other.status_code == 421
            assert client.post(f"{place}/y", content=b"x" * 50_000).text == "/y"


@contextmanager
def running_origin(origin: Origin) -> Iterator[None]:
    """Serve from a thread of its own."""
    thread = threading.Thread(target=origin.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        origin.shutdown()
        thread.join(10)


@pytest.mark.parametrize("protocols", [("h2", "http/1.1"), ("http/1.1",)])
def test_a_websocket(tmp_path: Path, protocols: tuple[str, ...]) -> None:
    with (
        serve(echo, "127.0.0.1", 0) as server,
        running(server) as (address,),
        site(tmp_path, *protocols, ws=address) as origin,
        intercepting(tmp_path) as proxy,
    ):
        place = f"wss://{NAME}:{origin.address('web')[1]}/ws"
        proxied = "http://{}:{}".format(*proxy.address("out"))
        with websocket(place, proxy=proxied, ssl=trusting(tmp_path)) as client:
            client.send("hello")
            assert client.recv() == "hello"


def test_a_client_that_names_no_protocol_gets_http_1(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, intercepting(tmp_path) as proxy:
        proxied = "http://{}:{}".format(*proxy.address("out"))
        with httpx.Client(proxy=proxied, verify=trusting(tmp_path), http2=False) as client:
            assert client.get(f"https://{NAME}:{origin.port}/").http_version == "HTTP/1.1"
