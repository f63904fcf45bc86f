"""Probes that fail everywhere: traffic goes on, and everybody who looks is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.product.product import Running

CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{}", "{}"]
balance = "round_robin"
health_check = {{ path = "/healthz", interval = "50ms", timeout = "1s", fall = 2, rise = 2 }}
[[routes]]
upstream = "app"
[admin]
bind = "127.0.0.1:0"
"""


class Probed:
    """Answers its name; probes get what `well` says."""

    def __init__(self, name: bytes) -> None:
        self.name, self.well = name, True

    def __call__(self, head: bytes, body: bytes, number: int) -> bytes:
        ill = b"/healthz" in head and not self.well
        return ok(self.name, status=b"500 Broken" if ill else b"200 OK")


@pytest.mark.safety(167)
def test_where_every_probe_fails_all_serve_and_the_operator_is_told(start: Callable[..., Running]) -> None:
    a, b = Probed(b"a"), Probed(b"b")
    with Endpoint(a) as first, Endpoint(b) as second:
        running = start(CONFIG.format(first.address, second.address))

        def alarm(value: int) -> bool:
            _, text = running.get("/metrics", running.admin)
            return f'penstock_upstream_all_down{{upstream="app"}} {value}\n' in text

        assert alarm(0)
        a.well = False
        wait_for(lambda: any("is down" in message for message in running.messages()), "one is down")
        assert {running.get("/")[1] for _ in range(10)} == {"b"}
        assert alarm(0)
        b.well = False
        told = "app: every endpoint is down or ejected: requests go to all of them"
        wait_for(lambda: told in running.messages(), "the log tells it")
        assert next(line for line in running.lines if line["message"] == told)["level"] == "error"
        assert alarm(1)
        assert running.status()["upstreams"][0]["all_down"]
        assert "every endpoint is down or ejected" in running.command("status").stdout
        assert {running.get("/")[1] for _ in range(10)} == {"a", "b"}
        a.well = True
        wait_for(lambda: any("an endpoint is up again" in message for message in running.messages()), "it ends")
        assert alarm(0)
        assert {running.get("/")[1] for _ in range(10)} == {"a"}
        # Told once: a broken probe does not fill the log.
        assert running.messages().count(told) == 1
