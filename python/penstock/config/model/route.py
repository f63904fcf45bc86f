"""Routes: what a request must say, and what becomes of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Strict, Tag

from penstock.config.model.base import Flag, Model, Size, Timeout, Whole
from penstock.config.model.filter import Filter
from penstock.config.model.page import ErrorPages


class Share(Model):
    """One part of a split."""

    upstream: str
    """Name of an upstream."""
    weight: Annotated[Whole, Field(ge=0, le=1_000_000)] = 1
    """Share of the requests against the other parts, 0 to 1000000; 0 takes only requests that name it, and not all of a
    split may be 0. Default 1."""


def _shares(value: object) -> Any:
    if isinstance(value, Mapping):
        return [{"upstream": name, "weight": weight} for name, weight in value.items()]
    return value


Shares = Annotated[
    tuple[Share, ...],
    BeforeValidator(_shares, json_schema_input_type=tuple[Share, ...] | dict[str, int]),
    Field(min_length=1),
]
"""The parts of a split: { blue = 90, green = 10 } or a list of tables with `upstream` and `weight`."""


class Override(Model):
    """How a request names its share. At least one of `header` and `cookie` is given; the header goes first."""

    header: str | None = None
    """A request field, such as "X-Canary"."""
    cookie: str | None = None
    """Name of a cookie."""
    values: dict[str, str] | None = None
    """What it may say, and the upstream of the share that is meant: { always = "green", never = "blue" }. Anything else
    names no share. Default: the names of the upstreams."""


class Split(Model):
    """Shares, and what decides between them besides chance."""

    shares: Shares
    """The parts: { blue = 90, green = 10 } or a list of tables with `upstream` and `weight`."""
    key: str | None = None
    """An expression that gives a text, such as 'cookie["user"]': requests of one value go to one share. Default, and
    for a request without it: each is drawn by weight."""
    override: Override | None = None
    """How a request names its share. Default: it cannot."""


def _split_tag(value: object) -> str:
    if isinstance(value, Split):
        return "<table>"
    # An upstream may have any of these names: then a number stands behind it.
    whole = isinstance(value, Mapping) and any(
        name in value and not isinstance(value[name], int) for name in Split.model_fields
    )
    return "<table>" if whole else "<shares>"


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


class ForwardAuth(Model):
    """A service that is asked, with a GET, whether a request may go on; an answer other than 2xx is the client's."""

    upstream: str
    """Name of the upstream that is asked."""
    path: str
    """What it is asked for, such as "/verify"; may have a query."""
    copy_headers: tuple[str, ...] = ()
    """Fields of its answer that the request gets; the client's own are taken out in any case. Default: none."""
    timeout: Timeout = timedelta(seconds=5)
    """How long a request waits for its answer; beyond: 504. Default "5s"."""


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


class Mirror(Model):
    """Copies of requests to a further upstream, whose answers nobody sees."""

    upstream: str
    """Name of the upstream that gets the copies."""
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), Strict()] = 100
    """How many of a hundred requests are copied, 0 to 100, in hundredths. Default 100."""
    when: str | None = None
    """Expression that a request must satisfy to be copied, as 'method == "GET"'; it sees what the route's filters have
    left. Default: every request."""


class Maintenance(Model):
    """What maintenance of a route is: `on` or a command sends every request away with 503, but for the excepted."""

    on: Flag = False
    """Whether it is on without a command. Default false."""
    except_: str | None = Field(default=None, alias="except")
    """Expression that names the requests that pass nevertheless, as 'client.ip in ["10.0.0.0/8"]'. Default: none."""
    retry_after: Timeout = timedelta(minutes=5)
    """The Retry-After of the others, in whole seconds. Default "5m"."""


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
    """Names of the listeners that this route serves. One that names listeners of "tcp" names no others, and says what
    can be asked of a connection alone. Default: all of "http"."""
    upstream: str | None = None
    """Action: forward to the upstream of this name."""
    split: (
        Annotated[
            Annotated[Shares, Tag("<shares>")] | Annotated[Split, Tag("<table>")],
            Discriminator(_split_tag),
        ]
        | None
    ) = None
    """Action: forward to one of several upstreams by weight: { blue = 90, green = 10 }, a list of tables with
    `upstream` and `weight`, or a table with `shares`, `key` and `override`."""
    respond: Respond | None = None
    """Action: answer without asking an upstream."""
    redirect: Redirect | None = None
    """Action: send the client elsewhere."""
    filters: tuple[Filter, ...] = ()
    """Steps on the request and its response, in order. Default: none."""
    forward_auth: ForwardAuth | None = None
    """A service that is asked whether a request may go on. Default: none."""
    addons: tuple[str, ...] = ()
    """Names of the add-ons that are asked, in order. Default: none, and Python takes no part."""
    timeouts: RouteTimeouts = RouteTimeouts.defaults()
    """Waits that go before the upstream's."""
    limits: RouteLimits = RouteLimits.defaults()
    """Limits that go before the listener's."""
    error_pages: ErrorPages = Field(default_factory=dict)
    """Pages for failures, by status ("503") or class ("5xx"); they go before the listener's. Default: none."""

    maintenance: Maintenance = Maintenance.defaults()
    """What becomes of requests while the route is in maintenance, which `penstock maintenance` switches. Default: 503
    for all of them."""

    mirror: Mirror | None = None
    """Copies of its requests to a further upstream. Default: none."""

    @property
    def shares(self) -> tuple[Share, ...]:
        """The parts of its split; none without one."""
        return self.split.shares if isinstance(self.split, Split) else self.split or ()
