"""A service that is asked before a request goes on: what passes, what it costs, and what happens when it fails."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_for

import penstock
from product import DEADLINE, Origin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.engine.stats import EndpointStats


class Login(http.server.ThreadingHTTPServer):
    """Knows alice by her cookie and sends others to `/login`. What is asked about `/slow` waits for `release`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Verdict)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        self.release = threading.Event()
        self.asked: list[dict[str, str]] = []
        self.hangs_up = False


class _Verdict(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece
    server: Login

    def do_GET(self) -> None:
        asked = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append(asked)
        if asked["x-forwarded-uri"] == "/slow":
            self.server.release.wait(DEADLINE)
        known = "session=alice" in asked.get("cookie", "")
        self.send_response(200 if known else 302)
        self.send_header(*(("Remote-User", "alice") if known else ("Location", "/login")))
        self.send_header("Content-Length", "0")
        self.end_headers()
        # Without a word, as servers do whose patience with an unused connection ends.
        self.close_connection = self.server.hangs_up

    def log_message(self, *args: object) -> None:
        """Nothing."""


class Seen(http.server.BaseHTTPRequestHandler):
    """The application: says whom it was told of, and keeps count."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece
    times = 0

    def do_GET(self) -> None:
        type(self).times += 1
        body = repr(self.headers.get_all("Remote-User")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def running(server: http.server.ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def login() -> Iterator[Login]:
    login = Login()
    with running(login):
        yield login
        login.release.set()


@pytest.fixture
def app() -> Iterator[str]:
    Seen.times = 0
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Seen)) as address:
        yield address


def protected(app: str, login: str, **more: Any) -> dict[str, Any]:
    """One worker, so that whoever waits would keep everybody waiting."""
    auth = {"upstream": "login", "path": "/verify", "copy_headers": ["Remote-User"], **more.pop("auth", {})}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 1},
        "upstreams": {"app": {"endpoints": [app]}, "login": {"endpoints": [login]}},
        "routes": [
            {"name": "open", "match": 'path == "/open"', "upstream": "app"},
            {"name": "protected", "upstream": "app", "forward_auth": auth},
        ],
        **more,
    }


def ask(proxy: penstock.Proxy, path: str = "/", **fields: str) -> tuple[int, str]:
    """The answer's status, and its body or where it leads."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=DEADLINE)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in fields.items()})
    answer = connection.getresponse()
    said = answer.read().decode()
    connection.close()
    return answer.status, answer.getheader("location") or said


def endpoint(proxy: penstock.Proxy, upstream: str) -> EndpointStats:
    return next(one for one in proxy.stats().upstreams if one.name == upstream).endpoints[0]


@pytest.mark.safety(136)
def test_who_may_goes_on_as_whom_the_service_says(app: str, login: Login, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with penstock.Proxy(protected(app, login.address, log={"access": {"to": str(log)}})) as proxy:
        assert ask(proxy, "/a?b=c", Remote_User="root") == (302, "/login")
        assert ask(proxy, "/a", Cookie="session=alice", Remote_User="root") == (200, "['alice']")
        assert ask(proxy, "/open", Remote_User="root") == (200, "['root']"), "a route that asks nobody changes nothing"
        assert login.asked[0]["x-forwarded-uri"] == "/a?b=c"
        assert "remote-user" not in login.asked[0]
        wait_for(lambda: endpoint(proxy, "app").in_flight == endpoint(proxy, "login").in_flight == 0, "all are done")
        asked, answered = endpoint(proxy, "login"), endpoint(proxy, "app")
        assert (asked.requests, asked.connects, asked.reused, asked.failures) == (2, 1, 1, 0)
        assert (answered.requests, Seen.times) == (2, 2)
    refused, passed, unasked = map(json.loads, log.read_text().splitlines())
    assert (refused["status"], refused["upstream"], refused["outcome"], refused["retries"]) == (302, "", "ok", 0)
    assert (passed["status"], passed["upstream"], passed["retries"]) == (200, "app", 0)
    assert 0 < passed["auth_ms"] <= passed["first_byte_ms"]
    assert "auth_ms" in refused
    assert "auth_ms" not in unasked


def test_a_service_that_hangs_lets_nothing_pass_and_keeps_nobody_else_waiting(app: str, login: Login) -> None:
    with penstock.Proxy(protected(app, login.address, auth={"timeout": "200ms"})) as proxy:
        began = time.monotonic()
        answers: list[tuple[int, str]] = []
        waiting = threading.Thread(target=lambda: answers.append(ask(proxy, "/slow", Cookie="session=alice")))
        waiting.start()
        wait_for(lambda: login.asked, "the service is asked")
        assert ask(proxy, "/open") == (200, "None")
        waiting.join(DEADLINE)
        assert answers[0][0] == 504
        assert time.monotonic() - began < 3
        assert proxy.stats().failures["auth_timeout"] == 1
        assert Seen.times == 1


def test_what_the_service_takes_is_not_held_against_the_endpoint(app: str, login: Login) -> None:
    with penstock.Proxy(protected(app, login.address)) as proxy:
        threading.Timer(0.5, login.release.set).start()
        assert ask(proxy, "/slow", Cookie="session=alice") == (200, "['alice']")
        assert endpoint(proxy, "login").latency_us > 400_000
        assert endpoint(proxy, "app").latency_us < 300_000


def test_a_connection_that_the_service_closed_unused_fails_no_request(app: str, login: Login) -> None:
    login.hangs_up = True
    with penstock.Proxy(protected(app, login.address)) as proxy:
        assert [ask(proxy, Cookie="session=alice")[0] for _ in range(20)] == [200] * 20


@pytest.mark.parametrize(
    ("state", "status", "word"), [("ready", 502, "auth_failed"), ("disabled", 503, "auth_unavailable")]
)
def test_a_service_that_is_not_there_lets_nothing_pass(app: str, state: str, status: int, word: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Seen) as gone:
        address = f"127.0.0.1:{gone.server_address[1]}"
    config = protected(app, address)
    config["upstreams"]["login"]["endpoints"] = [{"address": address, "state": state}]
    with penstock.Proxy(config) as proxy:
        assert ask(proxy, Cookie="session=alice")[0] == status
        assert proxy.stats().failures[word] == 1
        assert Seen.times == 0


def test_a_client_that_goes_away_is_not_asked_about_any_longer(app: str, login: Login) -> None:
    with penstock.Proxy(protected(app, login.address)) as proxy:
        connection = http.client.HTTPConnection(*proxy.address("web"), timeout=DEADLINE)
        connection.request("GET", "/slow")
        wait_for(lambda: endpoint(proxy, "login").in_flight == 1, "the service is asked")
        # One that only says its end may still read.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        wait_for(lambda: endpoint(proxy, "login").in_flight == 0, "nothing is asked", deadline=4)
        assert Seen.times == 0


def test_the_route_has_its_own_patience(busy: Origin, login: Login) -> None:
    config = protected(busy.address, login.address)
    config["routes"][1]["timeouts"] = {"total": "200ms"}
    with penstock.Proxy(config) as proxy:
        assert ask(proxy, "/slow")[0] == 504
        assert proxy.stats().failures["total_timeout"] == 1
