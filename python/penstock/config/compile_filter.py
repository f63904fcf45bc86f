"""Filters of routes, from the model to the Plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.config.model import Cors, EditCookies, Filter

Plan = dict[str, Any]
"""A part of a plan, in the shape of `crates/plan`."""


def compile_filter(step: Filter) -> Plan:
    """One step in the shape of the plan."""
    name, value = step.step()
    return {name: _FILTERS[name](value)}


def field_pairs(fields: dict[str, str]) -> list[list[str]]:
    """Fields as the plan has them: names in lower case."""
    return [[name.lower(), value] for name, value in fields.items()]


def _cors(cors: Cors) -> Plan:
    return {
        "origins": list(cors.origins),
        "methods": list(cors.methods),
        "headers": [field.lower() for field in cors.headers],
        "expose": [field.lower() for field in cors.expose],
        "credentials": cors.credentials,
        "max_age": cors.max_age,
    }


def _edit_cookies(edit: EditCookies) -> Plan:
    path = edit.path and {"from": _whole_segments(edit.path.from_), "to": _whole_segments(edit.path.to)}
    return {**dict(edit), "names": list(edit.names), "path": path}


def _lower(names: tuple[str, ...]) -> list[str]:
    return [name.lower() for name in names]


def _whole_segments(prefix: str) -> str:
    """The data plane puts prefixes together as they are, so none ends with a slash; the root is empty."""
    return prefix.rstrip("/")


_FILTERS: dict[str, Callable[[Any], Any]] = {
    "set_request_header": field_pairs,
    "add_request_header": field_pairs,
    "remove_request_header": _lower,
    "set_response_header": field_pairs,
    "add_response_header": field_pairs,
    "remove_response_header": _lower,
    "strip_prefix": _whole_segments,
    "add_prefix": _whole_segments,
    "replace_prefix": lambda change: {"from": _whole_segments(change.from_), "to": _whole_segments(change.to)},
    "rewrite_path": lambda rewrite: {"regex": rewrite.regex, "to": rewrite.to},
    "set_query": lambda parameters: [[name, value] for name, value in parameters.items()],
    "remove_query": list,
    "cors": _cors,
    "compress": lambda compress: {
        "codings": list(compress.codings),
        "least": compress.least,
        "types": [media.lower() for media in compress.types],
    },
    "map_location": lambda entries: [{"from": entry.from_, "to": entry.to} for entry in entries],
    "edit_cookies": _edit_cookies,
    "hsts": dict,
}
