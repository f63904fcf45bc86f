"""Real servers behind Penstock: nginx, Python's http.server, wsgiref; and one that goes away."""

from __future__ import annotations

import http.server
import shutil
import subprocess
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx
import pytest
from tests.product.waiting import wait_for
from tests.wire.peers import ShortFolder

import penstock

if TYPE_CHECKING:
    import socketserver
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PAGE = b"<!doctype html><title>a page</title>" + b"<p>text</p>" * 2000
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
NGINX_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
http {{
    access_log off; default_type text/html; gzip on; gzip_types text/html; gzip_http_version 1.1; gzip_proxied any;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/t1; fastcgi_temp_path {folder}/t2;
    uwsgi_temp_path {folder}/t3; scgi_temp_path {folder}/t4;
    server {{
        listen unix:{folder}/nginx.sock;
        location / {{ root {folder}/site; }}
        location /host {{ return 200 "$host|$http_x_forwarded_for|$http_x_forwarded_proto|$request_uri"; }}
        location /moved {{ return 301 /new; }}
    }}
}}
"""


def _config(*endpoints: str, **upstream: Any) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "upstreams": {"server": {"endpoints": list(endpoints), **upstream}},
        "routes": [{"upstream": "server"}],
        "engine": {"workers": 1},
    }


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        host, port = server.server_address[:2]  # type: ignore[misc]
        yield f"{host}:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture(scope="module")
def nginx() -> Iterator[str]:
    """The address of an nginx that serves a page."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    with ShortFolder() as folder:
        (folder.path / "site").mkdir()
        (folder.path / "site" / "page.html").write_bytes(PAGE)
        folder.path.chmod(0o755)
        (folder.path / "conf").write_text(NGINX_CONFIG.format(folder=folder.path))
        server = subprocess.Popen([NGINX, "-c", folder.path / "conf", "-e", folder.path / "error.log"])
        try:
            wait_for((folder.path / "nginx.sock").exists, "nginx listens")
            yield f"unix:{folder.path}/nginx.sock"
        finally:
            server.terminate()
            server.wait(5)


@pytest.fixture
def behind_nginx(nginx: str) -> Iterator[httpx.Client]:
    """A client of Penstock in front of nginx."""
    with penstock.Proxy(_config(nginx)) as proxy, httpx.Client(base_url=proxy.url()) as client:
        yield client


def test_nginx_serves_a_page(behind_nginx: httpx.Client) -> None:
    plain = behind_nginx.get("/page.html", headers={"Accept-Encoding": "identity"})
    assert (plain.status_code, plain.content) == (200, PAGE)
    packed = behind_nginx.get("/page.html", headers={"Accept-Encoding": "gzip"})
    assert (packed.headers["content-encoding"], packed.content) == ("gzip", PAGE)
    part = behind_nginx.get("/page.html", headers={"Range": "bytes=5-9", "Accept-Encoding": "identity"})
    assert (part.status_code, part.content) == (206, PAGE[5:10])
    same = behind_nginx.get("/page.html", headers={"If-None-Match": plain.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert behind_nginx.head("/page.html").content == b""
    assert behind_nginx.get("/missing").status_code == 404
    assert behind_nginx.get("/moved").status_code == 301


def test_nginx_sees_the_clients_host(behind_nginx: httpx.Client) -> None:
    seen = behind_nginx.get("/host?a=b", headers={"Host": "shop.example", "X-Forwarded-For": "10.9.9.9"}).text
    assert seen == "shop.example|127.0.0.1|http|/host?a=b"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's file server, without its log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Modern(Quiet):
    """The same with keep-alive."""

    protocol_version = "HTTP/1.1"


@pytest.mark.parametrize("version", [Quiet, Modern], ids=["HTTP/1.0", "HTTP/1.1"])
def test_pythons_file_server(version: type[Quiet], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(PAGE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(version, directory=tmp_path))
    server.daemon_threads = True
    with (
        _serving(server) as address,
        penstock.Proxy(_config(address)) as proxy,
        httpx.Client(base_url=proxy.url()) as client,
    ):
        for _ in range(5):
            answer = client.get("/page.html")
            assert (answer.status_code, answer.content) == (200, PAGE)
        assert client.head("/page.html").headers["content-length"] == str(len(PAGE))
        assert "page.html" in client.get("/").text
        assert client.post("/page.html", content=b"x").status_code == 501


class QuietWsgi(WSGIRequestHandler):
    """wsgiref without its log."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    said = (
        f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ['HTTP_X_FORWARDED_FOR']} {environ['HTTP_HOST']} "
    )
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said.encode(), body]


def test_a_wsgi_application() -> None:
    server = make_server("127.0.0.1", 0, _application, handler_class=QuietWsgi)
    with _serving(server) as address, penstock.Proxy(_config(address)) as proxy:
        answer = httpx.post(proxy.url() + "/orders/1", content=b"two lamps", headers={"Host": "shop.example"})
        assert (answer.status_code, answer.text) == (200, "POST /orders/1 127.0.0.1 shop.example two lamps")


def test_a_server_that_goes_away_is_left_out_and_taken_back(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"page")
    start = partial(http.server.ThreadingHTTPServer, RequestHandlerClass=partial(Modern, directory=tmp_path))
    check = {"path": "/page.html", "interval": "50ms", "timeout": "1s", "fall": 1, "rise": 1}
    first, second = start(("127.0.0.1", 0)), start(("127.0.0.1", 0))
    first.daemon_threads = second.daemon_threads = True
    with _serving(first) as stays, penstock.Proxy(_config(stays, _address(second), health_check=check)) as proxy:
        with _serving(second) as goes:
            wait_for(lambda: _states(proxy) == {stays: "up", goes: "up"}, "both are up")
        wait_for(lambda: _states(proxy) == {stays: "up", goes: "down"}, "the stopped one is down")
        with httpx.Client(base_url=proxy.url()) as client:
            assert {client.get("/page.html").status_code for _ in range(20)} == {200}
        host, port = goes.split(":")
        third = start((host, int(port)))
        third.daemon_threads = True
        with _serving(third):
            wait_for(lambda: _states(proxy) == {stays: "up", goes: "up"}, "the one that is back is up")


def _address(server: socketserver.BaseServer) -> str:
    host, port = server.server_address[:2]  # type: ignore[misc]
    return f"{host}:{port}"


def _states(proxy: penstock.Proxy) -> dict[str, str]:
    return {endpoint.address: endpoint.state for upstream in proxy.stats().upstreams for endpoint in upstream.endpoints}
