"""The rules of answers that routes give by themselves: fixed ones, redirects, and the templates in both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from penstock.config import texts
from penstock.config.expression import Piece, compile_template
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import Respond, Route

LONGEST_BODY = 1 << 20
"""Bytes of the body of a fixed answer."""

DEFAULT_TYPE = "text/plain; charset=utf-8"
"""The type of a body whose type is not given."""

# Where values are escaped: `Place::of_type` of the data plane.
_ESCAPED = re.compile(r"text/(?:plain|html|xml)|application/(?:json|xml)|[^/]+/[^/]+\+(?:json|xml)")
_OPEN_AUTHORITY = re.compile(r"[^/?#]*://[^/?#]*")
_IN_AUTHORITY = ({"value": "host"}, {"value": "port"}, {"value": {"lower": "host"}})


def check_respond(key: KeyPath, respond: Respond, fault: Report) -> None:
    """A fixed answer."""
    if respond.status in (204, 205, 304) and respond.body:
        fault(
            (*key, "body"), f"an answer with status {respond.status} has no body; leave it out or take another status"
        )
    if len(respond.body.encode(errors="replace")) > LONGEST_BODY:
        fault((*key, "body"), "is larger than 1 MB")
    names = [*respond.headers, *(["content-type"] if respond.content_type is not None else [])]
    if (twice := texts.repeated(names)) is not None:
        fault((*key, "headers"), f"{twice} is given twice")
    for name, value in respond.headers.items():
        fault((*key, "headers", name), texts.wrong_field_name(name, request=False, removing=False))
        fault((*key, "headers", name), texts.wrong_field_value(value))
        if respond.template and _has_values(value):
            of_type = "says how values are escaped, and cannot hold any" if name.lower() == "content-type" else None
            fault((*key, "headers", name), of_type or _wrong_template(value))
    if respond.content_type is not None:
        wrong = texts.wrong_field_value(respond.content_type)
        fault((*key, "content_type"), wrong or (None if "/" in respond.content_type else 'must be as "text/html"'))
    if respond.template:
        fault((*key, "body"), _wrong_template(respond.body) or _unescaped(respond))


def check_type_stays(route: Route, fault: Report) -> None:
    """Values in a body are escaped for its type: no filter gives it another one behind that."""
    if route.respond is None or not route.respond.template or not _has_values(route.respond.body):
        return
    for position, step in enumerate(route.filters):
        for name in ("set_response_header", "add_response_header", "remove_response_header"):
            if any(field.lower() == "content-type" for field in getattr(step, name) or ()):
                message = "Content-Type says how the values in the body are escaped; set it in respond"
                fault(("filters", position, name), message)


def wrong_target(to: str) -> str | None:
    """The target of a redirect: where it leads is not for the request to say, but for its host, path and query."""
    try:
        pieces = compile_template(to)
    except ExpressionError as error:
        return str(error)
    shown = ""
    for piece in pieces:
        if isinstance(piece, dict) and "text" in piece:
            shown += piece["text"]
            continue
        if _OPEN_AUTHORITY.fullmatch(shown) and piece not in (*_IN_AUTHORITY, {"value": "path"}, "marked_query"):
            return "only {host}, {port} and {path} can stand where the host does: anything else could lead elsewhere"
        shown += _sample(piece)
    if shown.startswith("//"):
        remedy = 'write "{path}" without a "/" before it' if len(pieces) > 1 else 'write "https:" before it'
        return f'would begin with "//", which leads to another host; {remedy}'
    return texts.wrong_location(shown)


def _sample(piece: Piece) -> str:
    """What a value may look like where it stands in a URL."""
    value = piece["value"] if isinstance(piece, dict) else piece
    samples = {"path": "/x", "scheme": "http", "host": "a.example", "port": "80", "marked_query": "?a=b"}
    return samples.get(value, "x") if isinstance(value, str) else "x"


def _unescaped(respond: Respond) -> str | None:
    """A type for which nobody knows how values are escaped."""
    given = next((value for name, value in respond.headers.items() if name.lower() == "content-type"), None)
    media = (respond.content_type or given or DEFAULT_TYPE).partition(";")[0].strip().lower()
    if not _has_values(respond.body) or _ESCAPED.fullmatch(media):
        return None
    return f'values cannot stand in a body of "{media}": only in text/plain, text/html, JSON and XML'


def _has_values(text: str) -> bool:
    try:
        return any(isinstance(piece, str) or "value" in piece for piece in compile_template(text))
    except ExpressionError:
        return True


def _wrong_template(text: str) -> str | None:
    try:
        compile_template(text)
    except ExpressionError as error:
        return str(error)
    return None
