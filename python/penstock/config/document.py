"""Where a configuration came from: its name, its text, and the line of each key, found only when a fault needs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from penstock.config.memory import Memory
from penstock.config.positions import locate
from penstock.config.texts import nearest
from penstock.errors import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from penstock.config.model import Config, Route
    from penstock.config.policy import WeightPolicy
    from penstock.config.positions import Place

KeyPath = tuple[str | int, ...]
"""A key's place in the document: `("routes", 3, "upstream")`."""

Report = Callable[[KeyPath, "str | None"], None]
"""Takes a key and what is wrong with it; nothing wrong is nothing to report."""

_PLAIN = {"name", "match", "strict", "upstream", "filters", "timeouts", "limits"}
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_STEP = re.compile(r'\.?([A-Za-z0-9_-]+)|\["((?:[^"\\]|\\.)*)"\]|\[([0-9]+)\]|\."((?:[^"\\]|\\.)*)"')


@dataclass
class Document:
    """The origin of one configuration."""

    name: str
    """The file as the user named it, or `<config>`."""
    folder: Path
    """What relative paths are relative to. Absolute."""
    format: str = ""
    """`toml`, `yaml`, `json` or `python`; empty for a configuration from Python."""
    text: str = field(default="", repr=False)
    """The file's text."""
    policies: tuple[WeightPolicy, ...] = field(default=(), repr=False)
    """The functions of a Python file that give weights."""

    def fault(self, key: KeyPath, message: str) -> Fault:
        """A fault at this key; where the key was not written, its line is that of the nearest key above."""
        line = column = None
        for length in range(len(key), 0, -1):
            if place := self._places.get(key[:length]):
                line, column = place
                break
        return Fault(self.name, line, column, write_key(key), message)

    @cached_property
    def _places(self) -> dict[KeyPath, Place]:
        return locate(self.text, self.format)


@dataclass(frozen=True)
class Loaded:
    """A configuration of the right shape, with its origin. `check` says whether it holds together."""

    config: Config
    document: Document
    memory: Memory = field(default_factory=Memory, repr=False, compare=False)
    """What is known of its routes from the time before."""

    @property
    def folder(self) -> Path:
        """What relative paths in it are relative to."""
        return self.document.folder

    @cached_property
    def special_routes(self) -> list[tuple[int, Route]]:
        """Routes, by their places, that say more than what matches and goes to which upstream: of many routes few do,
        and a rule about anything else looks at these alone."""
        return [(at, route) for at, route in enumerate(self.config.routes) if is_special(route)]

    def fault(self, key: str, message: str) -> Fault:
        """A fault found by someone else, at a key path of the configuration such as `routes[3].match`."""
        return self.document.fault(read_key(key), message)

    def plan_fault(self, path: str, message: str) -> Fault:
        """A fault that the data plane found at a path of the plan, where listeners and upstreams are lists."""
        key = read_key(path)
        names = {"listeners": list(self.config.listeners), "upstreams": list(self.config.upstreams)} | {
            "addons": list(self.config.addons),
            "lists": list(self.config.lists),
        }
        if len(key) > 1 and isinstance(key[0], str) and isinstance(key[1], int) and key[1] < len(names.get(key[0], ())):
            key = (key[0], names[key[0]][key[1]], *key[2:])
            if key[2:3] == ("forward",):
                key = (*key[:2], *key[3:])
        elif key[:1] == ("access_log",):
            key = ("log", "access", *key[1:])
        elif "predicate" in key:
            key = key[: key.index("predicate")]
        elif "action" in key:
            key = tuple(step for step in key if step != "action")
        return self.document.fault(key, message)


def is_special(route: Route) -> bool:
    """Whether a route says more than what matches, what is done to it and to which upstream it goes."""
    return not route.model_fields_set <= _PLAIN


def write_key(key: Iterable[str | int]) -> str:
    """`routes[3].upstream`; names that need quotes get them."""
    text = ""
    for step in key:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            shown = step if _BARE.fullmatch(step) else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{shown}" if text else shown
    return text


def read_key(text: str) -> KeyPath:
    """What `write_key` wrote."""
    key: list[str | int] = []
    for bare, bracketed, index, quoted in _STEP.findall(text):
        key.append(int(index) if index else bare or re.sub(r"\\(.)", r"\1", bracketed or quoted))
    return tuple(key)


def listed(names: Iterable[str], none: str = "none") -> str:
    """Known names for a message, cut short where there are many."""
    names = list(names)
    shown = ", ".join(names[:12])
    return (shown + f" and {len(names) - 12} more" if len(names) > 12 else shown) or none


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist."""
    known = sorted(known)
    article = "an" if what[0] in "aeiou" else "a"
    return f'"{name}" is not {article} {what} of this configuration{nearest(name, known)} (known: {listed(known)})'
