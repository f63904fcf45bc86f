"""The tables that bind clients to endpoints, as frozen values; field names as in `types.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AffinityStats:
    """The table that binds clients to the endpoints of an upstream."""

    clients: int
    """Those that are bound now."""
    size: int
    """Those that may be."""
    ttl: float
    """Seconds that one stays bound after it was last seen."""
    evicted: int
    """Those that were forgotten because there were too many."""
    memory: int


@dataclass(frozen=True, slots=True)
class BoundClient:
    """What the table knows of one client."""

    key: str
    endpoint: str | None
    """Nothing, if it is bound to none."""
    seen: float | None
    """Seconds since it was last seen."""


@dataclass(frozen=True, slots=True)
class BoundTo:
    """How many clients are bound to an endpoint."""

    address: str
    clients: int


@dataclass(frozen=True, slots=True)
class AffinityTable(AffinityStats):
    """The answer of a table to a command."""

    upstream: str
    endpoints: tuple[BoundTo, ...]
    """Not told where one client is asked for."""
    client: BoundClient | None
    """As it was before it was forgotten."""
    cleared: int | None
    """Clients that were forgotten by this command."""
