"""Weights by functions of the user's own, called on threads of their own while their configuration runs.

Nothing here is on the path of a request: what a function returns goes into the weights that all workers read. A
function that raises, returns something else or does not return leaves the weights as they are.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.config import resolve_address
from penstock.errors import PenstockError, message_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.config import Loaded
    from penstock.config.policy import WeightPolicy
    from penstock.engine import DataPlane
    from penstock.engine.stats import EndpointStats

HEAVIEST = 256
HANGS = 5.0
"""Seconds after which a call counts as hanging."""
LOOK = 0.25
"""Seconds between two looks at whether a call hangs."""

log = logging.getLogger("penstock")


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """What a policy gets of one endpoint."""

    address: str
    weight: int
    state: str
    """`"up"`, `"down"`, `"ejected"` or `"starting"`."""
    admin: str
    """`"ready"`, `"draining"` or `"disabled"`."""
    in_flight: int
    requests: int
    failures: int
    """Both since the process started."""
    latency: float
    """Moving average, in seconds."""
    labels: Mapping[str, str]


class WeightPolicies:
    """The policies of the running configuration."""

    def __init__(self, engine: DataPlane) -> None:
        """Call nothing yet."""
        self._engine = engine
        self._running: tuple[_Caller, ...] = ()
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    def counts(self) -> list[dict[str, Any]]:
        """Of each policy: its upstream, its function's name, how its last call ended, and how often calls ended so."""
        return [
            {
                "upstream": one.policy.upstream,
                "function": one.policy.name,
                "last": one.last,
                "trouble": one.trouble,
                **one.counts,
            }
            for one in self._running
        ]

    def stop(self) -> None:
        """Call nothing any more. A call that hangs is left behind on its daemon thread."""
        self._stopping.set()
        for caller in self._running:
            caller.stopping.set()

    def run(self, policies: Iterable[WeightPolicy], loaded: Loaded) -> None:
        """Call these from now on, and no others: the configuration that brings them runs."""
        before = {caller.policy.upstream: caller for caller in self._running}
        running = []
        for policy in policies:
            caller = before.get(policy.upstream)
            if caller is not None and caller.has_same(policy, loaded):
                # A call that hangs keeps its thread: with another one, each reload would cost one more.
                del before[policy.upstream]
                caller.follow(policy, loaded)
            else:
                # Counters live through reloads.
                caller = _Caller(policy, self._engine, loaded, caller.counts if caller else None)
            running.append(caller)
        for caller in before.values():
            caller.stopping.set()
        self._running = tuple(running)
        for caller in before.values():
            if not any(one.policy.upstream == caller.policy.upstream for one in running):
                caller.restore(loaded)
        for caller in running:
            if caller.ident is None:
                caller.start()
        if self._running and self._watch is None:
            self._watch = threading.Thread(target=self._look, name="penstock-weights", daemon=True)
            self._watch.start()

    def _look(self) -> None:
        while not self._stopping.wait(LOOK):
            for caller in self._running:
                caller.look(time.monotonic())


class _Caller(threading.Thread):
    """Calls one policy again and again."""

    def __init__(
        self, policy: WeightPolicy, engine: DataPlane, loaded: Loaded, counts: dict[str, int] | None = None
    ) -> None:
        super().__init__(name=f"penstock-weights-{policy.upstream}", daemon=True)
        self.policy = policy
        self.stopping = threading.Event()
        self.counts = counts or {"applied": 0, "failed": 0, "hung": 0}
        self.last: str | None = None
        """`"applied"`, `"failed"` or `"hung"`: how the last call ended, or that it has not; `None` before the first."""
        self.trouble: str | None = None
        """What was wrong with the last call; `None` if nothing was."""
        self._engine = engine
        self._began: float | None = None
        self._hangs = False
        # Held for each order, and for all that take the weights back: none comes behind those.
        self._ordering = threading.Lock()
        self.follow(policy, loaded)

    def follow(self, policy: WeightPolicy, loaded: Loaded) -> None:
        """Call this one from the next call on."""
        self.policy = policy
        # A Python file is run anew with each load, also where its text is the same.
        self._text = loaded.document.text if policy in loaded.document.policies else None
        endpoints = loaded.config.upstreams[policy.upstream].endpoints
        self._labels = {resolve_address(one.address, loaded.folder): dict(one.labels) for one in endpoints}

    def has_same(self, policy: WeightPolicy, loaded: Loaded) -> bool:
        """Whether the code of this policy is what is called already."""
        if policy in loaded.document.policies:
            return self._text == loaded.document.text
        return self.policy.function == policy.function

    def run(self) -> None:
        while not self.stopping.wait(self.policy.every):
            self._hangs, self._began = False, time.monotonic()
            try:
                self._call()
            except BaseException as error:  # whatever it raises, `exit()` included, ends one call
                self._failed(f"{type(error).__name__}: {message_of(error)}".rstrip(": "))
            self._began = None

    def look(self, now: float) -> None:
        """Notice a call that hangs, once."""
        began = self._began
        if began is not None and now - began > HANGS and not self._hangs:
            self._hangs = True
            self._count("hung")
            self._tell(f"has not returned for {HANGS:g} s")

    def restore(self, loaded: Loaded) -> None:
        """Give the endpoints their configured weights again, where the upstream is still there."""
        upstream = loaded.config.upstreams.get(self.policy.upstream)
        with self._ordering:
            for endpoint in upstream.endpoints if upstream else ():
                self._order(resolve_address(endpoint.address, loaded.folder), endpoint.weight)

    def _call(self) -> None:
        rows, policy = self._rows(), self.policy
        given = policy.function(tuple(map(self._figures, rows)))
        wanted = _checked(given, {row.address for row in rows})
        if not self._is_current(policy):
            return
        for row in rows:
            with self._ordering:
                if not self._is_current(policy):
                    return
                if wanted.get(row.address, row.weight) != row.weight:
                    self._order(row.address, wanted[row.address])
        self._count("applied")
        if self.trouble is not None:
            log.info("weights of %s: %s answers again", policy.upstream, policy.name)
        self.trouble = None

    def _is_current(self, policy: WeightPolicy) -> bool:
        """Whether an answer counts: of a call that came back late, or under a configuration that is gone, the figures
        are old."""
        return self.policy is policy and not self._hangs and not self.stopping.is_set()

    def _rows(self) -> tuple[EndpointStats, ...]:
        upstreams = self._engine.stats().upstreams
        return next((one.endpoints for one in upstreams if one.name == self.policy.upstream), ())

    def _figures(self, row: EndpointStats) -> EndpointFigures:
        labels = self._labels.get(row.address, {})
        return EndpointFigures(
            row.address, row.weight, row.state, row.admin, row.in_flight, row.requests, row.failures,
            row.latency_us / 1e6, labels,
        )  # fmt: skip

    def _order(self, address: str, weight: int) -> None:
        try:
            self._engine.order(self.policy.upstream, address, {"weight": weight})
        except PenstockError as error:
            # A reload between two lines of ours: the endpoint is gone.
            log.debug("weight of %s: %s", address, error)

    def _failed(self, reason: str) -> None:
        self._count("failed")
        self._tell(reason)

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        self.last = outcome

    def _tell(self, trouble: str) -> None:
        """Log a trouble when it is another than before: one a second would fill the log."""
        before, self.trouble = self.trouble, trouble
        if trouble != before:
            name, function = self.policy.upstream, self.policy.name
            log.warning("weights of %s stay as they are: %s: %s", name, function, trouble)


def _checked(given: object, known: set[str]) -> dict[str, int]:
    """The weights that a policy returned. Raises `TypeError` or `ValueError` with a sentence."""
    if not isinstance(given, Mapping):
        raise TypeError(f"returned a {type(given).__name__}, not a mapping from addresses to weights")
    for address, weight in given.items():
        if address not in known:
            raise ValueError(f"returned {address!r}, which is not an endpoint of the upstream")
        if not isinstance(weight, int) or isinstance(weight, bool) or not 0 <= weight <= HEAVIEST:
            raise ValueError(f"returned {weight!r} for {address}; a weight is a whole number from 0 to {HEAVIEST}")
    return dict(given)
