"""Programs that others wrote, over HTTP/2: curl and h2load as clients, HAProxy as an endpoint with WebSockets."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import authority, write
from tests.http2 import Client
from tests.http2 import configuration as in_clear
from tests.load.origin import EchoOrigins
from websocket_streams import WebSocket, echo
from websockets.sync.client import connect as websocket
from websockets.sync.server import serve

import penstock
from product import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CURL, H2LOAD = shutil.which("curl"), shutil.which("h2load")
HAPROXY = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
NAME = "shop.example"
MANY = 2000

with_curl = pytest.mark.skipif(CURL is None, reason="curl is not installed")
with_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
with_h2load = pytest.mark.skipif(H2LOAD is None, reason="h2load is not installed (nghttp2-client)")


def configuration(endpoint: str, listener: dict[str, Any], protocol: str = "http1") -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", **listener}},
        "upstreams": {"app": {"endpoints": [endpoint], "protocol": protocol}},
        "routes": [{"upstream": "app"}],
        "engine": {"workers": 2},
    }


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a listener with TLS has."""
    return {"tls": {"certificates": [write(tmp_path_factory.mktemp("tls"), "shop", NAME)]}}


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where requests are said back, in HTTP/1.1."""
    with EchoOrigins("echo") as origins:
        yield origins.address


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def curl(proxy: penstock.Proxy, ca: Path, *options: str, paths: tuple[str, ...] = ("/",)) -> str:
    host, port = proxy.address()
    command = [str(CURL), "--silent", "--show-error", "--cacert", str(ca), "--resolve", f"{NAME}:{port}:{host}"]
    scheme = "https" if proxy.url().startswith("https") else "http"
    return run(*command, *options, *(f"{scheme}://{NAME}:{port}{path}" for path in paths))


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority that curl is to trust."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return path


@with_curl
def test_curl_agrees_on_http_2(origin: str, secured: dict[str, Any], ca: Path, tmp_path: Path) -> None:
    with penstock.Proxy(configuration(origin, secured)) as proxy:
        version = ("-w", "%{http_version} %{response_code}")
        assert curl(proxy, ca, "--http2", *version, paths=("/a?b=c",)) == "GET /a?b=c - - echo\n2 200"
        assert curl(proxy, ca, "--http1.1", *version) == "GET / - - echo\n1.1 200"
        assert curl(proxy, ca, "--http2", "--head").startswith("HTTP/2 200")
        body = tmp_path / "body"
        body.write_bytes(b"0123456789abcdef" * 65_536)
        said = curl(proxy, ca, "--http2", "-T", str(body), paths=("/up",))
        assert said == "PUT /up - - echo\n" + body.read_text("ascii")


@with_curl
def test_curl_has_many_on_one_connection(origin: str, secured: dict[str, Any], ca: Path) -> None:
    with penstock.Proxy(configuration(origin, secured)) as proxy:
        paths = tuple(f"/{number}" for number in range(100))
        said = curl(proxy, ca, "--http2", "--parallel", "--parallel-max", "50", paths=paths)
        assert sorted(said.splitlines()) == sorted(f"GET {path} - - echo" for path in paths)
        assert sum(listener.accepted for listener in proxy.stats().listeners) == 1


@with_curl
def test_curl_speaks_http_2_in_clear_if_it_knows(origin: str, ca: Path) -> None:
    version = ("-w", "%{http_version}")
    with penstock.Proxy(configuration(origin, {"h2c": True})) as proxy:
        assert curl(proxy, ca, "--http2-prior-knowledge", *version) == "GET / - - echo\n2"
        # It asks to upgrade, which RFC 9113 took back: the answer is HTTP/1.1's.
        assert curl(proxy, ca, "--http2", *version) == "GET / - - echo\n1.1"


def h2load(proxy: penstock.Proxy, *options: str, path: str = "/") -> None:
    """So many requests, all of which succeed."""
    (host, port), scheme = proxy.address(), "https" if proxy.url().startswith("https") else "http"
    command = [str(H2LOAD), "-n", str(MANY), "-c", "8", "-m", "25", "--connect-to", f"{host}:{port}"]
    said = run(*command, *options, f"{scheme}://{NAME}:{port}{path}")
    assert "Application protocol: h2" in said, said
    counted = re.search(r"requests: (.*)\nstatus codes: (.*)\n", said)
    assert counted, said
    assert counted[1] == (
        f"{MANY} total, {MANY} started, {MANY} done, {MANY} succeeded, 0 failed, 0 errored, 0 timeout"
    )
    assert counted[2] == f"{MANY} 2xx, 0 3xx, 0 4xx, 0 5xx"


@with_h2load
@pytest.mark.parametrize("protocol", ["http1", "h2c"])
@pytest.mark.parametrize("clear", [False, True], ids=["tls", "clear"])
def test_h2load_has_all_its_requests_answered(
    origin: str, secured: dict[str, Any], tmp_path: Path, clear: bool, protocol: str
) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 20_000)
    with ExitStack() as stack:
        if protocol == "h2c":
            behind = stack.enter_context(penstock.Proxy(configuration(origin, {"h2c": True})))
            origin = "{}:{}".format(*behind.address())
        listener = {"h2c": True} if clear else secured
        proxy = stack.enter_context(penstock.Proxy(configuration(origin, listener, protocol)))
        h2load(proxy)
        h2load(proxy, "-d", str(body), path="/up")
        (endpoint,) = proxy.stats().upstreams[0].endpoints
        assert (endpoint.requests, endpoint.failures, endpoint.in_flight) == (2 * MANY, 0, 0)
        assert proxy.stats().listeners[0].accepted == 16


HAPROXY_CONFIG = """
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout tunnel 20s
frontend web
    bind fd@${{LISTEN}} proto h2
    default_backend app
backend app
    server one {app}
"""


@contextmanager
def haproxy(app: str, folder: Path) -> Iterator[str]:
    """HAProxy that speaks HTTP/2 in clear, with WebSockets on its streams, in front of an application."""
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY_CONFIG.format(app=app), "utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        command = [str(HAPROXY), "-db", "-f", str(config)]
        process = subprocess.Popen(command, pass_fds=[number], env={"LISTEN": str(number)})
        try:
            yield "{}:{}".format(*listener.getsockname())
        finally:
            process.kill()
            process.wait()


@with_haproxy
def test_websockets_to_another_ones_http_2(tmp_path: Path) -> None:
    with serve(echo, "127.0.0.1", 0, compression=None, max_size=None, subprotocols=["chat"]) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        app = "{}:{}".format(*server.socket.getsockname())
        with haproxy(app, tmp_path) as endpoint, penstock.Proxy(in_clear(endpoint)) as proxy:
            with Client(proxy.address()) as client:
                streams = [WebSocket(client, number) for number in (1, 3, 5)]
                for message in (b"", b"x", b"y" * 70_000, b"z" * 300_000):
                    assert [stream.exchange(message) for stream in streams] == [message] * 3
            with websocket(proxy.url().replace("http", "ws") + "/chat", subprotocols=["chat"]) as own:  # type: ignore[list-item]
                for message in ("a", "b" * 100_000):
                    own.send(message)
                    assert own.recv(timeout=DEADLINE) == message
            assert proxy.stats().upstreams[0].endpoints[0].connects == 1
        server.shutdown()
        thread.join(5)
