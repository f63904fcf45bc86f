"""What only listeners of "forward" have: who may use them, and how the origins that clients name are treated."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from penstock.config.model.base import Duration, Flag, Model, parse_size
from penstock.config.model.rate import Rate, rate_from_text
from penstock.config.model.upstream import UpstreamLimits, UpstreamTimeouts

Told = Literal["on", "off", "transparent", "truncate", "delete"]
"""What is told of a client, in the words that Squid has for it."""


class OriginTls(Model):
    """How servers prove who they are that Penstock speaks TLS to. Nothing turns that off."""

    ca: Annotated[str, Field(min_length=1)] | None = None
    """File of the authorities whose certificates are believed, and no others. Default: those that this machine
    trusts."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken. Default "1.2"."""


class Origins(Model):
    """How the servers that clients name are treated, as endpoints of an upstream are."""

    timeouts: UpstreamTimeouts = UpstreamTimeouts.defaults()
    """How long one is waited for; `connect` counts from when its name is asked for."""
    limits: UpstreamLimits = UpstreamLimits.defaults()
    """How much one may answer; `connections`, `pending` and `requests` count over all of them together."""
    tls: OriginTls = OriginTls.defaults()
    """Whose certificates are believed, where a tunnel is opened, and where a client asks for an `https://` URL."""


class Interception(Model):
    """How tunnels are opened that a rule says so of: Penstock stands for the server, by certificates of its own."""

    authority: Annotated[str, Field(min_length=1)] | None = None
    """Folder of the authority that signs them; what is missing there is made at the first use. Relative paths are
    relative to the configuration file. Default: "interception" where Penstock keeps its state."""
    pinned: Duration = timedelta(hours=1)
    """How long the tunnels of a client to a host stay closed after it refused the certificate for that host, as clients
    that know the right one by heart do. "0s": they are opened again. Default "1h"."""


class Users(Model):
    """Clients that have a name and a password."""

    htpasswd: Annotated[str, Field(min_length=1)] | None = None
    """A file of names and hashes, as htpasswd writes it (bcrypt, argon2, SHA-crypt, {SHA}), relative to the
    configuration file. One that changes is read anew at once, without a reload. Or `addon`."""
    addon: str | None = None
    """In place of a file: an add-on, whose function `authenticate(user, password)` is asked."""
    realm: str = "penstock"
    """What clients show to whoever is to give a name and a password. Default "penstock"."""
    attempts: Annotated[Rate, BeforeValidator(rate_from_text, json_schema_input_type=str | Rate)] = (
        Rate.model_construct(rate=(20, timedelta(minutes=1)))
    )
    """Wrong passwords of one client address (of one /64 with IPv6), as "20/m"; of more, none is looked at. Default
    "20/m"."""


_DENY = Annotated[int, Field(ge=400, le=599)] | Literal["close"]


def _status_or_close(value: object) -> object:
    known = value is None or value == "close" or (isinstance(value, int) and not isinstance(value, bool))
    if not known or (isinstance(value, int) and not 400 <= value <= 599):
        raise ValueError('must be a status from 400 to 599, or "close"')
    return value


def _byte_rate(value: object) -> int:
    text = value.strip() if isinstance(value, str) else ""
    size, slash, second = text.rpartition("/")
    if not slash or second.strip() != "s":
        raise ValueError('a rate of bytes is a text such as "1MB/s"')
    rate = parse_size(size.rstrip())
    if not _LEAST_THROTTLE <= rate <= _MOST_THROTTLE:
        raise ValueError('a rate of bytes is from "1KB/s" to "1024GB/s"')
    return rate


_LEAST_THROTTLE, _MOST_THROTTLE = 1 << 10, 1 << 40
ByteRate = Annotated[
    int,
    BeforeValidator(_byte_rate),
    PlainSerializer(lambda rate: f"{rate}B/s"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,3})? ?([KkMmGg]?[Bb]) ?/ ?s$"}),
]
"""Bytes a second, as "1MB/s"."""


class Rule(Model):
    """What becomes of a request to a forward proxy. It has one of `allow`, `deny`, `intercept`, `tunnel`, `direct` and
    `parent`, or only `throttle`."""

    name: str | None = None
    """Shown to the client that is refused, in the log and in metrics. Default: `rule-1` for the first, and so on."""
    match: str | None = None
    """Which requests it takes; beside what is known of every request: `user`, `dest.host`, `dest.ip`, `dest.port`,
    `time.hour`, `time.weekday` and `response.content_type`, for which `allow` and `deny` alone can wait. Default:
    all."""
    allow: Flag = False
    """They go out."""
    deny: Annotated[int | str | None, BeforeValidator(_status_or_close, json_schema_input_type=_DENY)] = None
    """They are answered with this status, 400 to 599, or their connection is closed without a word ("close")."""
    intercept: Flag = False
    """They go out; a tunnel is opened, and what is asked for in it is judged by the rules, logged and captured as any
    other request."""
    tunnel: Flag = False
    """They go out; a tunnel is not opened."""
    direct: Flag = False
    """They go straight to their servers, whatever `parent` of the listener says."""
    parent: str | None = None
    """They go through this upstream, whose endpoints are proxies."""
    throttle: ByteRate | None = None
    """Bytes a second that go each way of one of them, as "1MB/s"; alone, or beside what lets them go out."""
