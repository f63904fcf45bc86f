"""What every model shares, and the types of values with units."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Self, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, Strict, WithJsonSchema


class Model(BaseModel):
    """A part of a configuration: unknown keys are refused, values do not change."""

    # Built at the first use, which builds all in one: half the time that starting would take. For the same reason it
    # is schema.py that reads the docstrings of fields, not pydantic at each start. What was given is left out of
    # pydantic's own messages: it may hold a secret in the wrong place.
    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, populate_by_name=True, hide_input_in_errors=True
    )

    @classmethod
    def defaults(cls) -> Self:
        """The value of a table that is not written. It needs no validator, so that none is built for it alone."""
        return cast("Self", cls.model_construct())  # mypy's plugin holds it to be of the class here


LONGEST = timedelta(days=365)
"""The longest duration that can be written: longer ones are a mistake in the unit."""

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
_QUANTITY = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,3}))? ?([A-Za-z]*)", re.ASCII)


def parse_duration(value: object) -> timedelta:
    """Read `"5s"`, `"100ms"`, `"1.5h"` (units ms, s, m, h, d) or take a `timedelta`. Raises `ValueError`."""
    if isinstance(value, timedelta):
        duration = value
    else:
        what = 'a duration is a text with a unit (ms, s, m, h or d) such as "5s" or "100ms"'
        found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
        if found is None or found[3] not in _MILLISECONDS:
            raise ValueError(f"{what}, not {_shown(value)}")
        duration = timedelta(milliseconds=round(_number(found) * _MILLISECONDS[found[3]]))
    if not timedelta(0) <= duration <= LONGEST:
        raise ValueError("a duration is from 0 to 365 days")
    return duration


def parse_size(value: object) -> int:
    """Read `"64KB"` (units B, KB, MB, GB, each 1024 of the one before) or take bytes. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or found[3].upper() not in _BYTES:
        raise ValueError(
            f'a size is bytes as a number or a text with a unit (B, KB, MB or GB) such as "64KB", not {_shown(value)}'
        )
    return round(_number(found) * _BYTES[found[3].upper()])


def write_duration(value: timedelta) -> str:
    """The shortest text that `parse_duration` reads as this duration."""
    milliseconds = round(value / timedelta(milliseconds=1))
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % _MILLISECONDS[unit] == 0:
            return f"{milliseconds // _MILLISECONDS[unit]}{unit}"
    return f"{milliseconds}ms"


def _number(found: re.Match[str]) -> float:
    return float(f"{found[1]}.{found[2] or 0}")


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | bool) and len(repr(value)) < 60 else "this"


def _positive(value: timedelta) -> timedelta:
    if value < timedelta(milliseconds=1):
        raise ValueError("must be at least 1ms")
    return value


_DURATION_SCHEMA = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,3})? ?(ms|s|m|h|d)$"}
SIZE_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,3})? ?([KkMmGg]?[Bb])$"},
        {"type": "integer", "minimum": 0},
    ]
}

Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), PlainSerializer(write_duration), WithJsonSchema(_DURATION_SCHEMA)
]
"""A length of time that may be 0."""

Timeout = Annotated[
    timedelta,
    BeforeValidator(lambda value: _positive(parse_duration(value))),
    PlainSerializer(write_duration),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""A length of time of at least a millisecond."""

Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)]
"""A number of bytes."""

# A field of a head, the head itself and a target are u32 in the plan; 16 MB is far beyond what any peer sends.
HeadSize = Annotated[int, Field(ge=256, le=16 << 20), BeforeValidator(parse_size), WithJsonSchema(SIZE_SCHEMA)]
"""The largest head that is read, 256 bytes to 16 MB."""

Whole = Annotated[int, Strict()]
"""A whole number, written as a number."""

Flag = Annotated[bool, Strict()]
"""true or false."""
