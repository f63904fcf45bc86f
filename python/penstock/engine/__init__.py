"""The data plane, as the rest of Penstock sees it: start, apply, explain, stats, events, drain, stop.

This package is the only importer of `penstock._native` (ARCHITECTURE.md, The border). Documents cross the border as
JSON text; here they get types, and a refusal becomes a `ConfigError`. What must not live here: decisions, files, the
configuration model.
"""

from __future__ import annotations

import importlib
import json
import time
from typing import TYPE_CHECKING, Any

from penstock.engine.types import Applied, Checked, DataPlane, Doubt, Event, Rules, read
from penstock.errors import ConfigError, EngineError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from penstock._native import Calls  # noqa: TID251 - within the one place
    from penstock.engine.affinity import AffinityTable
    from penstock.engine.explanation import Explanation
    from penstock.engine.stats import Captures, ListStats, Stats

PLAN = "<plan>"
"""The file that faults of a plan name, until the control plane has found the line of the configuration."""

__all__ = [
    "PLAN",
    "AffinityTable",
    "Applied",
    "Captures",
    "Checked",
    "CheckedPlan",
    "DataPlane",
    "Doubt",
    "Engine",
    "Event",
    "Explanation",
    "ListStats",
    "Rules",
    "Stats",
    "check",
    "native_version",
    "plan_schema",
    "read",
    "read_list",
]

_LATER = {
    "AffinityTable": "affinity",
    "Captures": "stats",
    "Explanation": "explanation",
    "ListStats": "stats",
    "Stats": "stats",
}
"""What a start does not need, by its module: imported when somebody asks for it."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'penstock.engine' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"penstock.engine.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def native_version() -> str:
    """The version of the data plane."""
    return str(_native().__version__)


def plan_schema() -> dict[str, Any]:
    """The JSON schema of a plan, against which the compiler is tested."""
    schema: dict[str, Any] = json.loads(_native().plan_schema())
    return schema


def check(plan: str) -> CheckedPlan:
    """Build everything of a plan that needs no socket and no name.

    Raises `ConfigError` with every fault; their keys are paths into the plan (`routes[3].filters[0]`).
    """
    return CheckedPlan(plan)


def read_list(plan: Mapping[str, Any]) -> ListStats:
    """What a list of a plan holds. Raises `EngineError` for files that are no such list."""
    from penstock.engine.stats import ListStats  # noqa: PLC0415 - see `_LATER`

    try:
        return read(ListStats, _native().read_list(json.dumps(plan)))
    except ValueError as error:
        raise EngineError(str(error)) from None


class CheckedPlan:
    """A plan that could run. It was built once, however often it is asked."""

    def __init__(self, plan: str) -> None:
        """Build it. Raises `ConfigError`."""
        native = _native()
        try:
            self._plan = native.CheckedPlan(plan)
        except native.Refused as refused:
            raise _config_error(refused) from None

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is allowed and yet likely to be wrong."""
        return tuple(Doubt(**row) for row in json.loads(self._plan.doubts()))

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Which way a request would take, and why not another. Raises `EngineError` for a request that is not one."""
        from penstock.engine.explanation import Explanation  # noqa: PLC0415 - see `_LATER`

        try:
            return read(Explanation, self._plan.explain(json.dumps(request)))
        except ValueError as error:
            raise EngineError(f"cannot explain this request: {error}") from error


class Engine:
    """The workers and the plan they run. Threads start with the first plan and end with `stop`."""

    def __init__(self) -> None:
        """Make an engine that runs nothing yet."""
        self._refused = _native().Refused
        self._engine = _native().Engine()

    def apply(self, plan: str) -> Applied:
        """Run this plan from now on.

        Raises `ConfigError`, and leaves the running plan untouched, if any part of it cannot be built: its keys are
        paths into the plan.
        """
        try:
            return read(Applied, self._engine.apply(plan))
        except self._refused as refused:
            raise _config_error(refused) from None

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Which way a request would take under the running plan. Raises `EngineError` before the first."""
        from penstock.engine.explanation import Explanation  # noqa: PLC0415 - see `_LATER`

        try:
            return read(Explanation, self._engine.explain(json.dumps(request)))
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"cannot explain this request: {error}") from error

    def stats(self) -> Stats:
        """Counters and states, read once."""
        from penstock.engine.stats import Stats  # noqa: PLC0415 - see `_LATER`

        return read(Stats, self._engine.stats())

    def events(self, wait: float) -> list[Event]:
        """What happened since the last call, waiting up to `wait` seconds for the first."""
        return [_event(text) for text in self._engine.events(wait)]

    def addon_calls(self, addon: int) -> Calls | None:
        """The calls of the add-on that was loaded under this id, if the running plan has it."""
        calls: Calls | None = self._engine.addon_calls(addon)
        return calls

    def drain(self, wait: float) -> bool:
        """Accept nothing more and let finish what is under way, for up to `wait` seconds. True if all of it did."""
        finished: bool = self._engine.drain(wait)
        return finished

    def stop(self) -> None:
        """Close everything and end the threads. Safe to call twice."""
        self._engine.stop()

    def order(self, upstream: str, address: str, order: Mapping[str, Any]) -> None:
        """Change what people decide about one endpoint: `{"admin": "draining"}` or `{"weight": 3}`.

        It holds at once, and until the endpoint is configured otherwise. Raises `EngineError` for one that is not
        there.
        """
        try:
            self._engine.order(upstream, address, json.dumps(order))
        except ValueError as error:
            raise EngineError(str(error)) from None

    def maintain(self, route: str | None, on: bool) -> None:
        """Put one route, or all there are, into maintenance or back into service.

        It holds at once, and until the route is configured otherwise. Raises `EngineError` for one that is not there.
        """
        try:
            self._engine.maintain(route, on)
        except ValueError as error:
            raise EngineError(str(error)) from None

    def affinity(self, upstream: str, query: Mapping[str, Any]) -> AffinityTable:
        """Ask about the affinity table of an upstream, or have it forget: `{"key": "10.0.0.7", "clear": true}`.

        Raises `EngineError` for an upstream that has none, and for an endpoint that it does not have.
        """
        from penstock.engine.affinity import AffinityTable  # noqa: PLC0415 - see `_LATER`

        try:
            return read(AffinityTable, self._engine.affinity(upstream, json.dumps(query)))
        except ValueError as error:
            raise EngineError(str(error)) from None

    def captures(self, listener: str | None, query: Mapping[str, int] | str) -> Captures:
        """What one listener, or all, have captured: `{"after": 7}`, `{"id": 7}`; or have it forgotten: `"clear"`.

        What is behind an id comes piece by piece, and is asked of one listener. Raises `EngineError` for a listener
        that captures nothing.
        """
        from penstock.engine.stats import Captures  # noqa: PLC0415 - see `_LATER`

        try:
            return read(Captures, self._engine.captures(listener, json.dumps(query)))
        except ValueError as error:
            raise EngineError(str(error)) from None

    def withhold(self, addresses: list[str]) -> None:
        """Take no client of a forward proxy to these addresses, whatever it allows: what else of this process listens
        there. It holds at once, also before the first plan."""
        self._engine.withhold(addresses)

    def reopen_logs(self) -> None:
        """Open the access log's file anew, after a rotation."""
        self._engine.reopen_logs()


def _native() -> ModuleType:
    # Imported at first use: `penstock version` and `penstock schema` answer without loading the data plane, and the
    # tests of the control plane run where it is not built.
    try:
        from penstock import _native as native  # noqa: PLC0415, TID251 - the one place
    except ImportError as error:
        raise EngineError(f"the data plane (penstock._native) cannot be loaded: {error}") from error
    return native


def _event(text: str) -> Event:
    try:
        return Event.read(text)
    except EngineError as error:
        # One that cannot be read must not take the rest of its batch with it.
        return Event(time.time(), "unread", "error", "an event of the data plane was lost", {"reason": str(error)})


def _config_error(refused: Exception) -> ConfigError:
    """What was refused. Raises `EngineError` if it was the plan as a whole: whoever wrote the configuration can do
    nothing about that."""
    rows: list[dict[str, str]] = json.loads(str(refused.args[0]))
    if unread := next((row["message"] for row in rows if not row["path"]), None):
        raise EngineError(f"the data plane (penstock._native) is of another version: make build ({unread})")
    return ConfigError([Fault(PLAN, None, None, row["path"], row["message"]) for row in rows])
