"""Balancing by a function of the user's own: `@penstock.weights`.

The decorator only marks a function. It is called, off the path of requests, while a configuration runs whose Python
file holds it (`penstock.control.weights`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.config.model.base import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta

F = TypeVar("F", bound="Callable[..., Any]")

SHORTEST = 0.05
"""Seconds between two calls, at least."""
_MARK = "__penstock_weights__"


@dataclass(frozen=True, slots=True)
class WeightPolicy:
    """A function that says how much each endpoint of an upstream gets."""

    upstream: str
    every: float
    """Seconds from the end of one call to the next."""
    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """What people call the function."""
        return str(getattr(self.function, "__qualname__", self.function))


def weights(upstream: str, *, every: str | timedelta = "1s") -> Callable[[F], F]:
    """Let the function below give the weights of an upstream's endpoints.

        @penstock.weights("shop", every="1s")
        def by_zone(endpoints):
            return {one.address: 3 if one.labels.get("zone") == "a" else 1 for one in endpoints}

    It is called with a tuple of `penstock.EndpointFigures` and returns a mapping from addresses to whole numbers, 0 to
    256; an endpoint that it leaves out keeps its weight. If it raises, returns something else or does not return, the
    weights stay as they are; that is counted and logged. Raises `ValueError` for an interval that is none.
    """
    seconds = parse_duration(every).total_seconds()
    if seconds < SHORTEST:
        raise ValueError(f"weights: every is at least {SHORTEST * 1000:.0f}ms, not {every!r}")

    def mark(function: F) -> F:
        marks = getattr(function, _MARK, ())
        setattr(function, _MARK, (*marks, WeightPolicy(upstream, seconds, function)))
        return function

    return mark


def policies_of(values: Iterable[object]) -> tuple[WeightPolicy, ...]:
    """The policies among the values of a module, each once."""
    found: dict[int, WeightPolicy] = {}
    for value in values:
        marks = getattr(value, _MARK, ()) if callable(value) else ()
        if isinstance(marks, tuple):
            found.update({id(mark): mark for mark in marks if isinstance(mark, WeightPolicy)})
    return tuple(found.values())
