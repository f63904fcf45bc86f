"""A hundred reloads under load: routes, endpoints and headers change each time, and no answer is lost or mixed.

Every configuration marks what it touches with its version: the path (`add_prefix`), a request field, a response field,
and the endpoints it may use. An answer whose marks are of two versions was made from two configurations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import penstock
from tests.load.client import Tally, run_load
from tests.load.origin import EchoOrigins, field

if TYPE_CHECKING:
    import random

NAMES = ("a", "b", "c")


@dataclass(frozen=True)
class Versioned:
    """Requests whose answers tell the version of the configuration they met."""

    versions: int

    def request(self, number: int) -> bytes:
        """Mostly GET, some POST with a body."""
        head = b"/r/%d HTTP/1.1\r\nHost: shop.example\r\nX-Token: t%d\r\n" % (number, number)
        if number % 8:
            return b"GET %b\r\n" % head
        body = b"body of %d" % number
        return b"POST %bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)

    def fault(self, number: int, head: bytes, body: bytes) -> str | None:
        """One version in all the marks, and the request's own token, path and body."""
        if not head.startswith(b"HTTP/1.1 200 "):
            return f"{head[:60]!r} {body[:200]!r}"
        line, _, rest = body.partition(b"\n")
        method, target, token, version, name = line.split(b" ")
        marked = field(head.lower(), head, b"x-version")
        sent = b"" if number % 8 else b"body of %d" % number
        right = (
            method == (b"GET" if number % 8 else b"POST")
            and target == b"/v%b/r/%d" % (version, number)
            and token == b"t%d" % number
            and rest == sent
            and marked == version
            and 0 <= int(version) <= self.versions
            and name.decode() in endpoints_of(int(version))
        )
        return None if right else f"marks do not agree: {line!r}, x-version {marked!r}, body {rest[:60]!r}"

    def batch(self, dice: random.Random) -> int:
        """One at a time."""
        del dice
        return 1

    def aborts(self, dice: random.Random) -> bool:
        """Never."""
        del dice
        return False


def endpoints_of(version: int) -> tuple[str, ...]:
    """Two of the three, another two each time."""
    return NAMES[version % 3], NAMES[(version + 1) % 3]


def versioned_config(version: int, addresses: dict[str, str], workers: int) -> dict[str, Any]:
    """Configuration number `version`."""
    mark = {"X-Version": str(version)}
    decoys = [{"match": f'path == "/decoy/{version}/{n}"', "respond": {"status": 200}} for n in range(version % 7)]
    upstream = f"shop-{version % 2}"
    filters = [{"add_prefix": f"/v{version}"}, {"set_request_header": mark}, {"set_response_header": mark}]
    route = {"name": f"orders-{version}", "match": 'path.startswith("/r/")', "upstream": upstream, "filters": filters}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "upstreams": {upstream: {"endpoints": [addresses[name] for name in endpoints_of(version)]}},
        "routes": [*decoys, route],
        "engine": {"workers": workers},
    }


def run_reloads(requests: int, reloads: int = 100, workers: int = 2) -> Tally:
    """Load from 64 connections, and `reloads` applied evenly over it."""
    with EchoOrigins(*NAMES) as origins, penstock.Proxy(versioned_config(0, origins.addresses, workers)) as proxy:

        def reload(number: int) -> None:
            proxy.apply(versioned_config(number, origins.addresses, workers))

        return run_load(Versioned(reloads), proxy.address("web"), requests=requests, marks=reloads, at_mark=reload)
