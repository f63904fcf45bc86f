"""How an endpoint of an upstream is chosen."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Strict, Tag

from penstock.config.model.base import Model

Policy = Literal["p2c", "round_robin", "least_requests", "peak_ewma", "random", "first"]
"""A balance policy that needs no more than its name."""


class HashBalance(Model):
    """The same endpoint for the same key, on every machine that has the same endpoints."""

    hash: str
    """The key: an expression that gives a text, such as 'path', 'client.ip', 'header["X-Tenant"]' or several joined by
    +. A request without it goes to the better of two endpoints picked at random."""
    method: Literal["maglev", "ring", "rendezvous"] = "maglev"
    """How keys are spread: "maglev" (a table), "ring" (consistent hashing) or "rendezvous" (highest random weight).
    Default "maglev"."""
    bounded_load: Annotated[float, Strict(), Field(ge=1, le=1000)] | None = None
    """The most load that an endpoint may have, as a multiple of the mean, before its keys go to the next: 1.25 is a
    good value. Default: no bound."""


def _tag(value: object) -> str:
    return "<table>" if isinstance(value, Mapping | HashBalance) else "<name>"


Balance = Annotated[Annotated[Policy, Tag("<name>")] | Annotated[HashBalance, Tag("<table>")], Discriminator(_tag)]
"""A policy by its name, or a table with `hash`."""
