"""The rules of error pages. No file is opened here: the data plane reads them when it builds the plan."""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from penstock.config import texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.config.document import KeyPath, Loaded, Report
    from penstock.config.model import ErrorPage

LONGEST_PAGE = 1 << 20
"""Bytes of one page."""

_STATUS = re.compile(r"[45](?:[0-9]{2}|xx)", re.ASCII)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".htm": "text/html; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".xml": "application/xml",
}


def check_pages(key: KeyPath, pages: Mapping[str, tuple[ErrorPage, ...]], fault: Report) -> None:
    """Error pages of one place."""
    for status, each in pages.items():
        place: KeyPath = (*key, status)
        if not _STATUS.fullmatch(status):
            fault(place, 'is no status of a failure; write 400 to 599, or "4xx" or "5xx" for all of a kind')
        if not each:
            fault(place, "is empty; give a page")
        for page in each:
            _page(place, page, fault)


def page_files(loaded: Loaded) -> set[Path]:
    """The files of all error pages of a configuration."""
    config = loaded.config
    listeners = (listener.error_pages for listener in config.listeners.values())
    places = (config.error_pages, *listeners, *(route.error_pages for _, route in loaded.special_routes))
    pages = (page for place in places for each in place.values() for page in each)
    return {loaded.folder / page.file for page in pages if page.file}


def page_type(page: ErrorPage) -> str | None:
    """The Content-Type of a page; `None` where nothing tells."""
    if page.content_type is not None or page.file is None:
        return page.content_type or _TYPES[".html"]
    return _TYPES.get(PurePath(page.file).suffix.lower())


def _page(key: KeyPath, page: ErrorPage, fault: Report) -> None:
    if (page.file is None) == (page.text is None):
        fault(key, "a page has exactly one of file and text")
    if page.text is not None and len(page.text.encode(errors="replace")) > LONGEST_PAGE:
        fault(key, "is larger than 1 MB")
    if page.file is not None and (not page.file or "\0" in page.file):
        fault(key, "file is no path")
    if page.content_type is not None:
        wrong = texts.wrong_field_value(page.content_type)
        fault(key, wrong or (None if "/" in page.content_type else 'content_type must be as "text/html"'))
    elif page_type(page) is None:
        fault(key, f"the name of the file does not tell its type; give content_type (known: {', '.join(_TYPES)})")
