"""From a file to a `Loaded`: read, parse, and give the model its shape. Every failure is a fault with its line."""

from __future__ import annotations

import json
import re
import runpy
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli
from pydantic import ValidationError

from penstock.config.check import CONSEQUENCES, find_faults
from penstock.config.collector import uncollected
from penstock.config.document import Document, KeyPath, Loaded, write_key
from penstock.config.file import LARGEST_FILE, NotRegularError, read_file
from penstock.config.memory import Memory
from penstock.config.model import Config
from penstock.config.policy import policies_of
from penstock.config.positions import place_of, repeated_json_key
from penstock.config.shape import as_document, neutralise, shape_faults
from penstock.errors import ConfigError, Fault, message_of

if TYPE_CHECKING:
    import os

FORMATS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".py": "python"}
"""Which form a file's name announces."""


def load(path: str | os.PathLike[str], memory: Memory | None = None) -> Loaded:
    """Read a configuration file. Raises `ConfigError` with every fault of its shape and, as far as the rest can be
    read, of its content too. `memory` is that of the load before, if there was one."""
    file = Path(path)
    document = Document(str(path), file.parent.absolute())
    document.format = _format(document, file)
    document.text = _read(document, file)
    memory = memory or Memory()
    with uncollected():
        if document.format == "toml" and (config := memory.reread(document.text)) is not None:
            return Loaded(config, document, memory)
        return _shaped(document, _parse(document, file), memory)


def load_value(value: Config | Mapping[str, Any], folder: str | os.PathLike[str] = ".") -> Loaded:
    """Take a configuration that a Python program made. Raises `ConfigError`. Relative paths are relative to
    `folder`."""
    return _shaped(Document("<config>", Path(folder).absolute()), value, Memory())


def _shaped(document: Document, value: object, memory: Memory) -> Loaded:
    parsed = document.format in ("toml", "json")
    if not parsed:
        try:
            value = as_document(value)
        except RecursionError:
            raise ConfigError([_whole(document, "is nested too deeply")]) from None
    if not isinstance(value, Mapping):
        raise ConfigError(
            [_whole(document, "a configuration is a table with keys such as listeners, upstreams and routes")]
        )
    if document.format != "toml" and (broken := _broken_text(value)) is not None:
        raise ConfigError([document.fault(broken, "holds half of a surrogate pair, which is no character")])
    try:
        # Of a value that a program made, parts could change without another text to show it.
        text = document.text if document.format == "toml" else None
        config = memory.validate(value, text) if parsed else Config.model_validate(value)
        return Loaded(config, document, memory)
    except ValidationError as error:
        faults = shape_faults(document, error)
        raise ConfigError(_with_content(document, value, error, faults)) from None


def _with_content(
    document: Document, value: Mapping[str, Any], error: ValidationError, faults: list[Fault]
) -> list[Fault]:
    """The faults of the shape, and those that `check` finds in all that has the right shape."""
    repaired = neutralise(value, error)
    if repaired is not None:
        wrong = [fault.key for fault in faults]
        for fault in find_faults(Loaded(repaired, document))[0]:
            # What a refused key would have held is missing only because it was left out.
            about_absence = fault.message.startswith(CONSEQUENCES)
            if not any(_within(fault.key, key) or (about_absence and _within(key, fault.key)) for key in wrong):
                faults.append(fault)
    return sorted(faults, key=lambda fault: (fault.line is None, fault.line or 0))


def _within(key: str, above: str) -> bool:
    return key == above or (key.startswith(above) and key[len(above)] in ".[")


def _format(document: Document, file: Path) -> str:
    form = FORMATS.get(file.suffix.lower())
    if form is None:
        allowed = ", ".join(FORMATS)
        raise ConfigError(
            [_whole(document, f"the name must end with one of {allowed}, which says how the file is read")]
        )
    return form


def _read(document: Document, file: Path) -> str:
    try:
        content = read_file(file)
    except NotRegularError:
        raise ConfigError([_whole(document, "is not a regular file; give the path of a configuration file")]) from None
    except FileNotFoundError:
        raise ConfigError([_whole(document, "there is no such file; give its path with -c FILE")]) from None
    except IsADirectoryError:
        raise ConfigError([_whole(document, "is a folder; give the path of a file in it, as penstock.toml")]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError([_whole(document, f"cannot be read: {reason}; check its owner and mode")]) from None
    if len(content) > LARGEST_FILE:
        raise ConfigError([_whole(document, "is larger than 16 MB; split what it describes or make it shorter")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Fault(document.name, line, None, "", "is not UTF-8; save it in that encoding")]) from None


def _parse(document: Document, file: Path) -> object:
    try:
        match document.format:
            case "toml":
                return _parse_toml(document)
            case "yaml":
                return _parse_yaml(document)
            case "json":
                return _parse_json(document)
            case _:
                return _run_python(document, file)
    except RecursionError:
        raise ConfigError([_whole(document, "is nested too deeply")]) from None


def _parse_toml(document: Document) -> object:
    try:
        return tomli.loads(document.text)
    except tomli.TOMLDecodeError as error:
        message = re.sub(r" \(at .*\)$", "", str(error))
        repeated = "Cannot declare" in message or "Cannot overwrite" in message or "twice" in message
        if repeated:
            message += "; a key or table is written once"
        raise ConfigError([Fault(document.name, error.lineno, error.colno, "", f"not TOML: {message}")]) from None


def _parse_yaml(document: Document) -> object:
    from ruamel.yaml import YAML  # noqa: PLC0415 - slow to import, and only YAML files need it
    from ruamel.yaml.constructor import DuplicateKeyError  # noqa: PLC0415
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    try:
        value = YAML(typ="safe").load(document.text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
        message = str(error.problem or error.context).partition(" with value")[0]
        if isinstance(error, DuplicateKeyError):
            message += "; a key is written once"
        raise ConfigError([Fault(document.name, line, column, "", f"not YAML: {message}")]) from None
    except (YAMLError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError([_whole(document, f"not YAML: {reason}")]) from None
    return {} if value is None else value


class _RepeatedKeyError(Exception):
    pass


def _parse_json(document: Document) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        table = dict(pairs)
        if len(table) < len(pairs):
            raise _RepeatedKeyError
        return table

    def refuse(word: str) -> object:
        raise ValueError(f"{word} is not a number")

    try:
        return json.loads(document.text, object_pairs_hook=unique, parse_constant=refuse)
    except _RepeatedKeyError:
        key, (line, column) = repeated_json_key(document.text) or ((), place_of(document.text, 0))
        fault = Fault(document.name, line, column, write_key(key), "not JSON: the key is written twice")
        raise ConfigError([fault]) from None
    except json.JSONDecodeError as error:
        fault = Fault(document.name, error.lineno, error.colno, "", f"not JSON: {error.msg}")
        raise ConfigError([fault]) from None
    except ValueError as error:
        raise ConfigError([_whole(document, f"not JSON: {error}")]) from None


def _run_python(document: Document, file: Path) -> object:
    """Run a Python file and take its `config`. The file is the user's own program, with all that it may do."""
    # Like `python FILE`, a file may import its neighbours.
    sys.path.insert(0, str(document.folder))
    try:
        names = runpy.run_path(str(file))
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(_python_faults(document, file, error)) from None
    finally:
        sys.path.remove(str(document.folder))
    if "config" not in names:
        raise ConfigError([_whole(document, "defines no name config; assign a Config or a dict to it")])
    document.policies = policies_of(names.values())
    value = names["config"]
    if not isinstance(value, Config | Mapping):
        raise ConfigError([_whole(document, f"config is a {type(value).__name__}; assign a Config or a dict to it")])
    return value


def _python_faults(document: Document, file: Path, error: BaseException) -> list[Fault]:
    line: int | None = None
    column: int | None = None
    if isinstance(error, SyntaxError) and error.filename == str(file):
        line, column = error.lineno, error.offset
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == str(file):
                line = frame.lineno
    if isinstance(error, ValidationError):
        faults = shape_faults(document, error)
        return [Fault(fault.file, line, None, fault.key, f"{error.title}: {fault.message}") for fault in faults]
    message = message_of(error).partition("\n")[0]
    return [Fault(document.name, line, column, "", f"raised {type(error).__name__}: {message}".rstrip(": "))]


def _whole(document: Document, message: str) -> Fault:
    return Fault(document.name, None, None, "", message)


def _broken_text(value: object, path: KeyPath = ()) -> KeyPath | None:
    """The first text that cannot be written as UTF-8: escapes of JSON and YAML can make such ones."""
    if isinstance(value, str):
        return path if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value) else None
    members: Any = ()
    if isinstance(value, Mapping):
        members = value.items()
    elif isinstance(value, list | tuple):
        members = enumerate(value)
    for step, member in members:
        if isinstance(step, str) and _broken_text(step) is not None:
            return path
        if len(path) < 32 and (broken := _broken_text(member, (*path, step))) is not None:
            return broken
    return None
