"""Which values a compiled expression or key asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LITERALS = (
    "text",
    "number",
    "regex",
    "pattern",
    "prefixes",
    "suffixes",
    "networks",
    "list",
    "operator",
    "at",
    "constant",
)


def asked(part: Any) -> Iterator[str]:
    """Names of the values in a predicate or a key, as the plan has them: `host`, `client_ip`, `header`, `json`."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, list | tuple):
        for below in part:
            yield from asked(below)
    elif isinstance(part, dict):
        for name, below in part.items():
            if name == "field":
                yield from below
            elif name in ("json_is", "json_number"):
                yield "json"
            elif name == "in_networks":
                yield "client_ip"
            elif name in ("dest_in_networks", "dest_in_list"):
                yield "dest_ip"
            elif name == "set":
                continue
            elif name not in _LITERALS:
                yield from asked(below)
