"""Notice that the configuration file, or a page that it names, has changed.

The file is looked at (one `stat`) every half second in a thread of its own; its content is read only when the look is
a new one and has stayed the same for a whole interval, so that a file that is being written is not read half way. A
content that was tried before, applied or refused, is not tried again. Polling, not inotify: it works on every file
system, also through the symbolic links that container platforms swap.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from penstock.config import read_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INTERVAL = 0.5
"""Seconds from one look to the next, and how long a change must rest before it counts."""

Look = tuple[int, int, int, int]
"""Device, inode, size and modification time in nanoseconds."""

Looks = dict["Path", Look | None]
"""Of several files."""


def look_at(path: Path) -> Look | None:
    """What the file looks like from outside; `None` while there is none (an editor is replacing it)."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def digest_of(path: Path) -> str | None:
    """A digest of the file's content; `None` where it cannot be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except (OSError, ValueError):
        return None


class Watch:
    """Decides, from one look after the other, when a file deserves to be tried."""

    def __init__(self, seen: Look | None) -> None:
        """Start from what the file looked like when it was loaded."""
        self._settled = seen
        self._restless: Look | None = None

    def see(self, look: Look | None, digest: Callable[[], str | None], tried: str | None) -> bool:
        """Whether to load the file now. `digest` is asked only for a look that is new and at rest."""
        if look is None or look == self._settled:
            self._restless = None
            return False
        if look != self._restless:
            self._restless = look
            return False
        content = digest()
        if content is None:
            return False  # it cannot be read now: look again
        self._settled, self._restless = look, None
        return content != tried


class NamedWatch:
    """Decides, from one look after the other, when the files that a configuration names deserve that it is loaded."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._settled: Looks = {}
        self._restless: Looks = {}

    def see(self, looks: Looks, loaded: Looks) -> bool:
        """Whether to load the configuration now. `loaded`: what the same files looked like when it was loaded last."""
        if looks in (loaded, self._settled) or None in looks.values():
            self._restless = {}
            return False
        if looks != self._restless:
            self._restless = looks
            return False
        self._settled, self._restless = looks, {}
        return True


class FileWatch:
    """A thread that looks at a file, and at those that it names, and calls `changed` when it deserves to be tried."""

    def __init__(
        self,
        path: Path,
        tried: Callable[[], str | None],
        changed: Callable[[], None],
        named: Callable[[], Looks] = dict,
    ) -> None:
        """Watch from what the file looks like now. `tried` gives the digest of the content that was loaded last,
        `named` what the files that it names looked like then."""
        self._path = path
        self._tried = tried
        self._changed = changed
        self._named = named
        self._named_watch = NamedWatch()
        # The digest that was loaded, not the look, decides whether a change counts: nothing is missed between load
        # and here.
        self._watch = Watch(None)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(INTERVAL):
            loaded = self._named()
            named = self._named_watch.see({path: look_at(path) for path in loaded}, loaded)
            if self._watch.see(look_at(self._path), lambda: digest_of(self._path), self._tried()) or named:
                self._changed()
