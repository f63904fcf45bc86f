"""One fetch of a list: its body comes into a file, if it is whole and a list.

Used on the threads of `lists.py` alone."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.config import fetched_file
from penstock.errors import EngineError
from penstock.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPResponse

    from penstock.config.model import List

SILENCE = 15.0
"""Seconds that a server may say nothing."""
_PIECE = 1 << 16


class NotFetchedError(Exception):
    """Why not, as a sentence."""


def fetch(url: str, until: float, model: List, entries: Callable[[str], int]) -> None:
    """Bring the file of `url` up to date, by `until` on the monotonic clock. `entries` says how many a file has that
    would be the list's, or raises `EngineError`. Raises `NotFetchedError`, or what else went wrong, and has changed
    nothing then."""
    file = fetched_file(url)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    request = urllib.request.Request(url, headers=_conditions(file))  # noqa: S310 - http or https, as was checked
    timeout = max(0.1, min(SILENCE, until - time.monotonic()))
    try:
        with urllib.request.build_opener(_OnlyHttp()).open(request, timeout=timeout) as answer:
            _keep(url, file, answer, lambda to: _copy(model.max_size, answer, to, until), entries)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.NOT_MODIFIED:
            raise NotFetchedError(f"the server answered {error.code}") from None
        os.utime(file)
    except urllib.error.URLError as error:
        raise NotFetchedError(str(error.reason)) from None


def _keep(
    url: str, file: Path, answer: HTTPResponse, copy: Callable[[Any], None], entries: Callable[[str], int]
) -> None:
    """Put a body in the place of the one before, if it is a list."""
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(descriptor, "wb") as to:
            copy(to)
        if not entries(name):
            raise NotFetchedError("there are no entries in it")
        Path(name).replace(file)
    except EngineError as error:
        raise NotFetchedError(str(error).replace(name, url)) from None
    finally:
        Path(name).unlink(missing_ok=True)
    marks = {header: answer.headers[header] for header in ("ETag", "Last-Modified") if answer.headers[header]}
    _marks(file).write_text(json.dumps(marks), "utf-8")


def _copy(left: int, answer: HTTPResponse, to: Any, until: float) -> None:
    most = left
    while piece := answer.read1(_PIECE):
        left -= len(piece)
        if left < 0:
            raise NotFetchedError(f"it is more than max_size, {most} bytes")
        if time.monotonic() > until:
            raise NotFetchedError("it does not come to its end")
        to.write(piece)
    if answer.length:
        raise NotFetchedError("it was cut short")


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    """A redirect leads to no other kind of place, and not from https to http."""

    def redirect_request(  # noqa: PLR0913, PLR0917 - the signature of the base
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if not newurl.startswith(("https://", "http://") if req.type == "http" else "https://"):
            raise NotFetchedError(f"the server sends to another kind of place: {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


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
