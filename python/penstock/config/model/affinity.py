"""Affinity: clients that are sent to the same endpoint again."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from penstock.config.model.base import Model, Timeout, Whole


class Secret(Model):
    """Where a secret is found. It is never written into a configuration. Exactly one key is given."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Annotated[str, Field(min_length=1)] | None = None
    """Name of an environment variable."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """Path of a file, relative to the configuration file."""


def _not_a_value(value: object) -> Any:
    if not isinstance(value, Mapping | Secret):
        # The message must not show it.
        raise ValueError('a secret is not written down here; write { env = "NAME" } or { file = "path" }')
    return value


SecretPlace = Annotated[Secret, BeforeValidator(_not_a_value, json_schema_input_type=Secret)]
"""Where a secret is found."""


class Affinity(Model):
    """What binds a client to an endpoint. Exactly one of `cookie`, `header`, `key` and `table` is given."""

    cookie: str | None = None
    """Name of a cookie that Penstock sets, such as "lb"."""
    header: str | None = None
    """A request field, such as "X-Session": requests of one value go to one endpoint."""
    key: str | None = None
    """An expression that gives a text, such as 'client.ip': requests of one value go to one endpoint."""
    secret: SecretPlace | None = None
    """With `cookie`: what its values are made with, 16 bytes or more. Default: random, made when the process starts;
    several machines need the same."""
    table: str | None = None
    """An expression that gives a text, such as 'client.ip': whoever comes with a value is remembered with its endpoint,
    and goes there again, also when weights change."""
    ttl: Timeout = timedelta(minutes=30)
    """With `table`: how long a client is remembered after it was last seen. Default "30m"."""
    size: Annotated[Whole, Field(ge=1, le=10_000_000)] = 100_000
    """With `table`: clients that are remembered at once, up to 48 bytes each; with one more, the one that was not seen
    for longest is forgotten. Default 100000."""
