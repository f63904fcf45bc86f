"""From the names in a configuration to functions that can be called.

A module is run anew when its file has changed, and kept, with all that it remembers, as long as it has not. The new one
takes the place of the old with the configuration that brings it: as long as that is refused, the old goes on. What a
module imports in turn is Python's own affair, and is loaded once.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from penstock.config.policy import policies_of
from penstock.errors import ConfigError, message_of

if TYPE_CHECKING:
    from types import ModuleType

    from penstock.config import Addon, Loaded
    from penstock.config.policy import WeightPolicy

HOOKS = {
    "request_headers": ("request",),
    "response_headers": ("request", "response"),
    "authenticate": ("user", "password"),
}
"""Every hook with what it is called with, in the order of `crates/plan`."""

THREADS = 8
TASKS = 256

Hook = Callable[..., Any]

_RUN: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""The digest of what was run, of every module that was run for an add-on."""


@dataclass(frozen=True)
class Loading:
    """An add-on as it is loaded now."""

    id: int
    """Another one for code or settings that are not the same as before."""
    name: str
    hooks: dict[str, Hook]
    policies: tuple[WeightPolicy, ...]
    """Its functions that give weights."""
    tasks: frozenset[str]
    """Names of the hooks that are coroutine functions."""
    concurrency: int
    file: str | None
    """Of its code, to say where something went wrong."""
    code: object
    """What was loaded, to see whether it is the same."""
    settings: Addon

    def plan(self) -> dict[str, Any]:
        """What only the code can say of the add-on, for the compiler."""
        return {"id": self.id, "hooks": list(self.hooks), "concurrency": self.concurrency}


class _FaultError(Exception):
    """What is wrong with an add-on's module."""


class Loader:
    """Loads add-ons, and knows those that were loaded for the running configuration. Not for two threads at a time."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._kept: dict[str, Loading] = {}
        self._modules: dict[tuple[str, str], tuple[str, ModuleType]] = {}
        self._ids = itertools.count(1)

    def load(self, loaded: Loaded) -> dict[str, Loading]:
        """The add-ons of a configuration, by name. Raises `ConfigError` with a fault for each that cannot be.

        This runs the code of modules that are new or have changed.
        """
        found, faults = {}, []
        for name, addon in loaded.config.addons.items():
            try:
                found[name] = self._loading(name, addon, loaded.folder)
            except _FaultError as fault:
                faults.append(loaded.document.fault(("addons", name, "module"), str(fault)))
        if faults:
            raise ConfigError(faults)
        return found

    def keep(self, loadings: dict[str, Loading]) -> None:
        """These run now: the next load finds them again as far as nothing of them has changed."""
        self._kept = loadings
        self._modules = {key: known for key, known in self._modules.items() if key[0] in loadings}

    def _loading(self, name: str, addon: Addon, folder: Path) -> Loading:
        code, file = self._code(name, addon.module, folder)
        hooks, policies = _hooks(code), policies_of(_values(code))
        if not hooks and not policies:
            raise _FaultError(_nothing(code))
        tasks = frozenset(name for name, hook in hooks.items() if inspect.iscoroutinefunction(hook))
        concurrency = addon.concurrency or (TASKS if len(tasks) == len(hooks) else THREADS)
        kept = self._kept.get(name)
        # An object that a program gives is the same code as long as it is the same object.
        if kept and kept.code is code and kept.settings == addon and list(kept.hooks) == list(hooks):
            return kept
        return Loading(next(self._ids), name, hooks, policies, tasks, concurrency, file, code, addon)

    def _code(self, name: str, module: object, folder: Path) -> tuple[object, str | None]:
        if not isinstance(module, str):
            return module, None
        place, _, attribute = module.partition(":")
        with _importable(folder):
            is_file = place.endswith(".py")
            spec = _file_spec(name, place, folder) if is_file else _module_spec(place)
            code: object = self._module(name, spec, None if is_file else sys.modules.get(place))
        for step in attribute.split(".") if attribute else ():
            try:
                code = getattr(code, step)
            except AttributeError:
                raise _FaultError(f'"{place}" has no {attribute}') from None
        return code, spec.origin

    def _module(self, name: str, spec: importlib.machinery.ModuleSpec, imported: ModuleType | None) -> ModuleType:
        """The module as it is on disk now: the one that runs, if that is the same, or that the program has imported."""
        key = (name, spec.name)
        try:
            source = Path(spec.origin or "").read_bytes()
        except OSError as error:
            raise _FaultError(f'"{spec.origin}" cannot be read: {error.strerror}') from None
        digest = _digest(spec, source)
        known = self._modules.get(key)
        if known is None and imported is not None:
            # One that was run here for an add-on of another name may be of another text.
            known = (_RUN.get(imported, digest), imported)
        if known is None or known[0] != digest:
            known = (digest, _run(spec, source))
        self._modules[key] = known
        return known[1]


def _hooks(code: object) -> dict[str, Hook]:
    """The hooks that a module or an object defines."""
    if isinstance(code, type):
        raise _FaultError(f"{code.__name__} is a class; name an object of it")
    hooks = {name: getattr(code, name) for name in HOOKS if hasattr(code, name)}
    for name, hook in hooks.items():
        if not callable(hook):
            raise _FaultError(f"{name} is a {type(hook).__name__}, not a function")
        try:
            inspect.signature(hook).bind(*HOOKS[name])
        except TypeError:
            raise _FaultError(f"{name} is called as {name}({', '.join(HOOKS[name])})") from None
        except ValueError:
            pass  # one of C's, which does not say what it takes
    return hooks


def _values(code: object) -> Iterator[object]:
    """What a module or an object holds. Of an object only its methods: to read a property would run it."""
    for name in dir(code):
        if callable(inspect.getattr_static(code, name, None)):
            yield getattr(code, name)


def _nothing(code: object) -> str:
    near = [found for name in HOOKS for found in difflib.get_close_matches(name, dir(code), 1, 0.8)]
    hint = f"; it has {near[0]}" if near else ""
    *names, last = HOOKS
    return (
        f"defines no hook, a function named {', '.join(names)} or {last}, "
        f"and none that gives weights (penstock.weights){hint}"
    )


def _file_spec(name: str, place: str, folder: Path) -> importlib.machinery.ModuleSpec:
    path = os.path.normpath(folder / place)
    if not os.path.isfile(path):
        raise _FaultError(f'"{path}" is not there; a file is relative to the configuration')
    spec = importlib.util.spec_from_file_location(f"penstock_addon_{name}", path)
    assert spec is not None  # noqa: S101 - a name that ends with .py
    return spec


def _module_spec(place: str) -> importlib.machinery.ModuleSpec:
    try:
        spec = importlib.util.find_spec(place)
    except Exception as error:
        # The packages above it are run to find it.
        raise _FaultError(_raised(error, None)) from None
    if spec is None:
        raise _FaultError(f'there is no module "{place}" beside the configuration or among the installed packages')
    if not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
        raise _FaultError(f'"{place}" is no module of Python source')
    return spec


def _digest(spec: importlib.machinery.ModuleSpec, source: bytes) -> str:
    return hashlib.sha256(os.fsencode(spec.origin or "") + b"\0" + source).hexdigest()


def _run(spec: importlib.machinery.ModuleSpec, source: bytes) -> ModuleType:
    """Run what was read, not what a cache has: two versions of a file may have one size and one time."""
    module = importlib.util.module_from_spec(spec)
    _RUN[module] = _digest(spec, source)
    before = sys.modules.get(spec.name)
    sys.modules[spec.name] = module
    try:
        exec(compile(source, spec.origin or "", "exec"), module.__dict__)  # noqa: S102 - the user's own code
    except (Exception, SystemExit) as error:
        if before is None:
            del sys.modules[spec.name]
        else:
            sys.modules[spec.name] = before
        raise _FaultError(_raised(error, spec.origin)) from None
    return module


def _raised(error: BaseException, file: str | None) -> str:
    message = message_of(error).partition("\n")[0]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == file else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == file:
            line = frame.lineno
    place = f"{Path(file).name}:{line}: " if file and line else ""
    return f"{place}raised {type(error).__name__}: {message}".rstrip(": ")


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let a module import its neighbours while it is run."""
    sys.path.insert(0, str(folder))
    # Files that came since the last look are found only after this.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
