"""What the log says of a hook that raised or returned what it may not.

One line names the add-on, the function, the place in its code and the error; at most one a second for each hook, with
the number of those that were left out. A message may hold what the request holds: the words of its path, its query and
its header fields are put out of sight, as they were told to the hook and as it left them, because a log is read by
people who may not see a client's secrets. What a hook makes of a word (a part, what it decodes to) is not recognised.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING

from penstock.addons.message import AUTHENTICATE, read_call, read_login
from penstock.errors import message_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.addons.load import Loading
    from penstock.addons.message import Request, Response
    from penstock.addons.runner import Call

EVERY = 1.0
"""Seconds between two lines of one hook."""
LONGEST = 200
"""Characters of an error's message."""
_HERE = Path(__file__).parent
_WORD = re.compile(r"[^\s,;=&/?\"'()<>\[\]{}]{4,}")
_LAST_WORD = re.compile(r"[^\s,;=&/?\"'()<>\[\]{}]*$")

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

    def tell(self, call: Call, error: BaseException, request: Request | None, response: Response | None = None) -> None:
        """Write a line, unless the hook has had one within the second. `request` and `response` are as it left them."""
        hook = call.hook
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
        words = _words(request, response)
        # A hook may drop a field before it raises. What cannot be read has told the hook nothing.
        with suppress(Exception):
            words |= _told(call)
        message = f"{type(error).__name__}: {_without(message_of(error), words)}".rstrip(": ")
        log.error("add-on %s: %s: %s", self._loading.name, hook, message, extra={"fields": fields})

    def _place(self, error: BaseException) -> str | None:
        """The line of the add-on's own code that the error came through last; none for what was wrong when it ended."""
        frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
        own = [frame for frame in frames if frame[0] == self._loading.file]
        own = own or [frame for frame in frames if Path(frame[0]).parent != _HERE]
        return f"{Path(own[-1][0]).name}:{own[-1][1]}" if own else None


def _told(call: Call) -> set[str]:
    """What a hook was told and may be a secret: of a login, however short, all of it."""
    if call.hook != AUTHENTICATE:
        return _words(*read_call(call.document))
    login = read_login(call.document)
    return {word for text in login for word in (text, *_WORD.findall(text)) if word}


def _words(request: Request | None, response: Response | None) -> set[str]:
    """What stands in a request and its response and may be a secret."""
    texts: list[str] = []
    if request:
        texts += (request.path, request.query or "", *(value for _, value in request.headers.items()))
    if response:
        texts += (value for _, value in response.headers.items())
    return {word for text in texts for word in _WORD.findall(text)}


def _without(message: str, words: set[str]) -> str:
    """A message cut short, with `…` for each of these words."""
    message = message.partition("\n")[0]
    if len(message) > LONGEST * 4:
        # Of a word that is cut nothing may stay: it would not be recognised.
        message = _LAST_WORD.sub("", message[: LONGEST * 4]) + "…"
    for word in sorted(words, key=len, reverse=True):
        message = message.replace(word, "…")
    return message if len(message) <= LONGEST else message[:LONGEST] + "…"
