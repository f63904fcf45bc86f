"""What people use, through opened tunnels and closed ones: each knows the proxy and trusts whom it meets there."""

from __future__ import annotations

import functools
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from intercepting import NAME, OPEN, intercepting, shop
from test_browser import BROWSER, OBJECTS, Site, browsing, echo, published, running, trust
from tests.certificates import origin_context, write
from tests.product.waiting import wait_for
from websockets.sync.client import connect as websocket
from websockets.sync.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import penstock


class _Files(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """The test's own output is enough."""


@contextmanager
def files(folder: Path) -> Iterator[int]:
    """A server of the files in a folder, that proves to be `NAME`; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Files, directory=str(folder)))
    server.daemon_threads = True
    # Each shakes hands in its own thread.
    server.socket = origin_context(NAME).wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@dataclass(frozen=True)
class Way:
    """Through an opened tunnel, or a closed one."""

    folder: Path
    opened: bool

    def proxy(self) -> AbstractContextManager[penstock.Proxy]:
        """One that has such tunnels."""
        rules = [OPEN] if self.opened else [{"name": "closed", "tunnel": True}, OPEN]
        return intercepting(self.folder, *rules)

    @property
    def trusted(self) -> Path:
        """The authority that clients have to trust: the proxy's, or that of the server."""
        return self.folder / "ca" / "ca.pem" if self.opened else self.folder / "roots.pem"

    def context(self) -> ssl.SSLContext:
        """For a client in Python."""
        return ssl.create_default_context(cafile=str(self.trusted))

    def told(self, *urls: str) -> None:
        """Wait until the log has these requests, if somebody but the client and the server can know of them."""
        wanted = list(urls) if self.opened else []
        wait_for(lambda: self.opened or tunnels(self.folder), "a tunnel is in the log")
        wait_for(lambda: targets(self.folder)[: len(wanted)] == wanted, f"{wanted} in the log")
        assert self.opened or targets(self.folder) == []


@pytest.fixture(params=["opened", "closed"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """Both."""
    return Way(tmp_path, request.param == "opened")


def tunnels(folder: Path) -> list[dict[str, Any]]:
    """Records of tunnels."""
    log = folder / "access.log"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [row for row in rows if row.get("method") == "CONNECT"]


def targets(folder: Path) -> list[str]:
    """Those of the requests that were asked in tunnels."""
    log = folder / "access.log"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [row["target"] for row in rows if row.get("method") not in ("CONNECT", None)]


def url(proxy: penstock.Proxy, scheme: str = "http") -> str:
    """Where clients find the proxy."""
    return "{}://{}:{}".format(scheme, *proxy.address("out"))


def said(command: list[str], **environment: str) -> str:
    """What a program prints that does what it should. It finds no proxy and no authority but those that it is given."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:4] != "PIP_"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env={**kept, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_curl(tmp_path: Path, way: Way, scheme: str) -> None:
    with shop(tmp_path) as origin, way.proxy() as proxy:
        place = f"https://{NAME}:{origin.port}/x"
        command = ["curl", "--silent", "--show-error", "--cacert", str(way.trusted)]
        assert said([*command, "-x", url(proxy, scheme), place, place]) == "okok"
        way.told(place, place)


def test_httpx(tmp_path: Path, way: Way) -> None:
    with shop(tmp_path) as origin, way.proxy() as proxy:
        with httpx.Client(proxy=url(proxy), verify=way.context()) as client:
            for _ in range(3):
                assert client.get(f"https://{NAME}:{origin.port}/").text == "ok"
        assert (len(origin.requests), len(origin.names)) == (3, 1)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_clones(tmp_path: Path, way: Way) -> None:
    source, served = tmp_path / "source", tmp_path / "served"
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "HOME": str(tmp_path)}
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    said(["git", "init", "--quiet", str(source)], **quiet)
    (source / "file").write_text("content")
    said(["git", "-C", str(source), "add", "file"], **quiet)
    said(["git", "-C", str(source), *who, "commit", "--quiet", "-m", "one"], **quiet)
    said(["git", "clone", "--quiet", "--bare", str(source), str(served / "repo.git")], **quiet)
    said(["git", "-C", str(served / "repo.git"), "update-server-info"], **quiet)
    with files(served) as port, way.proxy() as proxy:
        place = f"https://{NAME}:{port}/repo.git"
        clone = ["git", "-c", f"http.proxy={url(proxy)}", "clone", "--quiet", place]
        said([*clone, str(tmp_path / "cloned")], GIT_SSL_CAINFO=str(way.trusted), **quiet)
        way.told(f"{place}/info/refs?service=git-upload-pack")
    assert (tmp_path / "cloned" / "file").read_text() == "content"


def test_pip_installs(tmp_path: Path, way: Way) -> None:
    index = tmp_path / "index" / "simple" / "tiny"
    index.mkdir(parents=True)
    wheel = "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(index / wheel, "w") as archive:
        archive.writestr("tiny.py", "VALUE = 7\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    (index / "index.html").write_text(f'<!DOCTYPE html><html><body><a href="{wheel}">{wheel}</a></body></html>')
    with files(tmp_path / "index") as port, way.proxy() as proxy:
        simple = f"https://{NAME}:{port}/simple/"
        pip = [sys.executable, "-m", "pip", "install", "--isolated", "--no-cache-dir", "--disable-pip-version-check"]
        pip += ["--cert", str(way.trusted), "--proxy", url(proxy)]
        pip += ["--index-url", simple, "--target", str(tmp_path / "target"), "tiny"]
        said(pip, HOME=str(tmp_path))
        way.told(f"{simple}tiny/", f"{simple}tiny/{wheel}")
    assert (tmp_path / "target" / "tiny.py").read_text() == "VALUE = 7\n"


def test_websockets(tmp_path: Path, way: Way) -> None:
    with (
        serve(echo, "127.0.0.1", 0, ssl=origin_context(NAME)) as server,
        running(server) as (address,),
        way.proxy() as proxy,
    ):
        place = f"wss://{NAME}:{address.rpartition(':')[2]}/ws"
        with websocket(place, proxy=url(proxy), ssl=way.context()) as client:
            for message in ("hello", "x" * 100_000):
                client.send(message)
                assert client.recv() == message
        way.told(place.replace("wss", "https"))


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed (make debian)")
def test_a_browser(tmp_path: Path, way: Way) -> None:
    certificate = write(tmp_path / "keys", "shop", NAME)
    with published(certificate) as origin, way.proxy() as proxy:
        # It trusts a key and no file: that of the authority that signs, or of the server.
        known = way.trusted if way.opened else Path(certificate["cert"])
        options = [trust(known), f"--proxy-server={url(proxy)}"]
        place = f"https://{NAME}:{origin.address('web')[1]}"
        with browsing(f"{place}/", tmp_path / "profile", *options):
            report = Site.reports.get(timeout=60)
        if way.opened:
            wait_for(lambda: f"{place}/ws" in targets(tmp_path), "the WebSocket is told of")
        assert proxy.stats().listeners[0].interception["unverified"] == 0
    assert report["objects"] == OBJECTS
    assert report["sum"] == OBJECTS * (OBJECTS + 1) // 2
    assert report["echoed"] == "from a browser"
    told = sum(target.startswith(f"{place}/object/") for target in targets(tmp_path))
    assert told == (OBJECTS if way.opened else 0)


def test_a_client_that_does_not_trust_us_gets_no_page(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, intercepting(tmp_path) as proxy:
        strict = ssl.create_default_context()
        with httpx.Client(proxy=url(proxy), verify=strict) as client, pytest.raises(httpx.ConnectError):
            client.get(f"https://{NAME}:{origin.port}/")
    assert origin.requests == []
