"""Exchanges of a listener that are kept to be looked at."""

from typing import Annotated

from pydantic import Field

from penstock.config.model.base import Flag, Model, Size


class Capture(Model):
    """Which exchanges are kept, how much of them, and where else they go."""

    match: str | None = None
    """Expression: which requests, as the client sent them; json[…] has no value here. Default: all."""
    bodies: Annotated[Size, Field(le=1 << 30)] = 64 << 10
    """Bytes of each body that are kept. Default "64KB"."""
    memory: Annotated[Size, Field(ge=1 << 20, le=1 << 40)] = 64 << 20
    """Memory for all of it, at least "1MB": the oldest exchanges make room for newer ones. Default "64MB"."""
    to: Annotated[str, Field(min_length=1)] | None = None
    """File that gets them, too, as an HTTP archive (HAR 1.2), relative to the configuration file. With `memory` bytes
    it is put aside as FILE.1. Default: none."""
    secrets: Flag = False
    """Whether credentials, cookies and tokens are kept as they are, instead of as REDACTED. Default false."""
