"""From serving over draining to stopped: the life of a process that runs a configuration.

Threads, not an event loop: applying, draining and waiting for events are calls into the data plane that block (and
release the interpreter), so a loop would hand each of them to a thread anyway. The first thread only waits for
orders; whatever takes long (a reload, a drain) runs beside it, so that an order to stop is always heard.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from penstock.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.control.controller import Controller

log = logging.getLogger("penstock")


SIGNALS_HEARD = 0.25
"""Seconds by which a signal that came to another thread is noticed."""


class Order(enum.Enum):
    """What the process can be told to do."""

    RELOAD = "reload"
    REOPEN_LOGS = "reopen logs"
    TERMINATE = "terminate"
    """Drain; told again while draining, stop."""
    DRAIN = "drain"
    STOP = "stop"
    DRAINED = "drained"
    """Told by the drain itself."""


class Lifecycle:
    """Takes orders until one of them ends the process. `order` may be called from any thread and from a signal
    handler."""

    def __init__(self, controller: Controller) -> None:
        """Serve what `controller` runs."""
        self._controller = controller
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._reload = threading.Event()
        self._draining = False
        self.drained: bool | None = None
        """Whether everything under way finished; `None` before a drain has ended."""
        self.ended = threading.Event()
        """Set when nothing is served any more."""

    def order(self, order: Order) -> None:
        """Tell the process to do this. Returns at once."""
        self._orders.put(order)

    def run(self, stop: Callable[[], None] = lambda: None) -> None:
        """Take orders until the process is to end, and end it with `stop`."""
        threading.Thread(target=self._reload_when_told, name="penstock-reload", daemon=True).start()
        try:
            while True:
                # The system may hand a signal to any thread; Python acts on it only here, once this thread wakes.
                with contextlib.suppress(queue.Empty):
                    if not self._take(self._orders.get(timeout=SIGNALS_HEARD)):
                        break
        finally:
            try:
                stop()
            finally:
                self.ended.set()
                self._reload.set()  # its thread looks up, and ends

    def drain(self) -> bool:
        """Order a drain and wait for its end. True if everything under way finished."""
        self.order(Order.DRAIN)
        self.ended.wait()
        return bool(self.drained)

    def _take(self, order: Order) -> bool:
        """Carry out one order. False when it was the last."""
        if order is Order.RELOAD:
            if self._draining:
                log.warning("reload ignored: draining")
            else:
                self._reload.set()
        elif order is Order.REOPEN_LOGS:
            self._controller.reopen_logs()
            log.info("logs reopened")
        elif order is Order.STOP or (order is Order.TERMINATE and self._draining):
            log.warning("stopping at once")
            return False
        elif order is Order.DRAINED:
            return False
        elif not self._draining:
            self._draining = True
            threading.Thread(target=self._drain, name="penstock-drain", daemon=True).start()
        return True

    def _drain(self) -> None:
        wait = self._controller.drain_timeout
        log.info("draining: nothing new is accepted, what is under way has %g s to finish", wait)
        begun = time.monotonic()
        try:
            self.drained = self._controller.drain(wait)
        except Exception:
            log.exception("drain failed")
            self.drained = False
        took = time.monotonic() - begun
        if self.drained:
            log.info("drained after %.1f s", took)
        else:
            log.warning("drain ended after %.1f s with connections still open: they are closed now", took)
        self.order(Order.DRAINED)

    def _reload_when_told(self) -> None:
        # Orders that arrive while a reload runs become one more reload: a storm of signals costs two.
        while self._reload.wait() and not self.ended.is_set():
            self._reload.clear()
            try:
                self._controller.reload()
            except ConfigError:
                pass  # the controller has logged it and shows it in the status
            except ControlError as error:
                log.warning("reload ignored: %s", error)
            except Exception:
                log.exception("reload failed: the old configuration goes on")
