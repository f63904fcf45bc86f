"""What a probe asks and how its answer is judged, against endpoints that answer as a script says."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FAST: dict[str, Any] = {"interval": "30ms", "timeout": "2s", "fall": 2, "rise": 2}
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """Accepts connections and gives each to `answer`; remembers the first bytes of each."""

    def __init__(
        self, answer: Callable[[socket.socket, bytes], None], family: int = socket.AF_INET, at: Any = None
    ) -> None:
        self.answer = answer
        self.heard: list[bytes] = []
        self._listening = socket.socket(family)
        self._listening.bind(at or ("127.0.0.1", 0))
        self._listening.listen()
        self.port: int = self._listening.getsockname()[1] if family == socket.AF_INET else 0
        self.address = f"127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    said = connection.recv(65536)
                    self.heard.append(said)
                    self.answer(connection, said)
                except OSError:
                    continue

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


@contextmanager
def peer(answer: bytes | Callable[[socket.socket, bytes], None], **place: Any) -> Iterator[Peer]:
    said = answer
    opened = Peer((lambda connection, _: connection.sendall(said)) if isinstance(said, bytes) else said, **place)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def probed(endpoint: str, **check: Any) -> Iterator[Callable[[], Any]]:
    """What the status says of the one endpoint that is probed so."""
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 1},
        "upstreams": {"app": {"endpoints": [endpoint], "health_check": {**FAST, **check}}},
        "routes": [{"upstream": "app"}],
    }
    with penstock.Proxy(config) as proxy:
        yield lambda: proxy.stats().upstreams[0].endpoints[0]


def verdict(endpoint: str, **check: Any) -> tuple[str, str]:
    """The state that probes bring the endpoint to, and why."""
    with probed(endpoint, **check) as look:
        wait_for(lambda: (row := look()).probe and (row.state == "down" or row.probe.passed), "probes say something")
        row = look()
        return row.state, row.probe.outcome


def test_a_probe_asks_as_configured() -> None:
    with peer(OK) as endpoint:
        check = {"path": "/ready?x=1", "method": "POST", "headers": {"X-Probe": "7"}, "host": "shop.internal"}
        assert verdict(endpoint.address, **check) == ("up", "probe answered 200")
        line, *fields = endpoint.heard[0].decode().split("\r\n")
        assert line == "POST /ready?x=1 HTTP/1.1"
        assert {"host: shop.internal", "x-probe: 7", "user-agent: penstock-probe"} <= set(fields)


@pytest.mark.parametrize(
    ("answer", "check", "expected"),
    [
        (b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", {"status": [200, "404-410"]}, ("up", "probe answered 404")),
        (OK, {"status": [204]}, ("down", "probe answered 200")),
        (OK, {"body": "ok"}, ("up", "probe answered 200")),
        (OK, {"body": {"regex": "^(up|ready)$"}}, ("down", "the body is not as expected")),
        (b"\x00\xff garbage\r\n\r\n" * 10, {}, ("down", "no valid response")),
        (b"", {}, ("down", "no valid response")),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 10_000, {}, ("down", "the answer is too long")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 8_000_000, {"body": "ok"}, ("down", "the body is not as expected")),
        (
            b"+PONG\r\n",
            {"tcp": True, "send": "PING\r\n", "expect": {"hex": "2b50 4f4e47"}},
            ("up", "replied as expected"),
        ),
        (b"-ERR\r\n", {"tcp": True, "send": "PING\r\n", "expect": "+PONG"}, ("down", "the reply is not as expected")),
        (b"y" * 8_000_000, {"tcp": True, "send": "x", "expect": "+PONG"}, ("down", "the answer is too long")),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", {"grpc": ""}, ("down", "no valid response")),
    ],
)
def test_answers_are_judged(answer: bytes, check: dict[str, Any], expected: tuple[str, str]) -> None:
    with peer(answer) as endpoint:
        assert verdict(endpoint.address, **check) == expected


def test_a_probe_that_hangs_ends_in_time() -> None:
    release = threading.Event()
    with peer(lambda *_: release.wait(5) and None) as endpoint:
        assert verdict(endpoint.address, timeout="100ms") == ("down", "no answer in time")
        release.set()


def test_a_connection_alone_is_enough_for_tcp() -> None:
    with peer(b"") as endpoint:
        assert verdict(endpoint.address, tcp=True) == ("up", "connected")
    assert verdict(endpoint.address, tcp=True) == ("down", "connection refused")


def test_probes_go_to_another_port_or_address(tmp_path: Path) -> None:
    with peer(b"nothing") as endpoint, peer(OK) as other:
        assert verdict(endpoint.address, port=other.port)[0] == "up"
        assert f"host: 127.0.0.1:{other.port}".encode() in other.heard[0]
        assert verdict(endpoint.address, address=other.address)[0] == "up"
        place = str(tmp_path / "health.sock")
        with peer(OK, family=socket.AF_UNIX, at=place) as third:
            assert verdict(endpoint.address, address=f"unix:{place}")[0] == "up"
            assert b"host: localhost" in third.heard[0]
        assert not endpoint.heard


def test_an_endpoint_that_starts_down_takes_nothing_before_its_first_success() -> None:
    healthy = threading.Event()

    def answer(connection: socket.socket, said: bytes) -> None:
        status = 200 if healthy.is_set() or b"/healthz" not in said else 503
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)

    with peer(answer) as endpoint:
        check = {**FAST, "path": "/healthz", "start": "down"}
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0"}},
            "upstreams": {"app": {"endpoints": [endpoint.address], "health_check": check}},
            "routes": [{"upstream": "app"}],
        }
        with penstock.Proxy(config) as proxy:
            look = lambda: proxy.stats().upstreams[0].endpoints[0]  # noqa: E731
            wait_for(lambda: (probe := look().probe) and probe.failures_in_a_row > 3, "probes fail")
            assert look().state == "starting"
            assert status_of(proxy) == 503
            healthy.set()
            wait_for(lambda: look().state == "up", "the first success brings it up")
            assert status_of(proxy) == 200


def status_of(proxy: penstock.Proxy) -> int:
    with socket.create_connection(proxy.address("web"), 5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return int(client.recv(4096).split(b" ")[1])


def test_a_name_is_up_while_one_of_its_addresses_answers() -> None:
    # localhost is ::1 as well where the machine has IPv6; nobody listens there.
    with peer(OK) as endpoint, probed(f"localhost:{endpoint.port}") as look:
        wait_for(lambda: len(endpoint.heard) > 5, "it is probed")
        assert look().state == "up"


def test_the_grpc_health_protocol_against_a_real_server() -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: PLC0415 - only where it is installed

    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        states = health_pb2.HealthCheckResponse
        servicer.set("", states.SERVING)
        servicer.set("shop.Cart", states.NOT_SERVING)
        endpoint = f"127.0.0.1:{port}"
        assert verdict(endpoint, grpc="") == ("up", "serving")
        assert verdict(endpoint, grpc="shop.Cart") == ("down", "not serving")
        assert verdict(endpoint, grpc="shop.Nobody") == ("down", "gRPC code 5")
        with probed(endpoint, grpc="shop.Cart") as look:
            wait_for(lambda: look().state == "down", "it does not serve")
            servicer.set("shop.Cart", states.SERVING)
            wait_for(lambda: look().state == "up", "it serves")
    finally:
        server.stop(None).wait(5)
