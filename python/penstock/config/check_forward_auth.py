"""The rules of forward authentication: what can be asked, and what an answer can give to a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.config import texts

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import ForwardAuth


def check_forward_auth(key: KeyPath, auth: ForwardAuth, fault: Report) -> None:
    """What is asked is a path, and what is copied may be set by somebody else than Penstock."""
    path, _, query = auth.path.partition("?")
    fault((*key, "path"), texts.wrong_path(path, "the path") or _wrong_query(query))
    if (twice := texts.repeated(auth.copy_headers)) is not None:
        fault((*key, "copy_headers"), f"{twice} is given twice; capitals make no difference")
    for index, name in enumerate(auth.copy_headers):
        wrong = texts.wrong_field_name(name, request=True, removing=True)
        dropped = f'{name} has a "_": fields with one are dropped from requests' if "_" in name else None
        fault((*key, "copy_headers", index), wrong or dropped)


def _wrong_query(query: str) -> str | None:
    if any(not "!" <= character <= "~" or character in '"#<>\\' for character in query):
        return "the query holds only what a URL's query may hold: write other characters as %XX"
    return None
