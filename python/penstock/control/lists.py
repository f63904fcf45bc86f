"""Lists from elsewhere: fetched into files, which the data plane reads as it reads all others.

What was fetched stays, also over a restart, until something better is there: a body that cannot be fetched whole, is
too large or has no entry of the list's kind changes nothing but the status. A fetch asks whether there is something
new (ETag, Last-Modified). Nothing here is on the path of a request.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.config import fetched_file
from penstock.errors import EngineError, message_of
from penstock.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from http.client import HTTPResponse

    from penstock.config import Loaded
    from penstock.config.model import List
    from penstock.engine import Rules

FIRST = 20.0
"""Seconds that a change waits for lists which were never fetched; what is not there by then comes later."""
SILENCE = 15.0
"""Seconds that a server may say nothing."""
WHOLE = 600.0
"""Seconds that one fetch may take."""
AGAIN = 30.0
"""Seconds until a failed fetch is tried again; twice as long each time, up to the list's `refresh`."""
_PIECE = 1 << 16

log = logging.getLogger("penstock")


class _NotFetchedError(Exception):
    """Why not, as a sentence."""


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
        self._opener = urllib.request.build_opener(_OnlyHttp())
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
        file = fetched_file(one.url)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        request = urllib.request.Request(one.url, headers=_conditions(file))  # noqa: S310 - http or https, as was checked
        timeout = max(0.1, min(SILENCE, until - time.monotonic()))
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                self._keep(one, file, answer, until)
        except urllib.error.HTTPError as error:
            if error.code != HTTPStatus.NOT_MODIFIED:
                raise _NotFetchedError(f"the server answered {error.code}") from None
            os.utime(file)
        except urllib.error.URLError as error:
            raise _NotFetchedError(str(error.reason)) from None

    def _keep(self, one: _Fetch, file: Path, answer: HTTPResponse, until: float) -> None:
        """Put a body in the place of the one before, if it is a list."""
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with open(descriptor, "wb") as to:
                self._copy(one, answer, to, until)
            source = {"path": name, "url": None}
            kind, most = one.model.kind, one.model.max_size
            found = self._rules.read_list(
                {"name": one.list, "kind": kind, "sources": [source], "refresh": 1000, "max_size": most}
            )
            if not found.entries:
                raise _NotFetchedError("there are no entries in it")
            Path(name).replace(file)
        except EngineError as error:
            raise _NotFetchedError(str(error).replace(name, one.url)) from None
        finally:
            Path(name).unlink(missing_ok=True)
        marks = {header: answer.headers[header] for header in ("ETag", "Last-Modified") if answer.headers[header]}
        _marks(file).write_text(json.dumps(marks), "utf-8")

    @staticmethod
    def _copy(one: _Fetch, answer: HTTPResponse, to: Any, until: float) -> None:
        left = one.model.max_size
        while piece := answer.read1(_PIECE):
            left -= len(piece)
            if left < 0:
                raise _NotFetchedError(f"it is more than max_size, {one.model.max_size} bytes")
            if time.monotonic() > until:
                raise _NotFetchedError("it does not come to its end")
            to.write(piece)
        if answer.length:
            raise _NotFetchedError("it was cut short")


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    """A redirect leads to no other kind of place, and not from https to http."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - the signature of the base
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if not newurl.startswith(("https://", "http://") if req.type == "http" else "https://"):
            raise _NotFetchedError(f"the server sends to another kind of place: {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def overlaid(rows: Iterable[Mapping[str, Any]], fetches: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the data plane says of lists, with what is known of fetching them."""
    return [{**row, "fetches": fetches.get(row["name"], [])} for row in rows]


def _conditions(file: Path) -> dict[str, str]:
    """The fields of a request for a file that is there already, if it is."""
    fields = {"User-Agent": f"penstock/{__version__}"}
    if file.exists():
        with contextlib.suppress(OSError, ValueError):
            marks = json.loads(_marks(file).read_text("utf-8"))
            names = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
            fields |= {names[name]: str(value) for name, value in marks.items() if name in names}
    return fields


def _marks(file: Path) -> Path:
    """Beside the file: what its server said of it."""
    return file.with_suffix(".json")


def _modified(file: Path) -> float | None:
    try:
        return file.stat().st_mtime
    except OSError:
        return None
