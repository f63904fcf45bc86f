"""A process that stands still for longer than any of its time limits, as on a machine that sleeps or is moved."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.load.client import run_load
from tests.load.origin import EchoOrigins
from tests.load.tokens import Tokens
from tests.product.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.product.product import Running

LIMIT = 0.5
CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
timeouts = {{ head = "500ms", body = "500ms", write = "500ms" }}
[upstreams.echo]
endpoints = ["{}", "{}"]
timeouts = {{ connect = "500ms", head = "500ms", body = "500ms", write = "500ms" }}
retry = false
[[routes]]
upstream = "echo"
[engine]
workers = 2
[admin]
bind = "127.0.0.1:0"
"""


class Whole(Tokens):
    """Without clients that give up: every lost answer is a loss."""

    def aborts(self, dice: object) -> bool:
        """Never."""
        del dice
        return False


@pytest.mark.safety(178)
def test_what_came_while_it_stood_still_is_not_late(start: Callable[..., Running]) -> None:
    with EchoOrigins("a", "b") as origins:
        running = start(CONFIG.format(*origins.addresses.values()))
        host, _, port = running.address().rpartition(":")

        def stand_still(_: int) -> None:
            running.process.send_signal(signal.SIGSTOP)
            try:
                end = time.monotonic() + 3 * LIMIT
                wait_for(lambda: time.monotonic() > end, "longer than any limit")
            finally:
                running.process.send_signal(signal.SIGCONT)

        tally = run_load(Whole(), (host, int(port)), requests=20_000, marks=4, at_mark=stand_still)
        assert (tally.answered, tally.wrong) == (20_000, 0), tally.examples
        _, text = running.get("/metrics", running.admin)
        late = [line for line in text.splitlines() if "timeout" in line and line[0] != "#" and not line.endswith(" 0")]
        assert late == []
        assert {endpoint["state"] for up in running.status()["upstreams"] for endpoint in up["endpoints"]} == {"up"}
