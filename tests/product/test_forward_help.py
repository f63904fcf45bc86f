"""What a forward proxy says of itself to who asks it as a server: a page, a PAC file, its authority's certificate."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from intercepting import settings
from tests.certificates import authority, write
from tests.product.forwarding import config, fields, say, status
from tests.product.test_browser import BROWSER, browsing
from tests.product.users import users
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def proxy() -> Iterator[penstock.Proxy]:
    """One as it is without a word."""
    with penstock.Proxy(config(allow_private=False)) as running:
        yield running


def got(proxy: penstock.Proxy, path: str, host: str | None = "proxy.example:3128", method: str = "GET") -> bytes:
    """The answer to a request that names a path."""
    with closing(connect(proxy.address("out"))) as client:
        version, line = ("1.0", "") if host is None else ("1.1", f"Host: {host}\r\n")
        return say(client, f"{method} {path} HTTP/{version}\r\n{line}\r\n")


def text(answer: bytes) -> str:
    """Its body."""
    return answer.partition(b"\r\n\r\n")[2].decode()


def test_the_page_says_how_the_proxy_is_set(proxy: penstock.Proxy) -> None:
    answer = got(proxy, "/")
    assert (status(answer), fields(answer)["content-type"]) == (200, "text/html; charset=utf-8")
    assert fields(answer)["content-security-policy"].startswith("default-src 'none'")
    for word in (
        "curl -x http://proxy.example:3128 ",
        "pip install --proxy http://proxy.example:3128 ",
        "git config --global http.proxy http://proxy.example:3128",
        'href="/proxy.pac"',
    ):
        assert word in text(answer)
    assert "ca.pem" not in text(answer)


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("Proxy.Example:3128", "proxy.example:3128"),
        ("proxy.example", "proxy.example:80"),
        ("10.0.0.1:8080", "10.0.0.1:8080"),
        ("[fd00::1]:3128", "[fd00::1]:3128"),
    ],
)
def test_the_pac_file_names_the_proxy_as_it_was_reached(proxy: penstock.Proxy, host: str, place: str) -> None:
    answer = got(proxy, "/proxy.pac", host)
    assert (status(answer), fields(answer)["content-type"]) == (200, "application/x-ns-proxy-autoconfig")
    assert fields(answer)["cache-control"] == "no-store"
    assert f'return "PROXY {place}";' in text(answer)


@pytest.mark.parametrize(
    ("path", "host", "method", "expected"),
    [
        ("/other", "a", "GET", 404),
        ("/ca.pem", "a", "GET", 404),
        ("/proxy.pac", "a", "POST", 405),
        ("/proxy.pac", None, "GET", 400),
        ("/proxy.pac", 'a";alert(1)//', "GET", 400),
        ("/", "<b>", "GET", 400),
    ],
)
def test_there_is_nothing_else(proxy: penstock.Proxy, path: str, host: str | None, method: str, expected: int) -> None:
    assert status(got(proxy, path, host, method)) == expected


def test_who_is_not_served_is_told_nothing(tmp_path: Path) -> None:
    with penstock.Proxy(config(proxy_protocol={"from": ["127.0.0.1"]})) as proxy:
        for path in ("/", "/proxy.pac", "/other"):
            with closing(connect(proxy.address("out"))) as client:
                before = "PROXY TCP4 192.0.2.1 192.0.2.2 4000 3128\r\n"
                assert status(say(client, f"{before}GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")) == 403
    # A browser fetches the file before anybody says who asks.
    with penstock.Proxy(config(users=users(tmp_path))) as proxy:
        assert status(got(proxy, "/proxy.pac")) == 200
        assert "NAME:PASSWORD@proxy.example:3128" in text(got(proxy, "/"))


def test_the_certificate_of_the_authority_and_nothing_beside_it(tmp_path: Path) -> None:
    with penstock.Proxy(settings(tmp_path)) as first:
        assert 'href="/ca.pem"' in text(got(first, "/"))
    file, key = tmp_path / "ca" / "ca.pem", tmp_path / "ca" / "ca.key"
    made = file.read_text()
    # Who keeps the key in the same file has it no less secret.
    file.write_text(made + key.read_text())
    with penstock.Proxy(settings(tmp_path)) as proxy:
        answer = got(proxy, "/ca.pem", None)
    assert (status(answer), fields(answer)["content-type"]) == (200, "application/x-x509-ca-cert")
    assert "PRIVATE" not in text(answer)
    assert x509.load_pem_x509_certificate(text(answer).encode()) == x509.load_pem_x509_certificate(made.encode())


def test_over_tls_it_names_a_proxy_of_tls(tmp_path: Path) -> None:
    certificate = write(tmp_path, "corp", "shop.example")
    with penstock.Proxy(config(tls={"certificates": [certificate]})) as proxy:
        trust = ssl.create_default_context()
        authority().configure_trust(trust)
        trust.set_alpn_protocols(["http/1.1"])
        with closing(connect(proxy.address("out"), trust=trust)) as client:
            said = say(client, "GET /proxy.pac HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    assert b'return "HTTPS shop.example:443";' in said


class Site(BaseHTTPRequestHandler):
    """Notes what it is asked for, as by a proxy or not."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        """An empty page."""
        self.asked.append((self.headers["Host"], self.headers["Via"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed (make debian)")
def test_a_browser_reads_the_pac_file(tmp_path: Path) -> None:
    Site.asked = []
    with NameServer("127.0.0.1") as names, ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with penstock.Proxy(config() | {"dns": {"servers": [names.address]}}) as proxy:
            pac = "--proxy-pac-url=http://{}:{}/proxy.pac".format(*proxy.address("out"))
            with browsing(f"http://site.example:{server.server_address[1]}/", tmp_path / "profile", pac):
                wait_for(lambda: Site.asked, "the site is asked", 60)
        server.shutdown()
    # Only the proxy knows where that name leads.
    assert Site.asked[0][0] == f"site.example:{server.server_address[1]}"
    assert (Site.asked[0][1] or "").startswith("1.1 penstock-")


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_pac_file_leaves_out_what_the_proxy_refuses(proxy: penstock.Proxy, tmp_path: Path) -> None:
    hosts = {
        "localhost": "DIRECT",
        "127.0.0.1": "DIRECT",
        "::1": "DIRECT",
        "10.1.2.3": "DIRECT",
        "172.16.0.1": "DIRECT",
        "172.32.0.1": "PROXY proxy.example:3128",
        "192.168.1.1": "DIRECT",
        "printer": "DIRECT",
        "fd00::1": "DIRECT",
        "10.example.org": "PROXY proxy.example:3128",
        "fc.example.org": "PROXY proxy.example:3128",
        "example.org": "PROXY proxy.example:3128",
    }
    plain = 'function isPlainHostName(host) { return !host.includes(".") && !host.includes(":") }\n'
    asked = f"for (const host of {list(hosts)}) console.log(FindProxyForURL('http://x/', host));\n"
    (tmp_path / "pac.js").write_text(plain + text(got(proxy, "/proxy.pac")) + asked)
    command = [shutil.which("node") or "", str(tmp_path / "pac.js")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert dict(zip(hosts, said.stdout.splitlines(), strict=True)) == hosts
