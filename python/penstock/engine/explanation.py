"""Which way a request takes, and why not another: what the data plane explains, as frozen values.

Field names are those of the JSON that crosses the border, as in `types.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class RouteTaken:
    """The route that a request takes."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A route that was tried before and did not match."""

    index: int
    name: str
    why: str
    """`"listener"` (not one that it serves) or `"match"`."""
    at: tuple[int, int] | None = None
    """First and one-past-last character, in the route's `match`, of the part that said no."""
    found: str | int | None = None
    """What the request has there; `None` if it has nothing."""
    match: str | None = None
    """The route's `match`, as written."""


@dataclass(frozen=True, slots=True)
class ListHit:
    """A list that has what a match looked for in it."""

    list: str
    """Name of the list."""
    value: str
    """What was looked for."""
    entry: str
    """What it was found under."""
    source: str
    """The file or address that has it, and its line there."""
    line: int


@dataclass(frozen=True, slots=True)
class FilterEffect:
    """What one filter of the route does to this request."""

    name: str
    effect: str


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The request as an endpoint gets it."""

    upstream: str
    """Name of the upstream that gets it."""
    method: str
    host: str
    target: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint that could be picked."""

    address: str
    weight: int
    """As it is now: an order may have changed it."""
    admin: Literal["ready", "draining", "disabled"]
    state: str
    eligible: bool
    """Whether it may be picked for a request that is bound to no endpoint."""


@dataclass(frozen=True, slots=True)
class ShareTaken:
    """The share of a split that a request takes."""

    name: str | None
    """Name of the upstream; nothing where it is drawn, each time anew."""
    why: Literal["header", "cookie", "key", "drawn"]


@dataclass(frozen=True, slots=True)
class MirrorTaken:
    """The copy that a route may make of a request."""

    upstream: str
    percent: float
    eligible: bool
    """Whether a request like this one may be copied."""


@dataclass(frozen=True, slots=True)
class UpstreamChoice:
    """An upstream that the route may use, with its candidates."""

    name: str
    weight: int
    balance: str
    endpoints: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a service would be asked about a request."""

    upstream: str
    target: str
    copied: tuple[str, ...]
    """Names of the fields that its answer gives to the request, and that the client cannot."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which way a request takes, and why not another."""

    listener: str
    request: dict[str, Any]
    route: RouteTaken | None
    rule: RouteTaken | None
    """The rule of a forward proxy that takes the request; nothing where none matches, and it goes out."""
    action: str | None
    throttle: int | None
    """Bytes a second that go each way of it, where a rule of a forward proxy says so."""
    status: int | None
    refused: str | None
    maintenance: Literal["refused", "excepted"] | None
    """What becomes of the request because its route is in maintenance; the rest is told as if it were not."""
    passed_over: tuple[PassedOver, ...]
    lists: tuple[ListHit, ...]
    """Of the matches that were tried."""
    filters: tuple[FilterEffect, ...]
    forward_auth: Asking | None
    """The service that would be asked whether the request may go on; it is not."""
    addons: tuple[str, ...]
    """Names of those that would be asked, in order; none is."""
    forwarded: tuple[Forwarded, ...]
    """For each upstream that may be asked: every share of a split that is drawn, otherwise one."""
    share: ShareTaken | None
    """Which share of a split takes it; nothing without a split."""
    mirror: MirrorTaken | None
    """The copy that may be made of it; nothing where the route makes none."""
    upstreams: tuple[UpstreamChoice, ...]
