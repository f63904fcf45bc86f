"""What crosses the border at every change, as frozen values, and what a data plane is. What it tells of itself is in
`stats.py`.

Field names are those of the JSON that crosses the border, so that one reader serves all of them; a field that the
native module does not send is an error here, not a surprise later. Durations are seconds and sizes bytes, unless the
name says otherwise.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from penstock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock._native import Calls  # noqa: TID251 - within the one place
    from penstock.engine.affinity import AffinityTable
    from penstock.engine.explanation import Explanation
    from penstock.engine.stats import Captures, ListStats, Stats


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something of a plan that is allowed and yet likely to be wrong."""

    path: str
    """Where in the plan."""
    message: str


@dataclass(frozen=True, slots=True)
class Applied:
    """A plan that runs now."""

    version: int
    warnings: tuple[str, ...]
    """Of the data plane; from the controller all of them, the doubts at their place in the configuration included."""
    doubts: tuple[Doubt, ...]
    addresses: dict[str, tuple[str, ...]]
    """Per listener, the addresses it really has: port 0 became a number."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in the data plane."""

    at: float
    """Seconds since the epoch."""
    kind: str
    level: Literal["info", "warning", "error"]
    message: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What else belongs to it, by name."""

    @classmethod
    def read(cls, text: str) -> Event:
        """Read one event. Raises `EngineError` for one that is not as agreed."""
        row = _json(text)
        own = {key: row.pop(key, None) for key in ("at", "kind", "level", "message")}
        return read(cls, {**own, "fields": row})


class Checked(Protocol):
    """A plan that could run."""

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is allowed and yet likely to be wrong."""

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Which way a request would take."""


class Rules(Protocol):
    """What can be asked about a plan without running it. The module `penstock.engine` is one."""

    def check(self, plan: str) -> Checked:
        """Build the plan, or raise `ConfigError` with every fault of it."""

    def read_list(self, plan: Mapping[str, Any]) -> ListStats:
        """What a list of a plan holds. Raises `EngineError` for files that are no such list."""


class DataPlane(Protocol):
    """A data plane that runs plans: `Engine`, or `FakeEngine` in tests."""

    def apply(self, plan: str) -> Applied:
        """Run this plan from now on."""

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Which way a request would take under the running plan."""

    def stats(self) -> Stats:
        """Counters and states."""

    def events(self, wait: float) -> list[Event]:
        """What happened since the last call."""

    def addon_calls(self, addon: int) -> Calls | None:
        """The calls of the add-on that was loaded under this id, if the running plan has it."""

    def drain(self, wait: float) -> bool:
        """Accept nothing more and let finish what is under way."""

    def stop(self) -> None:
        """Close everything."""

    def order(self, upstream: str, address: str, order: Mapping[str, Any]) -> None:
        """Change what people decide about one endpoint."""

    def maintain(self, route: str | None, on: bool) -> None:
        """Put one route, or all there are, into maintenance or back into service."""

    def affinity(self, upstream: str, query: Mapping[str, Any]) -> AffinityTable:
        """Ask about the affinity table of an upstream, or have it forget."""

    def captures(self, listener: str | None, query: Mapping[str, int] | str) -> Captures:
        """What one listener, or all, have captured."""

    def withhold(self, addresses: list[str]) -> None:
        """Take no client of a forward proxy to these addresses."""

    def reopen_logs(self) -> None:
        """Open the access log's file anew."""


T = TypeVar("T")


def read(kind: type[T], document: str | Mapping[str, Any]) -> T:
    """Read a border document as one of the types of this package. Raises `EngineError` where it is not as agreed."""
    try:
        reader: TypeAdapter[T] = _reader(kind)  # type: ignore[arg-type]
        return reader.validate_json(document) if isinstance(document, str) else reader.validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EngineError(f"the data plane's {kind.__name__} is not as agreed at {place!r}: {first['msg']}") from error


@functools.cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _json(text: str) -> dict[str, Any]:
    return read(dict[str, Any], text)
