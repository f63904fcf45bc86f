"""The interpreter's cycle collector, held off while many objects are made that all live on."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def uncollected() -> Iterator[None]:
    """Run without the cycle collector, also as a decorator.

    It would walk the growing configuration again and again, which takes as long as loading 10 000 routes does.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
