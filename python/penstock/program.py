"""`penstock run` without its words: one configuration, run by the whole process until it is told to end."""

from __future__ import annotations

import contextlib
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.control.channel import ControlSocket, default_path
from penstock.control.commands import Commands
from penstock.control.lifecycle import Lifecycle, Order
from penstock.control.signals import deliver
from penstock.control.source import FileSource
from penstock.control.watch import FileWatch
from penstock.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.control.source import Source
    from penstock.engine import Applied


class Program:
    """The process around a `Service`: signals, control socket, watch. Only in the main thread."""

    def __init__(self, source: Source, control: Path | None = None, watch: bool = False) -> None:
        """Run `source`; take commands at `control` (default: derived from the file, none for a value)."""
        self.service = Service(source)
        self.lifecycle = Lifecycle(self.service.controller)
        file = source if isinstance(source, FileSource) else None
        self.control = control or (default_path(file.path) if file else None)
        self._watched = file if watch else None

    def run(self, started: Callable[[Applied], None] = lambda _: None) -> bool:
        """Serve until a signal or a command ends the process; `started` is called once it serves.

        True if everything under way finished. Raises `ConfigError` for a configuration that cannot run,
        `ControlError` if another process runs it.
        """
        controller = self.service.controller
        _raise_descriptor_limit()
        commands = ControlSocket(self.control, Commands(controller, self.lifecycle)) if self.control else None
        watch = None
        try:
            with deliver(self.lifecycle.order, signal.SIGHUP, signal.SIGUSR1):
                applied = self.service.start()
                with deliver(self.lifecycle.order, signal.SIGTERM, signal.SIGINT):
                    if commands:
                        commands.start()
                    if self._watched:
                        watch = self._watch(self._watched)
                        watch.start()
                    started(applied)
                    self.lifecycle.run(self.service.stop)
        finally:
            if watch:
                watch.stop()
            self.service.stop()
            if commands:
                commands.close()
        return bool(self.lifecycle.drained)

    def _watch(self, file: FileSource) -> FileWatch:
        controller = self.service.controller
        return FileWatch(file.path, lambda: controller.tried, self._reload, lambda: file.named)

    def _reload(self) -> None:
        self.lifecycle.order(Order.RELOAD)


def _raise_descriptor_limit() -> None:
    """Use what the system grants: the soft limit is low for programs that use select(2), which nothing here does."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def run(path: str | Path, *, watch: bool = False, control: str | Path | None = None) -> None:
    """Run the configuration file at `path` until the process is told to end; only in the main thread.

    `watch` reloads when the file changes; `control` is where commands are taken. Raises `ConfigError` for a
    configuration that cannot run, `ControlError` if another process runs it.
    """
    Program(FileSource(Path(path)), Path(control) if control else None, watch).run()
