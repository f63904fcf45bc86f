"""Add-ons: Python code that is asked on the way of requests whose route names it."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, WithJsonSchema

from penstock.config.model.base import Model, Timeout, Whole


class Addon(Model):
    """A module, or an object in one, that defines functions named after the place where they are asked (hooks)."""

    module: Annotated[Any, WithJsonSchema({"type": "string"}), PlainSerializer(repr, when_used="unless-none")]
    """"auth.py" (relative to the configuration file), "package.module", or with the name of an object in it
    "auth.py:checker". A Python program may give the module or the object itself."""
    timeout: Timeout = timedelta(milliseconds=100)
    """How long a request waits for one call. Default "100ms"."""
    on_failure: Literal["deny", "allow"] = "deny"
    """What becomes of a request whose call raises, is late or finds no room: "deny" refuses it (500 or 503), "allow"
    lets it go on as if the add-on were not named. Default "deny"."""
    concurrency: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    """Calls that run at once: threads for functions, tasks for coroutines. Default: 8, or 256 where every hook is
    async."""
    queue: Annotated[Whole, Field(ge=0, le=100_000)] = 256
    """Calls that wait for their turn beyond those; one more fails at once. Default 256."""
