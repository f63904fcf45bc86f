"""A configuration file's bytes, read with the care that a path from outside needs."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE = 16 << 20
"""Bytes of a configuration file."""


class NotRegularError(OSError):
    """Something that is no file: a pipe, a device, a socket."""


def read_file(path: Path) -> bytes:
    """The content, or of a file that is larger than `LARGEST_FILE` the beginning, which is longer than that.

    Raises `OSError`, or `ValueError` for what is no path. Never waits: opening a pipe would, for somebody who writes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
        if kind == stat.S_IFDIR:
            raise IsADirectoryError(path)
        if kind != stat.S_IFREG:
            raise NotRegularError(path)
        with open(descriptor, "rb", closefd=False) as opened:
            return opened.read(LARGEST_FILE + 1)
    finally:
        os.close(descriptor)
