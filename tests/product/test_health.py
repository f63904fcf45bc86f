"""Probes and names: who is asked, who is left out, and what follows from it for requests."""

from __future__ import annotations

import http.client
import http.server
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator


class Endpoint(http.server.ThreadingHTTPServer):
    """Answers its name; probes get `health`."""

    # Closing waits for the connections that the proxy leaves: nothing of one test ends in the next.
    daemon_threads = False

    def __init__(self, name: str) -> None:
        self.name, self.health, self.probes = name, 200, 0
        super().__init__(("127.0.0.1", 0), _Answer)
        self.port = self.server_address[1]
        self.taken: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.taken.append(connection)
        return connection, address

    def die(self) -> None:
        """Refuse connections, and end those that are there."""
        self.shutdown()
        self.socket.close()
        for connection in self.taken:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece
    server: Endpoint

    def do_GET(self) -> None:
        probe = self.path == "/healthz"
        self.server.probes += probe
        body = self.server.name.encode()
        self.send_response(self.server.health if probe else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def endpoints(*names: str) -> Iterator[list[Endpoint]]:
    """Endpoints that run for as long as the block."""
    started = [Endpoint(name) for name in names]
    for endpoint in started:
        threading.Thread(target=endpoint.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield started
    finally:
        for endpoint in started:
            endpoint.shutdown()
            endpoint.server_close()


def config(addresses: list[str], **upstream: Any) -> dict[str, Any]:
    """One upstream over these addresses."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 1},
        "upstreams": {"app": {"endpoints": addresses, **upstream}},
        "routes": [{"upstream": "app"}],
    }


def answers(proxy: penstock.Proxy, count: int = 40) -> set[str]:
    """Who answered, over one connection; every answer is a success."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
    names = set()
    for _ in range(count):
        connection.request("GET", "/")
        answer = connection.getresponse()
        names.add(answer.read().decode())
        assert answer.status == 200
    connection.close()
    return names


def states(proxy: penstock.Proxy) -> list[str]:
    """State of each endpoint."""
    return [endpoint.state for endpoint in proxy.stats().upstreams[0].endpoints]


CHECK = {"path": "/healthz", "interval": "50ms", "timeout": "1s", "fall": 2, "rise": 2}


def test_an_endpoint_that_fails_its_probes_is_left_out_until_it_passes_them() -> None:
    with endpoints("a", "b") as (a, b):
        plan = config([f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"], balance="round_robin", health_check=CHECK)
        with penstock.Proxy(plan) as proxy:
            assert answers(proxy) == {"a", "b"}
            a.health = 503
            wait_for(lambda: states(proxy) == ["down", "up"], "the failing endpoint is down")
            assert "503" in proxy.stats().upstreams[0].endpoints[0].reason
            assert answers(proxy) == {"b"}
            a.health = 204
            wait_for(lambda: states(proxy) == ["up", "up"], "it is up again")
            assert answers(proxy) == {"a", "b"}


def test_health_outlives_a_reload_and_ends_with_its_check() -> None:
    with endpoints("a", "b") as (a, b):
        a.health = 500
        addresses = [f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"]
        with penstock.Proxy(config(addresses, health_check=CHECK)) as proxy:
            wait_for(lambda: states(proxy) == ["down", "up"], "the failing endpoint is down")
            changed = config(addresses, health_check=CHECK)
            changed["routes"].insert(0, {"match": 'path == "/new"', "respond": {"status": 204}})
            proxy.apply(changed)
            assert states(proxy) == ["down", "up"]
            proxy.apply(config(addresses))
            wait_for(lambda: states(proxy) == ["up", "up"], "nobody says that it is down any more")
            probes = a.probes
            answers(proxy)
            assert a.probes - probes <= 1


def test_where_every_probe_fails_all_endpoints_are_used() -> None:
    with endpoints("a", "b") as (a, b):
        a.health = b.health = 500
        plan = config([f"127.0.0.1:{a.port}", f"127.0.0.1:{b.port}"], balance="round_robin", health_check=CHECK)
        with penstock.Proxy(plan) as proxy:
            wait_for(lambda: states(proxy) == ["down", "down"], "both are down")
            assert answers(proxy) == {"a", "b"}


def test_a_name_is_resolved_and_one_that_has_no_address_is_a_warning() -> None:
    with endpoints("a") as (a,):
        plan = config([f"localhost:{a.port}", "no-such-name.invalid:80"])
        with penstock.Proxy(plan) as proxy:
            assert answers(proxy) == {"a"}
            known, unknown = proxy.stats().upstreams[0].endpoints
            assert f"127.0.0.1:{a.port}" in known.resolved
            assert not unknown.resolved
