"""A data plane with everything that serves it inside one process: controller, events, admin listener.

`Proxy` (in a program) and `run` (as a program) are both made of it; signals, the watch and the control socket are not
part of it, because they belong to a process, not to a proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.admin import AdminListener
from penstock.control.controller import Controller
from penstock.control.events import EventPump
from penstock.control.log import log_event
from penstock.engine import Engine
from penstock.version import __version__

if TYPE_CHECKING:
    from penstock.control.source import Source
    from penstock.engine import Applied


class Service:
    """Runs the configuration of one source from `start` to `stop`."""

    def __init__(self, source: Source) -> None:
        """Open nothing yet."""
        self.engine = Engine()
        self.controller = Controller(source, self.engine)
        self.admin = AdminListener(self.controller, __version__)
        self.controller.add(self.admin)
        self._events = EventPump(self.engine, log_event)

    def start(self) -> Applied:
        """Apply the configuration for the first time. Raises `ConfigError`, leaving nothing open."""
        self._events.start()
        try:
            return self.controller.reload()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close everything at once. Safe to call twice."""
        # What is served first: the admin listener may wait for its last answers.
        self.controller.stop()
        self.admin.close()
        self._events.stop()
