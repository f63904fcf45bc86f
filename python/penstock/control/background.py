"""Work that gives way: done by a thread of its own that the system lets run after the ones that serve.

A reload is computation for tenths of a second. Where every CPU is busy with requests, each turn that it takes would
be a delay for one of them. With a lower priority it still gets on (a tenth of a CPU at the worst), only later.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

NICENESS = 10
"""By how much the thread is nicer than the others."""


def in_background(work: Callable[[], T]) -> T:
    """Do `work` in such a thread, wait for it, and give what it gave or raise what it raised. It must start no threads
    that stay: they would be as nice."""
    # A thread of its own each time: to raise the priority again takes a privilege.
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        _give_way()
        try:
            done.append(work())
        except BaseException as error:  # raised again where it was asked for
            failed.append(error)

    thread = threading.Thread(target=run, name="penstock-background", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed.pop()
    return done[0]


def _give_way() -> None:
    # Of this thread alone: that is Linux; elsewhere, and where it is forbidden, the work is done all the same.
    with contextlib.suppress(OSError):
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + NICENESS)
