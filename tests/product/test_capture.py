"""Captured exchanges: what is kept of them, what is not, and what can be done with them."""

from __future__ import annotations

import http.client
import http.server
import json
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from waiting import wait_for

import penstock
from product import run, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from product import Running

CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
capture = { match = 'path != "/not"', bodies = "1KB"KEYS }
[engine]
workers = 2
[upstreams.app]
endpoints = ["ORIGIN"]
[[routes]]
name = "fixed"
match = 'path == "/fixed"'
respond = { status = 418, body = "short\\n", headers = { "Set-Cookie" = "id=cookie-secret" } }
[[routes]]
name = "app"
upstream = "app"
"""


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    do_POST = do_GET  # noqa: N815 - as the base wants it

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def origin() -> Iterator[str]:
    """Where an endpoint is that reads bodies and says hello."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


TEXT: dict[str, Any] = {"type": "string"}
PAIRS = {
    "type": "array",
    "items": {"type": "object", "required": ["name", "value"], "properties": {"name": TEXT, "value": TEXT}},
}
MESSAGE = ["httpVersion", "cookies", "headers", "headersSize", "bodySize"]
SIZE = {"type": "integer", "minimum": -1}
HAR = {
    "type": "object", "required": ["log"], "properties": {"log": {
        "type": "object", "required": ["version", "creator", "entries"], "properties": {
            "version": {"const": "1.2"},
            "creator": {"type": "object", "required": ["name", "version"]},
            "entries": {"type": "array", "items": {
                "type": "object",
                "required": ["startedDateTime", "time", "request", "response", "cache", "timings"],
                "properties": {
                    "startedDateTime": {
                        "type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d)$",
                    },
                    "time": {"type": "number", "minimum": 0},
                    "cache": {"type": "object"},
                    "timings": {
                        "type": "object", "required": ["send", "wait", "receive"],
                        "properties": {name: {"type": "number", "minimum": 0} for name in ("send", "wait", "receive")},
                    },
                    "request": {
                        "type": "object", "required": ["method", "url", "queryString", *MESSAGE],
                        "properties": {
                            "method": TEXT, "url": {"type": "string", "pattern": "^https?://"}, "httpVersion": TEXT,
                            "cookies": PAIRS, "headers": PAIRS, "queryString": PAIRS,
                            "headersSize": SIZE, "bodySize": SIZE,
                            "postData": {"type": "object", "required": ["mimeType", "text"]},
                        },
                    },
                    "response": {
                        "type": "object", "required": ["status", "statusText", "content", "redirectURL", *MESSAGE],
                        "properties": {
                            "status": {"type": "integer"}, "statusText": TEXT, "cookies": PAIRS, "headers": PAIRS,
                            "redirectURL": TEXT, "headersSize": SIZE, "bodySize": SIZE,
                            "content": {
                                "type": "object", "required": ["size", "mimeType"],
                                "properties": {"size": {"type": "integer"}, "mimeType": TEXT, "text": TEXT},
                            },
                        },
                    },
                },
            }},
        },
    }},
}  # fmt: skip
"""HAR 1.2, section 3 of its draft: the members that an archive must have, and their types."""


def written(folder: Path, origin: str, keys: str = "") -> Path:
    path = folder / "penstock.toml"
    path.write_text(CONFIG.replace("KEYS", keys).replace("ORIGIN", origin))
    return path


def send(address: str, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def archived(running: Running) -> list[dict[str, Any]]:
    document = json.loads(running.command("capture", "har").stdout)
    jsonschema.Draft202012Validator(HAR).validate(document)
    entries: list[dict[str, Any]] = document["log"]["entries"]
    return entries


def test_exchanges_are_captured_without_their_secrets(tmp_path: Path, origin: str) -> None:
    with serving(written(tmp_path, origin)) as running:
        address = running.address()
        form = b"user=ann&password=form-secret"
        kind = "application/x-www-form-urlencoded"
        send(address, "GET", "/a?q=1&access_token=query-secret", Authorization="Bearer field-secret", X_Plain="kept")
        send(address, "POST", "/form", form, Content_Type=kind, Cookie="a=cookie-secret")
        send(address, "GET", "/fixed")
        send(address, "GET", "/not")
        send(address, "POST", "/bytes", b"\xff" * 3000)
        # In the order in which they ended, which two workers tell in their own time.
        entries = archived(running)
        found = {urlsplit(entry["request"]["url"]).path: entry for entry in entries}
        assert len(entries) == len(found) == 4
        first, second, fixed, third = (found[path] for path in ("/a", "/form", "/fixed", "/bytes"))
        assert "secret" not in json.dumps(entries)
        assert first["request"]["url"] == f"http://{address}/a?q=1&access_token=REDACTED"
        assert {"name": "x-plain", "value": "kept"} in [
            {**field, "name": field["name"].lower()} for field in first["request"]["headers"]
        ]
        assert (first["response"]["status"], first["response"]["content"]["text"]) == (200, "hello")
        assert (first["_route"], first["_upstream"], first["_endpoint"]) == ("app", "app", origin)
        assert second["request"]["postData"]["text"] == "user=ann&password=REDACTED"
        assert (fixed["response"]["status"], fixed["_route"], fixed["_endpoint"]) == (418, "fixed", None)
        assert fixed["response"]["content"]["text"] == "short\n"
        cut = third["request"]["postData"]
        assert (len(cut["text"]), cut["encoding"], cut["comment"]) == (1368, "base64", "the first 1024 of 3000 bytes")
        listed = running.command("capture", "list").stdout.splitlines()
        assert [line.split()[0] for line in listed] == [str(entry["_id"]) for entry in entries]
        assert "418" in listed[2]
        shown = running.command("capture", "show", str(second["_id"])).stdout
        assert "user=ann&password=REDACTED" in shown
        assert "hello" in shown
        assert running.status()["listeners"][0]["capture"]["captured"] == 4
        assert running.command("capture", "clear").returncode == 0
        assert archived(running) == []
        assert "there is no exchange 1" in running.command("capture", "show", "1").stderr


def test_what_fails_is_captured_with_its_cause(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, origin, ", secrets = true")
    path.write_text(path.read_text().replace(origin, "127.0.0.1:1"))
    with serving(path) as running:
        assert send(running.address(), "GET", "/a", Authorization="Basic x")[0] == 502
        (entry,) = archived(running)
        assert (entry["response"]["status"], entry["_error"]) == (502, "connect_refused")
        assert {"name": "Authorization", "value": "Basic x"} in [
            {**field, "name": field["name"].title()} for field in entry["request"]["headers"]
        ]


def test_the_ring_never_exceeds_its_memory(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, origin, ', memory = "1MB"')
    path.write_text(path.read_text().replace('bodies = "1KB"', 'bodies = "256KB"'))
    with penstock.Proxy(path) as proxy:
        host, port = proxy.address("web")

        def load() -> None:
            for _ in range(20):
                send(f"{host}:{port}", "POST", "/a", b"x" * 100_000)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        most, capture = 0, None
        while any(thread.is_alive() for thread in threads):
            capture = proxy.stats().listeners[0].capture
            assert capture is not None
            most = max(most, capture.bytes)
            threads[0].join(0.001)
        for thread in threads:
            thread.join()
        assert capture is not None
        assert most <= capture.memory == 1 << 20
        assert most > 300_000, "it was put to use"

        def counted() -> int:
            found = proxy.stats().listeners[0].capture
            return found.captured + found.dropped if found else 0

        wait_for(lambda: counted() == 80, "an exchange is counted a moment after its answer")
        assert (last := proxy.stats().listeners[0].capture) is not None
        assert last.evicted > 0


def test_what_a_forward_proxy_captured_is_sent_again_by_its_url(tmp_path: Path, origin: str) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(
        '[listeners.web]\nbind = "127.0.0.1:0"\nprotocol = "forward"\nallow_private = true\n'
        'connect_ports = ["1024-65535"]\ncapture = {}\n[engine]\nworkers = 1\n'
    )
    with serving(path) as running:
        assert send(running.address(), "GET", f"http://{origin}/a?b[0]=c")[0] == 200
        again = running.command("capture", "replay", "1")
        assert "200 OK, 5 bytes in" in again.stdout, again.stderr
        assert [entry["request"]["url"] for entry in archived(running)] == [f"http://{origin}/a?b[0]=c"] * 2
        host, _, port = running.address().rpartition(":")
        tunnel = http.client.HTTPConnection(host, int(port), timeout=10)
        tunnel.set_tunnel("127.0.0.1", int(origin.split(":")[1]))
        tunnel.request("GET", "/", headers={"Connection": "close"})
        assert tunnel.getresponse().read() == b"hello"
        tunnel.close()
        wait_for(lambda: len(archived(running)) == 3, "the tunnel is kept")
        assert "it opened a tunnel" in running.command("capture", "replay", "3").stderr


def test_a_captured_request_can_be_sent_again(tmp_path: Path, origin: str) -> None:
    with serving(written(tmp_path, origin)) as running:
        send(running.address(), "GET", "/a?b=c", X_A="it's")
        send(running.address(), "POST", "/a", b"x" * 2000)
        send(running.address(), "POST", "/a", b"a'b\n")
        again = running.command("capture", "replay", "1")
        assert "200 OK, 5 bytes in" in again.stdout, again.stderr
        assert "(before: 200)" in again.stdout
        assert archived(running)[-1]["request"]["url"].endswith("/a?b=c")
        direct = running.command("capture", "replay", "1", "--to", "app")
        assert f"from {origin} (before: 200)" in direct.stdout
        assert len(archived(running)) == 4, "the endpoint was asked without the proxy"
        assert "its body was not kept whole" in running.command("capture", "replay", "2").stderr
        assert "no upstream 'none'" in running.command("capture", "replay", "1", "--to", "none").stderr
        for number in (1, 3):
            words = running.command("capture", "curl", str(number)).stdout
            done = subprocess.run(
                ["sh", "-c", words.replace("curl", "curl -s", 1)],
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            if done.returncode == 127:
                pytest.skip("curl is not installed: make debian")
            assert done.returncode == 0, done.stderr
        one, three = archived(running)[-2:]
        assert {"name": "x-a", "value": "it's"} in [
            {**field, "name": field["name"].lower()} for field in one["request"]["headers"]
        ]
        assert three["request"]["postData"]["text"] == "a'b\n"


def test_a_file_follows_what_is_captured(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, origin, ', to = "web.har"')
    file = tmp_path / "web.har"

    def entries() -> list[dict[str, Any]]:
        if not file.exists():
            return []
        try:
            document = json.loads(file.read_text())
        except ValueError:
            return []  # it is being written
        jsonschema.Draft202012Validator(HAR).validate(document)
        return list(document["log"]["entries"])

    with serving(path) as running:
        send(running.address(), "GET", "/a")
        wait_for(lambda: len(entries()) == 1, "the first exchange")
        send(running.address(), "GET", "/b")
        send(running.address(), "GET", "/c")
        wait_for(lambda: len(entries()) == 3, "the next two")
        assert file.stat().st_mode & 0o777 == 0o600
        send(running.address(), "GET", "/last")
        running.signal(signal.SIGTERM)
        assert running.ends() == 0
    assert [entry["request"]["url"].rpartition("/")[2] for entry in entries()] == ["a", "b", "c", "last"]
    with serving(path) as running:
        send(running.address(), "GET", "/new")
        wait_for(lambda: len(entries()) == 1, "a new file")
    assert (tmp_path / "web.har.1").exists()


def test_a_reload_keeps_what_was_captured(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, origin)
    with serving(path) as running:
        send(running.address(), "GET", "/a")
        path.write_text(path.read_text().replace('bodies = "1KB"', "bodies = 0"))
        assert running.command("reload").returncode == 0
        send(running.address(), "POST", "/b", b"body")
        first, second = archived(running)
        assert first["request"]["url"].endswith("/a")
        assert second["request"]["postData"]["text"] == ""
        path.write_text(path.read_text().replace("capture", "#capture"))
        assert running.command("reload").returncode == 0
        assert "no listener captures anything" in running.command("capture", "show", "1").stderr


def test_over_http2_it_is_the_same(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, origin)
    path.write_text(path.read_text().replace('bind = "127.0.0.1:0"', 'bind = "127.0.0.1:0"\nh2c = true', 1))
    with serving(path) as running:
        url = f"http://{running.address()}/a"
        done = subprocess.run(
            ["curl", "-s", "--http2-prior-knowledge", "-d", "a=b", url],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode in (2, 127):
            pytest.skip("curl does not speak HTTP/2")
        (entry,) = archived(running)
        assert (entry["request"]["httpVersion"], entry["request"]["postData"]["text"]) == ("HTTP/2", "a=b")
        assert entry["response"]["content"]["text"] == done.stdout == "hello"


def test_wrong_use_is_told(tmp_path: Path, origin: str) -> None:
    path = written(tmp_path, origin)
    assert "capture list has them" in run("capture", "show", "-c", str(path)).stderr
    assert "it goes with replay" in run("capture", "list", "--to", "app", "-c", str(path)).stderr
    path.write_text(path.read_text().replace('path != "/not"', 'json["/a"] == 1').replace('"1KB"', '"32MB"'))
    refused = run("check", "-c", str(path)).stderr
    assert "listeners.web.capture.match: is asked of the head" in refused
    assert "listeners.web.capture.bodies: is more than a quarter of memory" in refused
