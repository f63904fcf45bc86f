"""Upstreams: named groups of endpoints."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from penstock.config.model.affinity import Affinity, SecretPlace
from penstock.config.model.balance import Balance
from penstock.config.model.base import HeadSize, Model, Timeout, Whole
from penstock.config.model.health import HealthCheck, Outlier
from penstock.config.model.retry import Retry
from penstock.config.model.tls import UpstreamTls, tls_from_switch


class Endpoint(Model):
    """One member of an upstream. In a file, a bare address stands for an endpoint with every default."""

    address: str
    """"10.0.0.1:9000", "[::1]:9000", "app.internal:9000" or "unix:/run/app.sock" (relative to the file)."""
    weight: Annotated[Whole, Field(ge=0, le=256)] = 1
    """Share of the requests against the other endpoints, 0 to 256; 0 takes none. Default 1."""
    priority: Annotated[Whole, Field(ge=0, le=255)] = 0
    """Tier, 0 to 255: the next is used when no endpoint of the lower ones can be. Default 0."""
    max_connections: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    """The most requests at once, of all workers together. Default: no limit."""
    slow_start: Timeout | None = None
    """How long its weight grows, from a tenth, after it came up or was added. Default: it has all of it at once."""
    state: Literal["ready", "draining", "disabled"] = "ready"
    """"ready", "draining" (no new requests, but those of clients that are bound to it) or "disabled" (none). Default
    "ready"."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Texts by name, for policies written in Python; shown in the status. Default: none."""


class UpstreamTimeouts(Model):
    """How long an endpoint is waited for, named by what is awaited."""

    connect: Timeout = timedelta(seconds=5)
    """A connection. Default "5s"."""
    head: Timeout = timedelta(seconds=60)
    """The response head, counted from the end of the request. Default "60s"."""
    body: Timeout = timedelta(seconds=60)
    """The next bytes of a response body. Default "60s"."""
    write: Timeout = timedelta(seconds=60)
    """Room to write when the endpoint does not read. Default "60s"."""
    idle: Timeout = timedelta(seconds=60)
    """How long an unused connection stays in the pool. Default "60s"."""


class UpstreamLimits(Model):
    """How much an endpoint may answer, how many unused connections are kept, and how much the upstream gets at once."""

    head: HeadSize = 64 << 10
    """Bytes of a response head; beyond: 502. Default "64KB"."""
    fields: Annotated[Whole, Field(ge=1, le=65535)] = 200
    """Header fields of a response; beyond: 502. Default 200."""
    interim: Annotated[Whole, Field(ge=0, le=255)] = 8
    """Interim responses (1xx) before the final one; beyond: 502. Default 8."""
    streams: Annotated[Whole, Field(ge=1, le=1000)] = 100
    """Requests at once on one connection of HTTP/2. Default 100."""
    idle_connections: Annotated[Whole, Field(ge=0, le=65535)] = 32
    """Unused connections kept for each worker and endpoint; 0 keeps none. Default 32."""
    connections: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    """Open connections to all endpoints together, of all workers, unused ones included; beyond: 503. Default: no
    limit."""
    pending: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    """Requests that wait in the queue or for a connection to be made, of all workers; beyond: 503. Default: no
    limit."""
    requests: Annotated[Whole, Field(ge=1, le=1_000_000)] | None = None
    """Requests under way, of all workers; a tunnel is one until it ends; beyond: 503. Default: no limit."""


def _retry_or_none(value: object) -> Any:
    return Retry(attempts=0) if value is False else value


def _off_or_table(value: object) -> Any:
    if isinstance(value, bool):
        if value:
            raise ValueError("is false, or a table; without it, it is on")
        return None
    return value


class Queue(Model):
    """Where requests wait while every endpoint has as many as its max_connections."""

    size: Annotated[Whole, Field(ge=1, le=1_000_000)] = 100
    """Requests that may wait at once, of all workers; beyond: 503. Default 100."""
    timeout: Timeout = timedelta(seconds=5)
    """How long one may wait; beyond: 503. Default "5s"."""


def _from_address(value: object) -> Any:
    return Endpoint(address=value) if isinstance(value, str) else value


class Parent(Model):
    """How endpoints that are proxies are asked for the servers behind them."""

    protocol: Literal["http", "socks5"] = "http"
    """What they speak: "http" (whole URLs and CONNECT; with `tls` of the upstream over TLS) or "socks5". Default
    "http"."""
    user: str | None = None
    """Who we are there. Default: nobody asks."""
    password: SecretPlace | None = None
    """Where the password of that is found: { env = "NAME" } or { file = "path" }."""


class Upstream(Model):
    """A named group of endpoints that can answer the same requests."""

    endpoints: Annotated[
        tuple[Annotated[Endpoint, BeforeValidator(_from_address, json_schema_input_type=str | Endpoint)], ...],
        Field(min_length=1),
    ]
    """The members, at least one: addresses, or tables with `address` and `weight`."""
    balance: Balance = "p2c"
    """How an endpoint is chosen: "p2c" (the better of two picked at random, by load and latency), "round_robin" (in
    turn, by weight), "least_requests" (the fewest under way for its weight), "peak_ewma" (the best of all by load and
    latency), "random" (any, by weight), "first" (the first that may take requests) or a table with `hash` (the
    same endpoint for the same key). Default "p2c"."""
    affinity: Affinity | None = None
    """What binds a client to an endpoint. Default: nothing does."""
    host: str = "keep"
    """Which Host the endpoint is sent: "keep" (the client's), "upstream" (the endpoint's address) or a name such as
    "shop.internal". Default "keep"."""
    protocol: Literal["http1", "h2", "h2c", "auto"] = "http1"
    """What is spoken to the endpoints: "http1" (HTTP/1.1), "h2" (HTTP/2 with TLS), "h2c" (HTTP/2 in clear) or "auto"
    (with TLS, HTTP/2 if the endpoint has it, else HTTP/1.1). Default "http1"."""
    parent: Parent | None = None
    """That its endpoints are proxies, through which a listener of "forward" goes out: a table with `protocol`, `user`
    and `password`. Default: for those that a listener names, what they are without a word."""
    tls: Annotated[UpstreamTls | None, BeforeValidator(tls_from_switch, json_schema_input_type=bool | UpstreamTls)] = (
        None
    )
    """How its endpoints are spoken to with TLS: true, or a table; false, or without it: in clear. Default: in clear."""
    proxy_protocol: Literal["v1", "v2"] | None = None
    """The header of the PROXY protocol by which endpoints are told who the client is, on each connection: "v1" or "v2".
    Such a connection is used for one client alone. Default: none."""
    timeouts: UpstreamTimeouts = UpstreamTimeouts.defaults()
    """How long an endpoint is waited for."""
    limits: UpstreamLimits = UpstreamLimits.defaults()
    """How much an endpoint may answer."""
    queue: Queue | None = None
    """Where requests wait while every endpoint has as many as its max_connections. Default: they do not wait and are
    answered 503."""
    health_check: HealthCheck | None = None
    """Probes of every endpoint. Default: none, every endpoint counts as up."""
    outlier: Annotated[
        Outlier | None, BeforeValidator(_off_or_table, json_schema_input_type=Literal[False] | Outlier)
    ] = Outlier.defaults()
    """Ejection of endpoints that fail the requests they get; false switches it off. Default: as below."""
    retry: Annotated[Retry, BeforeValidator(_retry_or_none, json_schema_input_type=Literal[False] | Retry)] = (
        Retry.defaults()
    )
    """When a request is sent once more; false: never. Default: as below."""
