"""Content codings: real clients decode what they are sent, and nothing is coded twice or held back."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import httpx
import pytest

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = b"<!doctype html><title>a page</title>" + b"".join(b"<p>paragraph %d</p>" % n for n in range(20_000))
GO_ON = threading.Semaphore(0)


class _Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages: ClassVar[dict[str, tuple[str, bytes, dict[str, str]]]] = {
        "/page": ("text/html; charset=utf-8", PAGE, {"ETag": '"one"', "Accept-Ranges": "bytes"}),
        "/picture": ("image/png", PAGE, {}),
        "/short": ("text/plain", b"short", {}),
        "/coded": ("text/html", b"already", {"Content-Encoding": "x-own"}),
    }

    def do_GET(self) -> None:
        if self.path == "/events":
            self._events()
            return
        media, body, fields = self.pages[self.path]
        self.send_response(200)
        for name, value in {"Content-Type": media, "Content-Length": str(len(body)), **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def _events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(3):
            event = b"data: %d\n\n" % number
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            GO_ON.acquire(timeout=5)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _site(**compress: Any) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "upstreams": {"site": {"endpoints": [f"127.0.0.1:{server.server_address[1]}"]}},
        "routes": [
            {
                "match": 'path == "/own"',
                "respond": {"body": PAGE.decode(), "content_type": "text/html"},
                "filters": [{"compress": compress}],
            },
            {"upstream": "site", "filters": [{"compress": compress}]},
        ],
        "engine": {"workers": 1},
    }
    try:
        with penstock.Proxy(config) as proxy:
            yield proxy.url("web")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("path", ["/page", "/own"])
def test_a_client_gets_what_it_decodes_to_the_page(coding: str, path: str) -> None:
    with _site() as url, httpx.stream("GET", url + path, headers={"Accept-Encoding": coding}) as answer:
        raw = b"".join(answer.iter_raw())
        decoded = httpx.Response(200, headers={"content-encoding": coding}, content=raw).content
        assert answer.headers["content-encoding"] == coding
        assert answer.headers["vary"] == "Accept-Encoding"
    assert decoded == PAGE
    assert len(raw) < len(PAGE) / 4


def test_the_best_of_what_the_client_takes_is_sent() -> None:
    with _site() as url:
        assert httpx.get(f"{url}/page").headers["content-encoding"] == "zstd"
    with _site(codings=["gzip"]) as url:
        answer = httpx.get(f"{url}/page", headers={"Accept-Encoding": "br, gzip"})
        assert (answer.headers["content-encoding"], answer.content) == ("gzip", PAGE)


def test_a_coded_page_is_another_representation() -> None:
    with _site() as url:
        plain = httpx.get(f"{url}/page", headers={"Accept-Encoding": "identity"})
        assert (plain.content, plain.headers["etag"], plain.headers["vary"]) == (PAGE, '"one"', "Accept-Encoding")
        assert plain.headers["content-length"] == str(len(PAGE))
        coded = httpx.head(f"{url}/page", headers={"Accept-Encoding": "gzip"})
        assert (coded.headers["content-encoding"], coded.headers["etag"]) == ("gzip", 'W/"one"')
        assert "content-length" not in coded.headers
        assert "accept-ranges" not in coded.headers


@pytest.mark.parametrize("path", ["/picture", "/short", "/coded"])
def test_what_gains_nothing_stays_as_it_is(path: str) -> None:
    with _site() as url, httpx.stream("GET", url + path, headers={"Accept-Encoding": "gzip"}) as answer:
        assert b"".join(answer.iter_raw()) == _Site.pages[path][1]
        assert answer.headers.get("content-encoding") in (None, "x-own")


def test_events_are_not_held_back() -> None:
    with (
        _site() as url,
        httpx.stream("GET", f"{url}/events", headers={"Accept-Encoding": "gzip"}, timeout=5) as answer,
    ):
        assert answer.headers["content-encoding"] == "gzip"
        got = []
        for line in answer.iter_lines():
            if line:
                # Only now may the site go on: had the event been kept back, nobody would have read it.
                got.append(line)
                GO_ON.release()
        assert got == ["data: 0", "data: 1", "data: 2"]
