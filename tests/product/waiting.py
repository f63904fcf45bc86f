"""Wait for a condition, never for a time."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_never = threading.Event()


def wait_for(look: Callable[[], T], what: str, deadline: float = 20.0) -> T:
    """The first true value of `look`; `AssertionError` after `deadline` seconds without one.

    It is long because only a failure lasts as long: a machine that is busy with something else must not be one.
    """
    end = time.monotonic() + deadline
    while not (seen := look()):
        assert time.monotonic() < end, f"{what}: not within {deadline:g} s"
        _never.wait(0.005)
    return seen
