"""The rules of filters on what endpoints tell clients: where to go, which cookies to keep, to come over TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from penstock.config import texts

if TYPE_CHECKING:
    from penstock.config.document import KeyPath, Report
    from penstock.config.model import EditCookies, Hsts, MapLocation

YEAR = 365 * 86400
"""Seconds that browsers ask of a rule that they ship (hstspreload.org)."""


def check_map_location(key: KeyPath, entries: tuple[MapLocation, ...], fault: Report) -> None:
    """Each entry names two places, and no two the same one."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        place = (*key, index)
        fault((*place, "from"), _wrong_place(entry.from_, open_scheme=True))
        fault((*place, "to"), _wrong_place(entry.to, open_scheme=False))
        if (bare := entry.from_.rstrip("/")) in seen:
            fault((*place, "from"), f'"{entry.from_}" is written twice; the first that fits is taken')
        seen.add(bare)
        if bare == entry.to.rstrip("/"):
            fault(place, "from and to are the same place")


def check_edit_cookies(key: KeyPath, edit: EditCookies, fault: Report) -> None:
    """Something is edited, and browsers will keep what comes of it."""
    if edit.model_fields_set <= {"names"}:
        fault(key, "changes nothing; give at least one of domain, path, secure, http_only and same_site")
    for index, name in enumerate(edit.names):
        fault((*key, "names", index), texts.wrong_token(name, "the name of a cookie"))
    if edit.domain:
        fault((*key, "domain"), texts.wrong_host(edit.domain.removeprefix(".")))
    if edit.path is not None:
        for name, prefix in (("from", edit.path.from_), ("to", edit.path.to)):
            ends = 'a ";" would end the attribute' if ";" in prefix else None
            fault((*key, "path", name), texts.wrong_prefix(prefix, root=True) or ends)
    if edit.same_site == "none" and edit.secure is not True:
        fault((*key, "same_site"), 'browsers drop cookies with "none" that are not secure; add secure = true')


def check_hsts(key: KeyPath, hsts: Hsts, fault: Report) -> None:
    """What browsers ship holds for a year and below."""
    if hsts.preload and not (hsts.include_subdomains and hsts.max_age >= YEAR):
        fault((*key, "preload"), 'needs include_subdomains = true and a max_age of at least "365d"')


def _wrong_place(text: str, *, open_scheme: bool) -> str | None:
    """A path, or an address without a query."""
    if text.startswith("/") and not text.startswith("//"):
        return texts.wrong_path(text, "a place")
    neither = 'is neither a path as "/app" nor an address as "http://internal:8080/"'
    try:
        parts = urlsplit(text)
    except ValueError:
        return neither
    if parts.scheme not in ("http", "https") and not (open_scheme and text.startswith("//")):
        return neither
    if text.count("?") or text.count("#"):
        return "is a place, without ? and #"
    return texts.wrong_authority(parts.netloc) or (texts.wrong_path(parts.path, "a place") if parts.path else None)
