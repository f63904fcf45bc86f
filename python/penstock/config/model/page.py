"""Error pages: what stands in place of Penstock's own words for a failure."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from penstock.config.model.base import Flag, Model


class ErrorPage(Model):
    """One page. `{status}`, `{reason}` and `{request_id}` in it are replaced; other braces are only braces. Exactly one
    of `file` and `text` is given."""

    file: str | None = None
    """Path of a UTF-8 file of at most 1 MB, relative to the configuration file; read when the configuration is
    loaded."""
    text: str | None = None
    """The page itself."""
    content_type: str | None = None
    """The Content-Type. Default: that of the file's name (.html, .htm, .json, .txt, .xml), "text/html; charset=utf-8"
    for a text."""
    endpoint: Flag = False
    """Whether it also stands in for an endpoint's answer of this status. Default false: only for failures that
    Penstock answers."""


def _pages(value: object) -> Any:
    """`{503: "down.html"}` as `{"503": [{"file": "down.html"}]}`; a status may be a number where the file's form has
    such keys."""
    if not isinstance(value, Mapping):
        return value
    named = {str(status) if type(status) is int else status: _list(pages) for status, pages in value.items()}
    if len(named) < len(value):
        twice = next(status for status in value if type(status) is int and str(status) in value)
        raise ValueError(f'{twice} is written twice, as {twice} and as "{twice}"; several pages are a list')
    return named


def _list(pages: object) -> Any:
    listed = pages if isinstance(pages, list | tuple) else (pages,)
    return tuple({"file": page} if isinstance(page, str) else page for page in listed)


ErrorPages = Annotated[
    dict[str, tuple[ErrorPage, ...]],
    BeforeValidator(_pages, json_schema_input_type=dict[str, str | ErrorPage | tuple[str | ErrorPage, ...]]),
]
"""Pages by status."""
