"""What a case may not leave behind: open descriptors, memory, a panic (docs/testing.md)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.wire.stage import Penstock

WAIT = 2.0
LOOK = 0.005
GROWTH = 8 * 1024 * 1024
"""Bytes by which the process may grow over the repetitions of one case: allocators and Python keep some, but buffers of
16 KB that are lost with each connection show after a few hundred of them."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class BaseLine:
    """The state of the process, which is Penstock's and the test's, after a case has run once."""

    def __init__(self, subject: Penstock) -> None:
        self._subject = subject
        self._descriptors = self._taken()
        self._panics = subject.panics()
        self._memory = resident()

    def left(self) -> str:
        """What is not as it was, waited for: a connection that was closed is noticed a moment later."""
        deadline = time.monotonic() + WAIT
        while (now := self._taken()) > self._descriptors:
            if time.monotonic() > deadline:
                return f"{now - self._descriptors} descriptors are left open"
            time.sleep(LOOK)  # noqa: TID251 - the pause between two looks at a condition with a deadline
        assert self._subject.panics() == self._panics, "something panicked"
        grown = resident() - self._memory
        return f"the process has grown by {grown} bytes over the repetitions of the case" if grown > GROWTH else ""

    def _taken(self) -> int:
        """Open descriptors less those of the pools, which are counted, bounded and swept."""
        return open_descriptors() - self._subject.pooled()


def open_descriptors() -> int:
    """Open descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE
