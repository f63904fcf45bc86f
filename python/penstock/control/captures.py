"""What listeners capture: HTTP archives of it, and the files that follow it.

The data plane keeps the newest exchanges in memory and is asked for them; secrets were taken out before. An archive is
HAR 1.2, which browsers' developer tools and proxies of the trade read.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from penstock.config import Loaded
    from penstock.engine import DataPlane

PAUSE = 1.0
"""Seconds from one look at what was captured to the next."""
_HEAD = '{"log":{"version":"1.2","creator":{"name":"Penstock","version":VERSION},"entries":['
_TAIL = b"\n]}}\n"

log = logging.getLogger("penstock")


def archive(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries as one HTTP archive."""
    creator = {"name": "Penstock", "version": __version__}
    return {"log": {"version": "1.2", "creator": creator, "entries": list(entries)}}


def entries_behind(engine: DataPlane, listener: str, after: int = 0) -> Iterator[dict[str, Any]]:
    """What a listener has captured behind this id, oldest first; each has its `_id`."""
    more = True
    while more:
        found = engine.captures(listener, {"after": after})
        for row in found.entries:
            yield {**row.entry, "_id": row.id}
            after = row.id
        more = found.more


class HarFile:
    """An archive on disk that is whole after each write; one of `most` bytes is put aside as `FILE.1`."""

    def __init__(self, path: Path, most: int) -> None:
        """Write to `path`; one that is there already is put aside with the first write."""
        self.path = path
        self._most = most
        self._length: int | None = None

    def append(self, entries: list[dict[str, Any]]) -> None:
        """Add entries. Raises `OSError`."""
        if not entries:
            return
        text = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries).encode()
        if self._length is None or self._length + len(text) > self._most:
            self._begin(b"\n" + text + _TAIL)
            return
        # One call, so that whoever reads meanwhile does not see half of it.
        with self.path.open("r+b", buffering=0) as file:
            file.seek(-len(_TAIL), os.SEEK_END)
            file.write(b",\n" + text + _TAIL)
            self._length = file.tell()

    def _begin(self, rest: bytes) -> None:
        head = _HEAD.replace("VERSION", json.dumps(__version__)).encode()
        new = self.path.with_name(self.path.name + ".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(head + rest)
        if self.path.exists():
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        new.replace(self.path)
        self._length = len(head) + len(rest)


class CaptureFiles:
    """Follows what listeners with a file capture, on a thread that there is from the first of them on."""

    def __init__(self, engine: DataPlane) -> None:
        """Follow nothing yet."""
        self._engine = engine
        self._files: dict[str, HarFile] = {}
        self._after: dict[str, int] = {}
        self._trouble: dict[str, str] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._writing = threading.Lock()

    def run(self, loaded: Loaded) -> None:
        """Follow these from now on, and no others: the configuration that names them runs."""
        files = {}
        for name, listener in loaded.config.listeners.items():
            capture = listener.capture
            if capture is not None and capture.to is not None:
                path = Path(os.path.normpath(loaded.folder / capture.to))
                known = self._files.get(name)
                files[name] = known if known and known.path == path else HarFile(path, capture.memory)
        with self._writing:
            self._files = files
        if files and self._thread is None and not self._stopping.is_set():
            self._thread = threading.Thread(target=self._follow, name="penstock-captures", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what is there, and follow nothing any more. Before the engine stops."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._write()

    def _follow(self) -> None:
        while not self._stopping.wait(PAUSE):
            self._write()

    def _write(self) -> None:
        with self._writing:
            for name, file in self._files.items():
                try:
                    entries = list(entries_behind(self._engine, name, self._after.get(name, 0)))
                    if entries:
                        self._after[name] = entries[-1]["_id"]
                    file.append(entries)
                    self._trouble.pop(name, None)
                except Exception as error:  # a full disk must not end the thread, nor be told of each second
                    if self._trouble.get(name) != str(error):
                        log.warning("what listener %s captures is not written: %s", name, error)
                    self._trouble[name] = str(error)
