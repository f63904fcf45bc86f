"""Takes what happens in the data plane and gives it on, from a thread of its own."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.engine import DataPlane, Event

WAIT = 0.25
"""Seconds that one call into the data plane waits; also how long `stop` may have to wait."""

log = logging.getLogger("penstock")


class EventPump:
    """Calls `give` with each event of `engine`, in order."""

    def __init__(self, engine: DataPlane, give: Callable[[Event], None]) -> None:
        """Take nothing yet."""
        self._engine = engine
        self._give = give
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-events", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, having given on what was there."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._take(WAIT)
        self._take(0.0)

    def _take(self, wait: float) -> None:
        try:
            events = self._engine.events(wait)
        except Exception:
            log.exception("events of the data plane were lost")
            # Keeps a lasting fault from spinning.
            self._stopping.wait(1.0)
            return
        for event in events:
            try:
                self._give(event)
            except Exception:
                log.exception("an event of the data plane was lost")
