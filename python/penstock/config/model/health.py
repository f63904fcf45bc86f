"""Health checks: what a probe asks, and which answer is a success."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, Strict, WithJsonSchema

from penstock.config.model.base import Flag, Model, Timeout, Whole
from penstock.config.model.tls import UpstreamTls, tls_from_switch

_RANGE = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", re.ASCII)


def parse_statuses(value: object) -> tuple[int, int]:
    """Read a status or a range of them, both ends included: `204`, `"200-399"`. Raises `ValueError`."""
    if isinstance(value, tuple):
        value = "-".join(map(str, value))
    found = None if isinstance(value, bool) else _RANGE.fullmatch(str(value))
    if found is None or int(found[2] or found[1]) < int(found[1]):
        raise ValueError(f'a status is 100 to 599 or a range of them, as 204 or "200-399", not {value!r}')
    return int(found[1]), int(found[2] or found[1])


def write_statuses(value: tuple[int, int]) -> str:
    """What `parse_statuses` reads as this range."""
    return f"{value[0]}-{value[1]}"


Statuses = Annotated[
    tuple[int, int],
    BeforeValidator(parse_statuses),
    PlainSerializer(write_statuses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 100, "maximum": 599},
                {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"},
            ]
        }
    ),
]
"""A status, or a range of them."""


class BodyTest(Model):
    """What the first 64 KB of a body must hold. In a file, a bare text stands for `text`."""

    text: str | None = None
    """This text, anywhere."""
    regex: str | None = None
    """A match of this regular expression, anywhere."""


class Words(Model):
    """Bytes on a connection. In a file, a bare text stands for `text`."""

    text: str | None = None
    """This text, as UTF-8."""
    hex: str | None = None
    """These bytes, two hexadecimal digits each, as "0d 0a"."""


def _body(value: object) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _listed(value: object) -> Any:
    return (value,) if isinstance(value, int | str) else value


OneOrMoreStatuses = Annotated[
    tuple[Statuses, ...],
    BeforeValidator(_listed),
    Field(min_length=1),
]
Said = Annotated[Words, BeforeValidator(_body, json_schema_input_type=str | Words)]


class LatencyOutlier(Model):
    """When an endpoint is slow enough to be ejected."""

    factor: Annotated[float, Field(ge=1.1, le=1000), Strict()] = 3.0
    """How many times the median of the other endpoints its mean must be, 1.1 to 1000. Default 3."""
    least: Timeout = timedelta(milliseconds=100)
    """Below this it is fast enough, whatever the others are. Default "100ms"."""


class Outlier(Model):
    """Ejection of endpoints that fail the requests they get."""

    failures: Annotated[Whole, Field(ge=1, le=255)] = 5
    """Failures in a row that eject an endpoint. Default 5."""
    within: Timeout = timedelta(seconds=10)
    """The time in which they must lie. Default "10s"."""
    eject: Timeout = timedelta(seconds=30)
    """Length of a first ejection; each that follows soon is twice as long. Default "30s"."""
    most: Timeout = timedelta(seconds=300)
    """The longest ejection. Default "5m"."""
    share: Annotated[float, Field(ge=0, le=1), Strict()] = 0.5
    """Share of the upstream's endpoints that may be ejected at once, 0 to 1; never the last one. Default 0.5."""
    latency: LatencyOutlier | None = None
    """Whether endpoints that are far slower than the others are ejected, too; {} for the defaults. Default: no."""


class HealthCheck(Model):
    """Probes of every endpoint: over HTTP, or with `tcp` a bare connection, with `udp` a datagram, with `grpc` gRPC's
    own health check, with `redis`, `postgres` or `mysql` what such a server says to whoever connects."""

    path: str = "/"
    """HTTP: what a probe asks for; may have a query. Default "/"."""
    method: str = "GET"
    """HTTP: the method. Default "GET"."""
    headers: dict[str, str] = Field(default_factory=dict)
    """HTTP: further request fields. Default: none."""
    status: OneOrMoreStatuses = ((200, 399),)
    """HTTP: the statuses that are a success: one or a list of numbers and ranges, as [200, "301-302"].
    Default "200-399"."""
    body: Annotated[BodyTest, BeforeValidator(_body, json_schema_input_type=str | BodyTest)] | None = None
    """HTTP: what the first 64 KB of the body must hold: a text, or { regex = "…" }. Default: it is not read."""
    host: str | None = None
    """HTTP and gRPC: the Host that is sent. Default: the address that is asked."""
    tcp: Flag = False
    """true: a connection that can be made is a success. Default false."""
    udp: Flag = False
    """true: a datagram, `send`, that is answered is a success. Default false."""
    send: Said | None = None
    """TCP and UDP: what to say: a text, or { hex = "…" }. Default: nothing; UDP needs something."""
    expect: Said | None = None
    """TCP and UDP: what the first 64 KB of the reply must hold: a text, or { hex = "…" }. Default: over TCP no reply is
    waited for, over UDP any will do."""
    grpc: str | None = None
    """gRPC's health check over HTTP/2 without TLS: the service to ask for, "" for the server as a whole.
    Default: no gRPC."""
    redis: Flag = False
    """true: a Redis server that answers PING, or asks for a password first, is a success. Default false."""
    postgres: Flag = False
    """true: a PostgreSQL server that asks who we are, or does not want us, is a success; one that starts, ends or has
    no place left is not. Default false."""
    user: Annotated[str, Field(min_length=1, max_length=63)] = "penstock"
    """PostgreSQL: the role that it is told; it needs no rights, and need not exist. Default "penstock"."""
    mysql: Flag = False
    """true: a MySQL or MariaDB server that greets us is a success. Default false."""
    tls: Annotated[UpstreamTls | None, BeforeValidator(tls_from_switch, json_schema_input_type=bool | UpstreamTls)] = (
        None
    )
    """How probes shake hands where the upstream has no tls, because clients do that themselves: true, or a table with
    the keys of the upstream's. Default: as the upstream does."""
    port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    """Another port of the endpoint to ask. Default: its own."""
    address: str | None = None
    """Where to ask instead of at the endpoints: "10.0.0.9:9100" or "unix:/run/health.sock".
    Default: at each endpoint."""
    interval: Timeout = timedelta(seconds=5)
    """From one probe to the next, give or take 10 %. Default "5s"."""
    timeout: Timeout = timedelta(seconds=2)
    """A whole probe, from connecting to its answer. Default "2s"."""
    fall: Annotated[Whole, Field(ge=1, le=255)] = 3
    """Failures in a row that take an endpoint down. Default 3."""
    rise: Annotated[Whole, Field(ge=1, le=255)] = 2
    """Successes in a row that bring it up again. Default 2."""
    start: Literal["up", "down"] = "up"
    """What an endpoint is before its first probe: "up", or "down": it takes no request before it has passed one.
    Default "up"."""
