"""One lane of the test: a Penstock, an origin, clients and readers, in a process of their own."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import penstock
from tests.differential.generate import Message, Messages
from tests.differential.readers import Reading, Request, h11, http_server
from tests.differential.readers.httparse import HttparseReader
from tests.differential.readers.nginx import PROGRAM as NGINX
from tests.differential.readers.nginx import NginxReader
from tests.differential.traffic import Sent, Traffic, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.engine.stats import EndpointStats, Stats

_ROUND = 2000
"""Requests that are sent before what was recorded is read."""
_EXAMPLES = 5


@dataclass
class Tally:
    """What came of it; those of several lanes add up."""

    sent: int = 0
    forwarded: int = 0
    """Whole requests in the recordings."""
    cut: int = 0
    """Requests whose body was broken off, by the client or by us because it was malformed."""
    broken_off: int = 0
    """Requests that were to be forwarded, and of which nothing had left when their body turned out to be bad."""
    connections: int = 0
    passed: Counter[str] = field(default_factory=Counter)
    """Messages answered by the origin, by kind."""
    kinds: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    """Penstock's own reasons."""
    refused_by_nginx: int = 0
    wrong: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Sum up."""
        self.sent += other.sent
        self.forwarded += other.forwarded
        self.cut += other.cut
        self.broken_off += other.broken_off
        self.connections += other.connections
        self.passed += other.passed
        self.kinds += other.kinds
        self.rejected += other.rejected
        self.refused_by_nginx += other.refused_by_nginx
        self.wrong += other.wrong
        self.examples = (self.examples + other.examples)[:_EXAMPLES]

    def disagree(self, example: str) -> None:
        """Count a disagreement."""
        self.wrong += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)


class Lane:
    """Sends and reads until as many requests are sent as were asked for."""

    def __init__(self, seed: str, program: Path) -> None:
        self.tally = Tally()
        self._messages = Messages(seed)
        self._httparse = HttparseReader(program)
        self._nginx: NginxReader | None = None
        self._traffic = Traffic()
        self._expected: dict[str, Request] = {}

    def run(self, requests: int, say: Callable[[int], None]) -> Tally:
        """`say(n)` is called for every `n` more that are sent."""
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0"}},
            "upstreams": {"origin": {"endpoints": [self._traffic.origin]}},
            "routes": [{"upstream": "origin"}],
            "engine": {"workers": 1},
        }
        with ExitStack() as stack:
            if NGINX:
                self._nginx = stack.enter_context(NginxReader())
            with penstock.Proxy(config) as proxy:
                while self.tally.sent < requests:
                    before = self.tally.sent
                    self._round(proxy.address("web"), min(_ROUND, requests - before))
                    self._read()
                    say(self.tally.sent - before)
                wait_for(lambda: _endpoint(proxy.stats()).in_flight == 0, "no request is under way")
                stats = proxy.stats()
            self.tally.rejected.update(stats.rejected)
            self._traffic.finish()
            self._read()
            if self._nginx:
                self.tally.refused_by_nginx = self._nginx.refused
        self._account(stats)
        return self.tally

    def _round(self, address: tuple[str, int], requests: int) -> None:
        dice, scripts, sent = self._messages.dice, [], 0
        while sent < requests:
            script = self._messages.script()
            content = b"".join(message.content for message in script)
            scripts.append((script, Sent(content, dice.choice((len(content), dice.randint(0, len(content)))))))
            sent += len(script)
            for message in script:
                if message.expected:
                    self._expected[message.expected.target] = message.expected
        self._traffic.run(address, [out for _, out in scripts])
        self.tally.sent += sent
        for script, out in scripts:
            self._judge_answers(script, out)

    def _judge_answers(self, script: list[Message], out: Sent) -> None:
        for place, message in enumerate(script):
            self.tally.kinds[message.kind] += 1
            status = out.statuses[place] if place < len(out.statuses) else 0
            self.tally.passed[message.kind] += status == 200
            if message.expected is None:
                return self._count_rest(script[place + 1 :])
            if status != 200:
                self.tally.disagree(
                    f"a right request got {status or 'no answer'}: {out.script!r}, statuses {out.statuses}"
                )
                return None
        return None

    def _count_rest(self, rest: list[Message]) -> None:
        # What stands behind a message that may be anything may be part of it.
        for message in rest:
            self.tally.kinds["behind a wrong one"] += 1
            if message.expected:
                self._expected.pop(message.expected.target, None)

    def _read(self) -> None:
        recordings, self._traffic.recordings = self._traffic.recordings, []
        if not recordings:
            return
        base = self._httparse.read(recordings)
        others = {"h11": h11.read(recordings), "http.server": http_server.read(recordings)}
        if self._nginx:
            others["nginx"] = self._nginx.read(recordings, base)
        for place, (recording, reading) in enumerate(zip(recordings, base, strict=True)):
            self.tally.connections += 1
            self.tally.forwarded += len(reading.requests)
            self.tally.cut += reading.end == "partial"
            if reading.end == "refused":
                self.tally.disagree(f"httparse refuses what follows {len(reading.requests)} requests: {recording!r}")
            for name, readings in others.items():
                if difference := _difference(reading, readings[place]):
                    self.tally.disagree(f"{name} and httparse: {difference} in {recording!r}")
            for request in reading.requests:
                expected = self._expected.pop(request.target, None)
                if expected not in (None, request):
                    self.tally.disagree(f"sent {expected}, forwarded {request}")

    def _account(self, stats: Stats) -> None:
        """What was recorded is what Penstock counted."""
        tally = self.tally
        if self._expected:
            some = list(self._expected.values())[:3]
            tally.disagree(f"{len(self._expected)} right requests were answered and not forwarded: {some}")
        answered = next(route.statuses.get("2xx", 0) for route in stats.routes if route.name == "route-1")
        if answered != tally.forwarded:
            tally.disagree(
                f"Penstock counted {answered} answers of the origin, recorded are {tally.forwarded} requests"
            )
        # A head leaves with the first bytes of its body: one that is bad from its first byte leaves nothing.
        tally.broken_off = _endpoint(stats).requests - tally.forwarded - tally.cut
        bad = stats.rejected["bad_chunk"] + stats.rejected["client_closed"]
        if not 0 <= tally.broken_off <= bad - tally.cut:
            tally.disagree(f"{tally.broken_off} requests left no byte, of {bad} with a bad body, {tally.cut} cut")


def _endpoint(stats: Stats) -> EndpointStats:
    return stats.upstreams[0].endpoints[0]


def _difference(one: Reading, other: Reading) -> str:
    if one == other or (one.requests == other.requests and one.end == other.end):
        return ""
    for place, (first, second) in enumerate(zip(one.requests, other.requests, strict=False)):
        if first != second:
            return f"request {place} is {first} and {second}"
    if len(one.requests) != len(other.requests):
        return f"{len(other.requests)} and {len(one.requests)} requests"
    return f"the end is {other.end} and {one.end}"
