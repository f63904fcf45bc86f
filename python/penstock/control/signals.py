"""What the signals of the operating system ask for.

HUP reloads, TERM and INT drain and end (a second one ends at once), USR1 opens the logs anew. A handler only puts an
order into a queue that may be written from a handler; the lifecycle decides what it means.
"""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from penstock.control.lifecycle import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ORDERS = {
    signal.SIGHUP: Order.RELOAD,
    signal.SIGUSR1: Order.REOPEN_LOGS,
    signal.SIGTERM: Order.TERMINATE,
    signal.SIGINT: Order.TERMINATE,
}


@contextlib.contextmanager
def deliver(order: Callable[[Order], None], *numbers: signal.Signals) -> Iterator[None]:
    """Turn these signals into orders for as long as the block runs; then what was before is back. Main thread only."""

    def received(number: int, _frame: FrameType | None) -> None:
        order(ORDERS[signal.Signals(number)])

    before = {number: signal.signal(number, received) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
