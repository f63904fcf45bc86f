"""What the log says of a hook that raised or returned what it may not.

One line names the add-on, the function, the place in its code and the error; at most one a second for each hook, with
the number of those that were left out. A message may hold what the request holds: every word of the request is put
out of sight, because a log is read by people who may not see a client's secrets.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.addons.load import Loading
    from penstock.addons.message import Request, Response

EVERY = 1.0
"""Seconds between two lines of one hook."""
LONGEST = 200
"""Characters of an error's message."""
_HERE = Path(__file__).parent
_WORD = re.compile(r"[^\s,;=&/?\"'()<>\[\]{}]{4,}")

log = logging.getLogger("penstock")


class Trouble:
    """Writes what goes wrong in one add-on. Every method may be called from any thread."""

    def __init__(self, loading: Loading, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is wrong yet."""
        self._loading = loading
        self._clock = clock
        self._guard = threading.Lock()
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def tell(self, hook: str, error: BaseException, request: Request | None, response: Response | None = None) -> None:
        """Write a line, unless the hook has had one within the second."""
        with self._guard:
            now = self._clock()
            if now - self._told.get(hook, -EVERY) < EVERY:
                self._untold[hook] = self._untold.get(hook, 0) + 1
                return
            self._told[hook], untold = now, self._untold.pop(hook, 0)
        fields: dict[str, object] = {"kind": "addon_failed", "addon": self._loading.name, "hook": hook}
        if place := self._place(error):
            fields["place"] = place
        if untold:
            fields["more"] = untold
        if request:
            fields["request_id"] = request.id
        message = f"{type(error).__name__}: {_without(str(error), request, response)}".rstrip(": ")
        log.error("add-on %s: %s: %s", self._loading.name, hook, message, extra={"fields": fields})

    def _place(self, error: BaseException) -> str | None:
        """The line of the add-on's own code that the error came through last; none for what was wrong when it ended."""
        frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
        own = [frame for frame in frames if frame[0] == self._loading.file]
        own = own or [frame for frame in frames if Path(frame[0]).parent != _HERE]
        return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else None


def _without(message: str, request: Request | None, response: Response | None) -> str:
    """A message cut short, with `…` for each word that the request or its response has too."""
    message = message[: LONGEST * 4].partition("\n")[0]
    words: set[str] = set()
    if request:
        for text in (request.path, request.query or "", *(value for _, value in request.headers.items())):
            words.update(_WORD.findall(text))
    if response:
        for _, value in response.headers.items():
            words.update(_WORD.findall(value))
    for word in sorted(words, key=len, reverse=True):
        message = message.replace(word, "…")
    return message if len(message) <= LONGEST else message[:LONGEST] + "…"
