"""Filters: steps on a request and its response, run in the order written."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from penstock.config.model.base import Flag, Model, Size, Whole, parse_duration


class ReplacePrefix(Model):
    """One path prefix for another."""

    from_: str = Field(alias="from")
    """Whole-segment prefix that is taken off. Begins with "/"."""
    to: str
    """What is put in its place. Begins with "/"."""


class RewritePath(Model):
    """A replacement in the path by a regular expression."""

    regex: str
    """Every match in the path is replaced. Syntax of Rust's regex crate: linear time, no look-around."""
    to: str
    """The replacement; `$1` and `${name}` stand for groups."""


def _seconds(value: object) -> Any:
    if not isinstance(value, str):
        return value
    seconds = parse_duration(value).total_seconds()
    if not seconds.is_integer():
        # Rounded down, less than a second would be 0, which ends what browsers keep.
        raise ValueError(f'is told to browsers in whole seconds, as "1s"; "{value}" is none')
    return int(seconds)


class Cors(Model):
    """Cross-origin resource sharing as the Fetch standard has it: preflights are answered, responses get their
    fields."""

    origins: tuple[str, ...] = ("*",)
    """Allowed origins such as "https://shop.example"; "*" alone allows any. Default ["*"]."""
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    """Allowed methods. Default GET, HEAD, POST, PUT, PATCH and DELETE."""
    headers: tuple[str, ...] = ()
    """Request fields that a page may set. Default: those that the preflight asks for."""
    expose: tuple[str, ...] = ()
    """Response fields that a page may read. Default: none beyond what browsers always show."""
    credentials: Flag = False
    """Whether cookies and authorization may be sent; never together with origin "*". Default false."""
    max_age: Annotated[
        Whole,
        Field(ge=0, le=86400),
        BeforeValidator(_seconds, json_schema_input_type=Annotated[int, Field(ge=0)] | str),
    ] = 600
    """How long a browser may keep a preflight's answer: seconds, or a duration such as "10m". Default 600."""


Coding = Literal["gzip", "br", "zstd"]
"""A content coding."""

COMPRESSED_TYPES = (
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/manifest+json",
    "application/problem+json",
    "application/ld+json",
    "application/wasm",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "image/svg+xml",
    "image/bmp",
)
"""Media types that gain from a content coding."""


class Compress(Model):
    """Responses in a content coding that the client takes. What is coded already, a part, or marked `no-transform`
    stays as it is."""

    codings: Annotated[tuple[Coding, ...], Field(min_length=1)] = ("zstd", "br", "gzip")
    """The codings on offer; of those that the client likes alike, the first is taken. Default zstd, br, gzip."""
    least: Annotated[Size, Field(le=(1 << 63) - 1)] = 1 << 10
    """Bodies known to be shorter stay as they are. Default "1KB"."""
    types: tuple[str, ...] = COMPRESSED_TYPES
    """Media types that are compressed; "text/*" stands for all of a kind. Default: text, JSON, JavaScript, XML, SVG,
    WebAssembly and uncompressed fonts."""


class MapLocation(Model):
    """One place for another."""

    from_: str = Field(alias="from")
    """What the endpoint calls the place: an address as "http://internal:8080/", or a path of the site that was asked
    for, as "/"."""
    to: str
    """What clients call it: a path as "/app/", or an address of http:// or https://."""


def _listed(value: object) -> Any:
    return (value,) if isinstance(value, Mapping | MapLocation) else value


class EditCookies(Model):
    """Attributes of the cookies that endpoints set. What is not given stays as the endpoint set it."""

    names: tuple[str, ...] = ()
    """The cookies that are meant. Default: all."""
    domain: str | None = None
    """The Domain; "" takes it away, so that the cookie is for the host alone."""
    path: ReplacePrefix | None = None
    """One whole-segment prefix for another in Path: { from = "/", to = "/app" }."""
    secure: Flag | None = None
    """Whether there is Secure."""
    http_only: Flag | None = None
    """Whether there is HttpOnly."""
    same_site: Literal["strict", "lax", "none"] | None = None
    """SameSite: "strict", "lax" or "none"; "none" needs secure = true."""


class Hsts(Model):
    """Strict-Transport-Security, for clients that came over TLS. In a file, a bare duration stands for `max_age`."""

    max_age: Annotated[
        Whole,
        Field(ge=0, le=10 * 365 * 86400),
        BeforeValidator(_seconds, json_schema_input_type=Annotated[int, Field(ge=0)] | str),
    ]
    """How long browsers come over TLS alone: a duration such as "365d", or seconds; 0 ends it."""
    include_subdomains: Flag = False
    """Whether hosts below this one are meant, too. Default false."""
    preload: Flag = False
    """Whether browsers may ship the rule; needs include_subdomains and a year. Default false."""
    replace: Flag = False
    """Whether it goes before what the endpoint says. Default false."""


def _from_age(value: object) -> Any:
    return {"max_age": value} if isinstance(value, str | int) else value


class Filter(Model):
    """One step. Exactly one key is given."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    set_request_header: dict[str, str] | None = None
    """Request fields to set: each replaces every field of its name."""
    add_request_header: dict[str, str] | None = None
    """Request fields to append; fields of the same name stay."""
    remove_request_header: tuple[str, ...] | None = None
    """Names of request fields to drop."""
    set_response_header: dict[str, str] | None = None
    """Response fields to set: each replaces every field of its name."""
    add_response_header: dict[str, str] | None = None
    """Response fields to append; fields of the same name stay."""
    remove_response_header: tuple[str, ...] | None = None
    """Names of response fields to drop."""
    strip_prefix: str | None = None
    """Whole-segment prefix to take off the path: "/api" turns /api/x into /x and leaves /apix."""
    add_prefix: str | None = None
    """Prefix to put before the path."""
    replace_prefix: ReplacePrefix | None = None
    """Whole-segment prefix to put in place of another: { from = "/v1", to = "/api/v1" }."""
    rewrite_path: RewritePath | None = None
    """Replacement in the path by a regular expression: { regex = "^/user/([0-9]+)$", to = "/users/$1" }."""
    set_query: dict[str, str] | None = None
    """Query parameters to set: each replaces the parameter of its name or is appended."""
    remove_query: tuple[str, ...] | None = None
    """Names of query parameters to drop."""
    cors: Cors | None = None
    """Cross-origin resource sharing."""
    compress: Compress | None = None
    """Responses in a content coding (gzip, br, zstd) that the client takes: { } for the defaults."""
    map_location: (
        Annotated[
            tuple[MapLocation, ...],
            BeforeValidator(_listed, json_schema_input_type=MapLocation | tuple[MapLocation, ...]),
            Field(min_length=1),
        ]
        | None
    ) = None
    """Where endpoints send clients, in the clients' terms: { from = "http://internal:8080/", to = "/app/" } or a list,
    of which the first that fits is taken."""
    edit_cookies: EditCookies | None = None
    """Attributes of the cookies that endpoints set: { secure = true, path = { from = "/", to = "/app" } }."""
    hsts: Annotated[Hsts | None, BeforeValidator(_from_age, json_schema_input_type=int | str | Hsts)] = None
    """Strict-Transport-Security, on what clients asked for over TLS: "365d", or a table."""

    def step(self) -> tuple[str, Any]:
        """The one key that is given, with its value. Raises `ValueError` unless there is exactly one."""
        given = [(name, value) for name in self.__pydantic_fields_set__ if (value := self.__dict__[name]) is not None]
        if len(given) != 1:
            raise ValueError("a filter has exactly one key")
        return given[0]
