"""The event loop of an add-on that has coroutines, on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from penstock.addons.runner import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Began = Callable[[], Coroutine[None, None, None]]


class Loop:
    """Runs coroutines until it is stopped."""

    def __init__(self, name: str) -> None:
        """Run nothing yet. `name` is the thread's."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begin(self, work: Began) -> None:
        """Run a coroutine, from any thread."""
        self._loop.call_soon_threadsafe(self._begin, work)

    def stop(self) -> None:
        """Cancel what runs, and end, from any thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _begin(self, work: Began) -> None:
        task = self._loop.create_task(work())
        # A loop keeps no task alive by itself.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                loop.run_until_complete(asyncio.wait(self._tasks, timeout=PATIENCE))
        finally:
            loop.close()
