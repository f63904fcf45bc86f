"""Where a configuration comes from: a file that can change, or a value that a program holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from penstock.config import load, load_value, page_files
from penstock.control.watch import digest_of, look_at

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.config import Config, Loaded, Memory
    from penstock.control.watch import Looks


class Source(Protocol):
    """Gives a configuration whenever it is asked."""

    @property
    def name(self) -> str:
        """What people call it."""

    def digest(self) -> str | None:
        """A digest of what `load` would read; `None` where nothing can change."""

    def load(self, memory: Memory) -> Loaded:
        """The configuration as it is now. `memory` is that of the load before. Raises `ConfigError`."""


class FileSource:
    """A TOML, YAML, JSON or Python file."""

    def __init__(self, path: Path) -> None:
        """Read from `path`, which need not exist yet."""
        self.path = path
        self.named: Looks = {}
        """What the pages that the file names looked like before they were read last."""

    @property
    def name(self) -> str:
        """The path as the user wrote it."""
        return str(self.path)

    def digest(self) -> str | None:
        """A digest of the file's content."""
        return digest_of(self.path)

    def load(self, memory: Memory) -> Loaded:
        """Read the file."""
        loaded = load(self.path, memory)
        self.named = {path: look_at(path) for path in page_files(loaded)}
        return loaded


class ValueSource:
    """A `Config`, or a mapping of the same shape."""

    name = "<config>"

    def __init__(self, config: Config | Mapping[str, Any]) -> None:
        """Always give `config`."""
        self._config = config

    def digest(self) -> str | None:
        """Nothing: it does not change."""
        return None

    def load(self, memory: Memory) -> Loaded:
        """Validate the value; a program may have changed any part of it."""
        return load_value(self._config)


def source_of(config: Config | Mapping[str, Any] | str | Path) -> Source:
    """A source for whatever a program has: a path, a `Config` or a mapping."""
    return FileSource(Path(config)) if isinstance(config, str | Path) else ValueSource(config)
