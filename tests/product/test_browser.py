"""A real browser: a page of a hundred objects and a WebSocket, over HTTP/2 with TLS."""

from __future__ import annotations

import base64
import hashlib
import json
import queue
import shutil
import subprocess
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.certificates import write
from waiting import wait_for
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER = shutil.which("chromium")
OBJECTS = 100
NAME = "shop.example"
PAGE = """<!doctype html><title>Penstock</title><script>
addEventListener("load", async () => {
  const loaded = performance.getEntriesByType("resource").filter(one => one.name.includes("/object/"));
  const report = {objects: loaded.length, protocols: [...new Set(loaded.map(one => one.nextHopProtocol))],
                  sum: [...document.images].reduce((sum, image) => sum + image.naturalWidth, 0)};
  const socket = new WebSocket(`wss://${location.host}/ws`);
  socket.onopen = () => socket.send("from a browser");
  socket.onerror = () => fetch("/report", {method: "POST", body: JSON.stringify({...report, echoed: "failed"})});
  socket.onmessage = message => {
    report.echoed = message.data;
    fetch("/report", {method: "POST", body: JSON.stringify(report)});
  };
});
</script>
""" + "".join(f'<img src="/object/{number}">' for number in range(OBJECTS))
IMAGE = '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="1"><!--{padding}--></svg>'


class Many(ThreadingHTTPServer):
    """Takes as many connections at once as there are objects."""

    request_queue_size = 256


class Site(BaseHTTPRequestHandler):
    """The page, its objects, and where the browser tells what it saw."""

    protocol_version = "HTTP/1.1"
    reports: queue.Queue[Any]

    def do_GET(self) -> None:
        """The page or an object of it."""
        if self.path.startswith("/object/"):
            number = int(self.path.rpartition("/")[2])
            self._answer("image/svg+xml", IMAGE.format(width=number + 1, padding="x" * (number * 977 % 50_000)))
        else:
            self._answer("text/html", PAGE)

    def do_POST(self) -> None:
        """What the browser saw."""
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer("text/plain", "thanks")

    def _answer(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The test's own output is enough."""


def echo(connection: ServerConnection) -> None:
    """Say what is said."""
    with suppress(ConnectionClosed):  # a browser that is ended says no farewell
        for message in connection:
            connection.send(message)


@contextmanager
def running(*servers: Any) -> Iterator[list[str]]:
    """Serve, each in a thread; their addresses."""
    threads = [threading.Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield ["{}:{}".format(*server.socket.getsockname()) for server in servers]
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join(5)


def trust(certificate: Path) -> str:
    """The option by which a browser trusts whoever has this key, or was signed by it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    pin = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    return f"--ignore-certificate-errors-spki-list={base64.b64encode(pin).decode()}"


@contextmanager
def browsing(url: str, profile: Path, *options: str) -> Iterator[None]:
    """A browser with these options, on this page."""
    command = [
        BROWSER or "",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={profile}",
        *options,
        url,
    ]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        try:
            yield
        finally:
            browser.kill()


@contextmanager
def published(certificate: dict[str, Any], **further: Any) -> Iterator[penstock.Proxy]:
    """The page, its objects and its WebSocket, behind a proxy that has this certificate."""
    Site.reports = queue.Queue()
    with (
        Many(("127.0.0.1", 0), Site) as site,
        serve(echo, "127.0.0.1", 0) as server,
        running(site, server) as (pages, sockets),
        penstock.Proxy(
            {
                "listeners": {"web": {"bind": "127.0.0.1:0", "tls": {"certificates": [certificate]}}},
                "upstreams": {"pages": {"endpoints": [pages]}, "sockets": {"endpoints": [sockets]}},
                "routes": [{"match": 'path == "/ws"', "upstream": "sockets"}, {"upstream": "pages"}],
                **further,
            }
        ) as proxy,
    ):
        yield proxy


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed (make debian)")
def test_a_page_of_a_hundred_objects_and_a_websocket(tmp_path: Path) -> None:
    certificate = write(tmp_path / "keys", "shop", NAME)
    record = tmp_path / "access.log"
    with published(certificate, log={"access": {"to": str(record), "format": "json"}}) as proxy:
        options = [trust(Path(certificate["cert"])), f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        with browsing(f"https://{NAME}:{proxy.address('web')[1]}/", tmp_path / "profile", *options):
            report = Site.reports.get(timeout=60)
        # The browser is gone, and with it its WebSocket, which is told of when it has ended.
        wait_for(lambda: '"/ws"' in record.read_text(encoding="utf-8"), "the WebSocket is told of")
    assert report == {
        "objects": OBJECTS,
        "protocols": ["h2"],
        "sum": OBJECTS * (OBJECTS + 1) // 2,
        "echoed": "from a browser",
    }
    records = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert {one["version"] for one in records} == {"2.0"}, records
    assert {one["status"] for one in records if one["target"] == "/ws"} == {200}
