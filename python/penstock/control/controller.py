"""The desired state: what should run, what runs, and what was refused.

A change is prepared as a whole (`prepare.py`), then everything that can still fail is opened beside the old, then one
apply swaps it. If any of it fails the old goes on, untouched, and the refusal stays visible in the status until a
later change is accepted.
"""

from __future__ import annotations

import enum
import logging
import threading
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from penstock import engine as native
from penstock.addons import Loader, Runners
from penstock.config import Memory
from penstock.config.collector import uncollected
from penstock.control.captures import CaptureFiles
from penstock.control.explain import with_matches
from penstock.control.lists import ListFetcher
from penstock.control.prepare import Prepared, build, try_out
from penstock.control.weights import WeightPolicies
from penstock.errors import ConfigError, ControlError, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from penstock.config import Loaded
    from penstock.control.source import Source
    from penstock.engine import AffinityTable, Applied, Captures, DataPlane, Explanation, Rules, Stats


HISTORY = 32
"""Applies that are remembered."""

log = logging.getLogger("penstock")


class State(enum.Enum):
    """Where in its life the process is."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to change what runs."""

    at: float
    """Seconds since the epoch."""
    source: str
    version: int | None
    """Of the plan that was applied; `None` for a refusal."""
    faults: tuple[Fault, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """`"applied"` or `"refused"`."""
        return "refused" if self.version is None else "applied"


class Change(Protocol):
    """Something opened beside the old."""

    name: str
    """What people call it."""

    def commit(self) -> None:
        """Put it in place of the old. Whatever can fail was done before."""

    def abort(self) -> None:
        """Close it again; the old goes on."""


class Companion(Protocol):
    """A part of the process outside the data plane that follows the configuration, such as the admin listener."""

    def prepare(self, loaded: Loaded) -> Change:
        """Open everything that can fail. Raises `ConfigError`."""


class Controller:
    """Takes the configuration from its source to the data plane. Every method may be called from any thread."""

    def __init__(
        self, source: Source, engine: DataPlane, rules: Rules = native, companions: Sequence[Companion] = ()
    ) -> None:
        """Run nothing yet; `reload` applies for the first time."""
        self._engine = engine
        self._rules = rules
        self._companions = list(companions)
        self.weights = WeightPolicies(engine)
        self.lists = ListFetcher(rules)
        self._captures = CaptureFiles(engine)
        # One change at a time; reading the state never waits for it.
        self._changing = threading.Lock()
        # The swap alone: a process that is to end waits for no load, and what was loaded meanwhile is not put in.
        self._swapping = threading.Lock()
        self._source = source
        self._memory = Memory()
        self._loader = Loader()
        self._runners = Runners(engine.addon_calls)
        self._running: Prepared | None = None
        self._applied: Applied | None = None
        self._history: deque[Attempt] = deque(maxlen=HISTORY)
        self._counts = {"applied": 0, "refused": 0}
        self.state = State.STARTING
        self.started = time.time()
        self.tried: str | None = None
        """Digest of the file's content that was loaded last, applied or refused."""

    def add(self, companion: Companion) -> None:
        """Let `companion` follow the configuration. Before the first apply."""
        self._companions.append(companion)

    def reload(self, source: Source | None = None) -> Applied:
        """Load the configuration (from a new source, if one is given) and run it.

        The answer has every warning, with its file and line where there is one. Raises `ConfigError`, and the old
        configuration goes on, if anything of it cannot be; `ControlError` while draining.
        """
        with self._changing:
            self._refuse_at_the_end()
            trying = source or self._source
            try:
                return self._apply(trying)
            except ConfigError as error:
                self._refused(trying, error.faults)
                raise
            except ControlError:
                raise
            except Exception as error:
                # A fault of ours, not of the file: the old goes on all the same, and the status must not look well.
                self._refused(trying, (Fault(trying.name, None, None, "", f"cannot be applied: {error!r}"),))
                raise

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Which way a request would take now."""
        running = self._running
        if running is None:
            raise ControlError("no configuration runs yet")
        return with_matches(self._engine.explain(request), running.config)

    def stats(self) -> Stats:
        """Counters and states of the data plane."""
        return self._engine.stats()

    def drain(self, wait: float) -> bool:
        """Accept nothing more and let finish what is under way, for up to `wait` seconds. True if all of it did."""
        with self._swapping:
            self.state = State.DRAINING
        return self._engine.drain(wait)

    def stop(self) -> None:
        """Close everything."""
        with self._swapping:
            self.state = State.STOPPED
        self.weights.stop()
        self.lists.stop()
        self._captures.stop()
        self._engine.stop()
        self._runners.close()

    def order(self, upstream: str, address: str, order: Mapping[str, Any]) -> None:
        """Change what people decide about one endpoint: `{"admin": "draining"}` or `{"weight": 3}`."""
        self._engine.order(upstream, address, order)
        log.info("endpoint ordered", extra={"upstream": upstream, "endpoint": address, **order})

    def maintain(self, route: str | None, on: bool) -> tuple[str, ...]:
        """Put one route, or all there are, into maintenance or back into service; the names of those it was about."""
        self._engine.maintain(route, on)
        log.info("maintenance ordered", extra={"route": route or "all", "on": on})
        return tuple(row.name for row in self.stats().routes if row.name != "_none" and route in (None, row.name))

    def affinity(self, upstream: str, query: Mapping[str, Any]) -> AffinityTable:
        """Ask about the affinity table of an upstream, or have it forget: `{"key": "10.0.0.7", "clear": true}`."""
        answer = self._engine.affinity(upstream, query)
        if answer.cleared is not None:
            log.info("affinity cleared", extra={"upstream": upstream, "clients": answer.cleared})
        return answer

    def captured(self, listener: str | None, query: Mapping[str, int] | str) -> Captures:
        """What one listener, or all, have captured (`Engine.captures`)."""
        return self._engine.captures(listener, query)

    def withhold(self, addresses: list[str]) -> None:
        """Have no client of a forward proxy taken to these addresses: what a companion listens on."""
        self._engine.withhold(addresses)

    def reopen_logs(self) -> None:
        """Open the access log's file anew."""
        self._engine.reopen_logs()

    @property
    def drain_timeout(self) -> float:
        """Seconds that the running configuration gives to a drain."""
        return self._running.config.engine.drain_timeout.total_seconds() if self._running else 0.0

    @property
    def labels(self) -> dict[tuple[str, str], dict[str, str]]:
        """Labels of the running configuration's endpoints, by upstream and address."""
        running = self._running
        if running is None:
            return {}
        # The plan has the addresses as the data plane names them.
        return {
            (row["name"], endpoint["address"]): dict(model.labels)
            for row in running.plan["upstreams"]
            for endpoint, model in zip(row["endpoints"], running.config.upstreams[row["name"]].endpoints, strict=True)
        }

    @property
    def plan(self) -> dict[str, Any] | None:
        """The running plan."""
        running = self._running
        return running.plan if running else None

    @property
    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Addresses of the listeners as they really are, in the order of the configuration."""
        running, applied = self._running, self._applied
        if running is None or applied is None:
            return {}
        return {name: applied.addresses[name] for name in running.config.listeners if name in applied.addresses}

    @property
    def applied(self) -> Applied | None:
        """What the last accepted change gave."""
        return self._applied

    @property
    def source(self) -> str:
        """What the configuration comes from."""
        return self._source.name

    @property
    def history(self) -> tuple[Attempt, ...]:
        """The last tries, oldest first."""
        return tuple(self._history)

    @property
    def counts(self) -> dict[str, int]:
        """How many tries were applied, and how many refused."""
        return dict(self._counts)

    @property
    def last_refusal(self) -> Attempt | None:
        """The last try, if it was refused."""
        last = self._history[-1] if self._history else None
        return last if last and last.version is None else None

    # The collector would come just between the build and the swap, for what the build made: it comes behind both.
    @uncollected()
    def _apply(self, source: Source) -> Applied:
        # The digest first: a change between the two is then seen by the watch as one more, never missed.
        self.tried = source.digest()
        version = 1 + (self._applied.version if self._applied else 0)
        prepared = self._prepare(source, version)
        changes = []
        with ExitStack() as opened:
            for companion in self._companions:
                change = companion.prepare(prepared.loaded)
                opened.callback(change.abort)
                changes.append(change)
            with self._swapping:
                self._refuse_at_the_end()
                try:
                    applied = self._engine.apply(prepared.text)
                except ConfigError as error:
                    raise prepared.in_place(error) from None
                opened.pop_all()
                self._source, self._running, self.state = source, prepared, State.SERVING
                trouble = self._follow(prepared, changes)
                warnings = (*prepared.warnings, *prepared.doubts(applied.doubts), *applied.warnings, *trouble)
                self._applied = applied = replace(applied, warnings=tuple(map(str, warnings)))
                self._record(Attempt(time.time(), source.name, applied.version, (), applied.warnings))
        return applied

    def _follow(self, prepared: Prepared, changes: Sequence[Change]) -> list[str]:
        """Bring everything else behind the data plane, which runs the new plan already. What cannot follow is told of,
        and keeps nothing else from it."""
        self._loader.keep(prepared.addons)
        steps: list[tuple[str, Callable[[], None]]] = [(change.name, change.commit) for change in changes]
        steps.append(("lists", lambda: self.lists.run(prepared.loaded)))
        steps.append(("captures", lambda: self._captures.run(prepared.loaded)))
        steps.append(("weights", lambda: self.weights.run(prepared.policies, prepared.loaded)))
        # The data plane may make calls already: they wait for this.
        steps.append(("add-ons", lambda: self._runners.run(list(prepared.addons.values()))))
        trouble = []
        for name, step in steps:
            try:
                step()
            except Exception as error:
                log.exception("%s could not follow the configuration, which runs", name)
                trouble.append(f"{name} could not follow the configuration, which runs: {error!r}")
        return trouble

    def _refuse_at_the_end(self) -> None:
        if self.state in (State.DRAINING, State.STOPPED):
            raise ControlError(f"the process is {self.state.value}: its configuration cannot change any more")

    def _prepare(self, source: Source, version: int) -> Prepared:
        prepared = build(source, version, self._memory, self._loader)
        self.lists.fetch_missing(prepared.loaded)
        if prepared.tests:
            try_out(prepared, self._rules)
        return prepared

    def _refused(self, source: Source, faults: tuple[Fault, ...]) -> None:
        self._record(Attempt(time.time(), source.name, None, faults))
        if self._applied:
            log.error("configuration refused, version %d goes on", self._applied.version, extra={"faults": len(faults)})
            for fault in faults:
                log.error("%s", fault)

    def _record(self, attempt: Attempt) -> None:
        self._history.append(attempt)
        self._counts[attempt.outcome] += 1
        if attempt.version is not None:
            log.info("configuration applied", extra={"version": attempt.version, "source": attempt.source})
        for warning in attempt.warnings:
            log.warning("%s", warning)
