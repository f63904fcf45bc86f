"""Lists from elsewhere: fetched into files, which the data plane reads as it reads all others.

What was fetched stays, also over a restart, until something better is there: a body that cannot be fetched whole, is
too large or has no entry of the list's kind changes nothing but the status. A fetch asks whether there is something
new (ETag, Last-Modified). Nothing here is on the path of a request.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.config import fetched_file
from penstock.errors import message_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from penstock.config import Loaded
    from penstock.config.model import List
    from penstock.engine import Rules

FIRST = 20.0
"""Seconds that a change waits for lists which were never fetched; what is not there by then comes later."""
WHOLE = 600.0
"""Seconds that one fetch may take."""
AGAIN = 30.0
"""Seconds until a failed fetch is tried again; twice as long each time, up to the list's `refresh`."""

log = logging.getLogger("penstock")


@dataclass(slots=True)
class _Fetch:
    """One address of one list."""

    list: str
    url: str
    model: List
    due: float
    """When it is fetched next, in seconds since the epoch."""
    fetched: float | None
    """When it was fetched or found unchanged."""
    failures: int = 0
    in_a_row: int = 0
    trouble: str | None = None
    told: str | None = field(default=None, repr=False)

    @property
    def refresh(self) -> float:
        return self.model.refresh.total_seconds()


class ListFetcher:
    """Fetches the lists of the running configuration, one after the other, on a thread that there is while any has an
    address."""

    def __init__(self, rules: Rules) -> None:
        """Fetch nothing yet; `rules` says whether what was fetched is a list."""
        self._rules = rules
        self._fetches: dict[tuple[str, str], _Fetch] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def counts(self) -> dict[str, list[dict[str, Any]]]:
        """Of each list with addresses: for each, when it was fetched, how often that failed, and why it did last."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for one in tuple(self._fetches.values()):
            row = {"url": one.url, "fetched": one.fetched, "failures": one.failures, "trouble": one.trouble}
            rows.setdefault(one.list, []).append(row)
        return rows

    def fetch_missing(self, loaded: Loaded) -> None:
        """Fetch what was never fetched, for a while: a configuration is not refused because a server is down."""
        until = time.monotonic() + FIRST
        for one in self._wanted(loaded).values():
            left = until - time.monotonic()
            if one.fetched is None and left > 0 and not fetched_file(one.url).exists():
                self._try(one, left)

    def run(self, loaded: Loaded) -> None:
        """Fetch these from now on, and no others: the configuration that names them runs."""
        with self._changed:
            self._fetches = self._wanted(loaded)
            self._changed.notify()
            if self._fetches and self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._follow, name="penstock-lists", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Fetch nothing any more. A fetch under way is left behind on its daemon thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def _wanted(self, loaded: Loaded) -> dict[tuple[str, str], _Fetch]:
        """What a configuration has fetched; what is fetched already keeps its place in time."""
        wanted = {}
        for name, model in loaded.config.lists.items():
            for url in model.url:
                known = self._fetches.get((name, url))
                if known is None or known.model != model:
                    fetched = _modified(fetched_file(url))
                    known = _Fetch(name, url, model, (fetched or 0) + model.refresh.total_seconds(), fetched)
                    if fetched is None:
                        known.due = time.time()
                wanted[name, url] = known
        return wanted

    def _follow(self) -> None:
        while True:
            with self._changed:
                if self._stopped:
                    return
                one = min(self._fetches.values(), key=lambda one: one.due, default=None)
                wait = None if one is None else one.due - time.time()
                if one is None or (wait is not None and wait > 0):
                    self._changed.wait(wait)
                    continue
            self._try(one, WHOLE)

    def _try(self, one: _Fetch, patience: float) -> None:
        """Fetch once, and note what came of it."""
        try:
            self._fetch(one, time.monotonic() + patience)
        except Exception as error:  # whatever it is, the list stays as it is and the next fetch may go well
            one.failures += 1
            one.due = time.time() + min(one.refresh, AGAIN * 2 ** min(one.in_a_row, 20))
            one.in_a_row += 1
            one.trouble = message_of(error)
            if one.trouble != one.told:
                log.warning(
                    "list %s: %s was not fetched, what it had before goes on: %s", one.list, one.url, one.trouble
                )
            one.told = one.trouble
            return
        if one.told is not None:
            log.info("list %s: %s is fetched again", one.list, one.url)
        one.fetched = time.time()
        one.due = one.fetched + one.refresh
        one.in_a_row, one.trouble, one.told = 0, None, None

    def _fetch(self, one: _Fetch, until: float) -> None:
        from penstock.control.fetch import fetch  # noqa: PLC0415 - HTTP and TLS are slow to import, and few lists have addresses

        fetch(one.url, until, one.model, lambda path: self._entries(one, path))

    def _entries(self, one: _Fetch, path: str) -> int:
        """How many entries a file has that would be this list's. Raises `EngineError` for what is no list."""
        source = {"path": path, "url": None}
        kind, most = one.model.kind, one.model.max_size
        found = self._rules.read_list(
            {"name": one.list, "kind": kind, "sources": [source], "refresh": 1000, "max_size": most}
        )
        return found.entries


def overlaid(rows: Iterable[Mapping[str, Any]], fetches: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the data plane says of lists, with what is known of fetching them."""
    return [{**row, "fetches": fetches.get(row["name"], [])} for row in rows]


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
