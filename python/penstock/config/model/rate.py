"""How many of something may begin in a time."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from penstock.config.model.base import Model, Whole

_RATE = re.compile(r"([0-9]{1,10}) ?/ ?([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MOST = (1 << 32) - 1


def parse_rate(value: object) -> tuple[int, timedelta]:
    """Read `"10/s"` (per s, m, h or d): how many, and in what time. Raises `ValueError`."""
    if isinstance(value, tuple):
        value = write_rate(value)
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    if found is None or not 1 <= int(found[1]) <= _MOST:
        raise ValueError('a rate is a text with a number from 1 and a unit (s, m, h or d) such as "10/s" or "30/m"')
    return int(found[1]), timedelta(seconds=_UNITS[found[2]])


def write_rate(value: tuple[int, timedelta]) -> str:
    """What `parse_rate` reads as this rate."""
    count, per = value
    return f"{count}/{next((unit for unit, seconds in _UNITS.items() if per.total_seconds() == seconds), per)}"


class Rate(Model):
    """A rate. In a file, a bare text stands for `rate`."""

    rate: Annotated[
        tuple[int, timedelta],
        BeforeValidator(parse_rate),
        PlainSerializer(write_rate),
        WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,10} ?/ ?[smhd]$"}),
    ]
    """How many, evenly spread, in a second, minute, hour or day: "10/s", "30/m"."""
    burst: Annotated[Whole, Field(ge=1, le=_MOST)] | None = None
    """How many at once, if none came for a while. Default: the number of the rate."""


def rate_from_text(value: object) -> Any:
    """A bare text is the rate."""
    return value if isinstance(value, Mapping | Rate) or value is None else {"rate": value}
