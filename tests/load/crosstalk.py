"""The hunt for an answer that reaches another's request: tokens, clients that give up, endpoints that break off,
requests tried again and reloads, all at the same time (fault 182 of the catalogue)."""

from __future__ import annotations

from typing import Any

import penstock
from tests.load.client import Tally, run_load
from tests.load.origin import EchoOrigins
from tests.load.tokens import Tokens


class Hunted(Tokens):
    """As `Tokens`; an endpoint may break off under a POST, which is not sent twice."""

    def fault(self, number: int, head: bytes, body: bytes) -> str | None:
        """Its own answer, or none."""
        if number % 5 >= 3 and head.startswith(b"HTTP/1.1 502 "):
            return None
        return super().fault(number, head, body)


def run_crosstalk(requests: int, reloads: int = 50, workers: int = 2) -> Tally:
    """Through a proxy with two endpoints, one of which breaks off."""
    with EchoOrigins("a", "flaky") as origins:

        def config(number: int) -> dict[str, Any]:
            answer = {"match": f'path == "/{number}"', "respond": {"status": 204}}
            return {
                "listeners": {"web": {"bind": "127.0.0.1:0"}},
                "upstreams": {"echo": {"endpoints": list(origins.addresses.values())}},
                "routes": [answer, {"upstream": "echo"}],
                "engine": {"workers": workers},
            }

        with penstock.Proxy(config(0)) as proxy:
            tally = run_load(
                Hunted(),
                proxy.address("web"),
                requests=requests,
                marks=reloads,
                at_mark=lambda number: proxy.apply(config(number)),
            )
            tally.retried = sum(one.retries for one in proxy.stats().upstreams)
            return tally
