"""Balancing by a function of the user's own: `@penstock.weights`.

The decorator only marks a function. It is called, off the path of requests, while a configuration runs whose Python
file or whose add-on holds it (`penstock.control.weights`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.config.document import unknown
from penstock.config.model.base import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import timedelta

    from penstock.config.document import KeyPath
    from penstock.config.model import Config

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
    """The policies among the values of a module or an object, each once. A method is called as one of its object."""
    found: dict[int, WeightPolicy] = {}
    for value in values:
        marks = getattr(value, _MARK, ())
        if callable(value) and isinstance(marks, tuple):
            for mark in (mark for mark in marks if isinstance(mark, WeightPolicy)):
                found.setdefault(id(mark), replace(mark, function=value))
    return tuple(found.values())


def policy_faults(config: Config, policies: Iterable[tuple[KeyPath, WeightPolicy]]) -> Iterator[tuple[KeyPath, str]]:
    """What is wrong with policies found at these keys: one has an upstream, and an upstream has one at most."""
    taken: set[str] = set()
    for key, policy in policies:
        if policy.upstream not in config.upstreams:
            yield key, f"weights of {policy.name}: {unknown('upstream', policy.upstream, config.upstreams)}"
        elif policy.upstream in taken:
            yield ("upstreams", policy.upstream), f"{policy.name} is its second function with weights"
        taken.add(policy.upstream)
