"""Real clients: curl, httpx, http.client, and one that behaves like a browser."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.load.origin import EchoOrigins

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def proxy() -> Iterator[penstock.Proxy]:
    """In front of one echo origin."""
    with EchoOrigins("echo") as origins:
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0"}},
            "upstreams": {"echo": {"endpoints": [origins.address]}},
            "routes": [{"upstream": "echo"}],
            "engine": {"workers": 2},
        }
        with penstock.Proxy(config) as running:
            yield running


def _curl(*arguments: str, stdin: bytes = b"") -> bytes:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--show-error", "--max-time", "10", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=20, check=True).stdout


def test_curl_get(proxy: penstock.Proxy) -> None:
    assert _curl(proxy.url() + "/a?b=c", "-H", "X-Token: t") == b"GET /a?b=c t - echo\n"


def test_curl_http_1_0(proxy: penstock.Proxy) -> None:
    assert _curl("--http1.0", proxy.url() + "/") == b"GET / - - echo\n"


def test_curl_head(proxy: penstock.Proxy) -> None:
    assert _curl("--head", proxy.url() + "/").startswith(b"HTTP/1.1 200 OK\r\n")


def test_curl_form(proxy: penstock.Proxy) -> None:
    assert _curl(proxy.url() + "/form", "-d", "a=1&b=2") == b"POST /form - - echo\na=1&b=2"


def test_curl_large_upload_expects_100(proxy: penstock.Proxy, tmp_path: Path) -> None:
    body = bytes(range(256)) * 8192
    (tmp_path / "body").write_bytes(body)
    got = _curl(
        proxy.url() + "/up", "-H", "Expect: 100-continue", "--expect100-timeout", "0.2", "-T", str(tmp_path / "body")
    )
    assert got == b"PUT /up - - echo\n" + body


def test_curl_chunked_upload(proxy: penstock.Proxy) -> None:
    got = _curl(proxy.url() + "/up", "-H", "Transfer-Encoding: chunked", "-T", "-", stdin=b"x" * 300_000)
    assert got == b"PUT /up - - echo\n" + b"x" * 300_000


def test_curl_uses_one_connection_for_many(proxy: penstock.Proxy) -> None:
    before = _accepted(proxy)
    assert _curl(*[f"{proxy.url()}/{n}" for n in range(20)]) == b"".join(b"GET /%d - - echo\n" % n for n in range(20))
    assert _accepted(proxy) == before + 1


def test_curl_path_is_sent_as_it_is_and_made_canonical_here(proxy: penstock.Proxy) -> None:
    assert _curl("--path-as-is", proxy.url() + "/x/../%61/./b") == b"GET /a/b - - echo\n"


def test_httpx_pool(proxy: penstock.Proxy) -> None:
    with httpx.Client(base_url=proxy.url()) as client, ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda n: client.post(f"/{n}", json={"n": n}, headers={"X-Token": str(n)}), range(200))
        )
    for number, answer in enumerate(answers):
        line, _, body = answer.text.partition("\n")
        assert (answer.status_code, line) == (200, f"POST /{number} {number} - echo")
        assert json.loads(body) == {"n": number}


def test_httpx_streams_an_upload(proxy: penstock.Proxy) -> None:
    answer = httpx.post(proxy.url() + "/up", content=(b"%d;" % n for n in range(1000)))
    assert answer.text == "POST /up - - echo\n" + "".join(f"{n};" for n in range(1000))


def test_http_client_keeps_its_connection(proxy: penstock.Proxy) -> None:
    before = _accepted(proxy)
    connection = http.client.HTTPConnection(*proxy.address(), timeout=5)
    for number in range(50):
        connection.request("PATCH", f"/{number}", body=b"x" * number, headers={"X-Token": "t"})
        assert connection.getresponse().read() == b"PATCH /%d t - echo\n" % number + b"x" * number
    connection.close()
    assert _accepted(proxy) == before + 1


def test_a_browser_opens_six_connections_and_keeps_them(proxy: penstock.Proxy) -> None:
    before = _accepted(proxy)

    def load_assets(connection_number: int) -> list[bytes]:
        connection = http.client.HTTPConnection(*proxy.address(), timeout=5)
        bodies = []
        for number in range(connection_number, 120, 6):
            connection.request("GET", f"/assets/{number}.js", headers=BROWSER)
            bodies.append(connection.getresponse().read())
        connection.close()
        return bodies

    with ThreadPoolExecutor(6) as threads:
        bodies = [body for some in threads.map(load_assets, range(6)) for body in some]
    assert sorted(bodies) == sorted(b"GET /assets/%d.js - - echo\n" % n for n in range(120))
    assert _accepted(proxy) == before + 6


BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9",
    "Sec-Fetch-Mode": "navigate",
    "Upgrade-Insecure-Requests": "1",
    "Cookie": "; ".join(f"c{n}={'v' * 40}" for n in range(20)),
}


def _accepted(proxy: penstock.Proxy) -> int:
    return sum(listener.accepted for listener in proxy.stats().listeners)
