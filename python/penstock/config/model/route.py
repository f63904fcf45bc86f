"""Routes: what a request must say, and what becomes of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from penstock.config.model.base import Flag, Model, Size, Timeout, Whole
from penstock.config.model.filter import Filter


class Share(Model):
    """One part of a split."""

    upstream: str
    """Name of an upstream."""
    weight: Annotated[Whole, Field(ge=0, le=1_000_000)] = 1
    """Share of the requests against the other parts, 0 to 1000000; not all of a split may be 0. Default 1."""


class Respond(Model):
    """An answer of Penstock's own."""

    status: Annotated[Whole, Field(ge=200, le=599)] = 200
    """Status, 200 to 599. Default 200."""
    body: str = ""
    """Sent as UTF-8. Default: empty. Refused with 204, 205 and 304, which have none."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Response fields. Default: none."""
    content_type: str | None = None
    """The Content-Type. Default "text/plain; charset=utf-8" when there is a body."""
    template: Flag = False
    """Whether `{name}` in `body` and `headers` stands for a value of the request, as "{path}" or "{request_id}"; a
    brace is then written twice. Default false: both are sent as they are."""


class Redirect(Model):
    """An answer that sends the client elsewhere."""

    to: str
    """The Location: an absolute URL or a path that begins with "/". `{name}` stands for a value of the request, as in
    "https://{host}{path}?{query}"."""
    status: Literal[301, 302, 303, 307, 308] = 308
    """301, 302, 303, 307 or 308. Default 308 (permanent, method kept)."""


class RouteTimeouts(Model):
    """Waits of this route that go before the upstream's."""

    head: Timeout | None = None
    """The response head, counted from the end of the request. Default: the upstream's."""
    body: Timeout | None = None
    """The next bytes of a response body. Default: the upstream's."""
    total: Timeout | None = None
    """The whole exchange. Default: no limit."""


class RouteLimits(Model):
    """Limits of this route that go before the listener's."""

    body: Annotated[Size, Field(le=(1 << 63) - 1)] | None = None
    """Bytes of a request body; beyond: 413. Default: the listener's."""


def _shares(value: object) -> Any:
    if isinstance(value, Mapping):
        return [{"upstream": name, "weight": weight} for name, weight in value.items()]
    return value


class Route(Model):
    """One route. Routes are tried in the order written; the first that matches wins. Exactly one action is given:
    `upstream`, `split`, `respond` or `redirect`."""

    name: str | None = None
    """Unique name, shown in logs and counters. Default "route-N", N counted from 1."""
    match: str | None = None
    """Expression that a request must satisfy, such as 'host == "shop.example" and path.startswith("/api/")'.
    Default: every request."""
    strict: Flag = False
    """Whether a request is refused whose body the match asks for a JSON value and cannot use: too large 413, no JSON or
    another type 400. Default false: the route does not match."""
    listeners: tuple[str, ...] | None = None
    """Names of the listeners that this route serves. Default: all."""
    upstream: str | None = None
    """Action: forward to the upstream of this name."""
    split: (
        Annotated[
            tuple[Share, ...],
            BeforeValidator(_shares, json_schema_input_type=tuple[Share, ...] | dict[str, int]),
            Field(min_length=1),
        ]
        | None
    ) = None
    """Action: forward to one of several upstreams by weight: { blue = 90, green = 10 } or a list of tables with
    `upstream` and `weight`."""
    respond: Respond | None = None
    """Action: answer without asking an upstream."""
    redirect: Redirect | None = None
    """Action: send the client elsewhere."""
    filters: tuple[Filter, ...] = ()
    """Steps on the request and its response, in order. Default: none."""
    addons: tuple[str, ...] = ()
    """Names of the add-ons that are asked, in order. Default: none, and Python takes no part."""
    timeouts: RouteTimeouts = RouteTimeouts()
    """Waits that go before the upstream's."""
    limits: RouteLimits = RouteLimits()
    """Limits that go before the listener's."""
