"""When a request is sent once more."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from penstock.config.model.base import SIZE_SCHEMA, Model, Timeout, Whole, parse_size


class Backoff(Model):
    """How long to wait before a request is sent again."""

    least: Timeout = timedelta(milliseconds=25)
    """Shortest pause; each further one may be twice as long. Default "25ms"."""
    most: Timeout = timedelta(milliseconds=250)
    """Longest pause. Default "250ms"."""


class Retry(Model):
    """When a request is sent once more, to another endpoint where there is one."""

    attempts: Annotated[Whole, Field(ge=0, le=10)] = 1
    """How often a request that was sent is sent again, if its method may be repeated, 0 to 10. Default 1."""
    per_try_timeout: Timeout | None = None
    """How long an attempt that can be followed by another waits for its connection and its response head.
    Default: as the timeouts of the upstream and the route say, and then no other is made."""
    on: tuple[Annotated[Whole, Field(ge=400, le=599)], ...] = ()
    """Statuses for which another endpoint is asked, if the method may be repeated. Default: none."""
    backoff: Backoff = Backoff.defaults()
    """How long to wait before a request is sent again."""
    buffer: Annotated[int, Field(ge=0, le=1 << 20), BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)] = 64 << 10
    """Bytes of a request's body that are kept to be sent again; one that is longer is not repeated, at most 1 MB.
    Default "64KB"."""
