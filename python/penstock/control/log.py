"""The process log: what happens to the process, as lines for people or for machines.

A line is one event whatever is in it: characters that could end or disguise it are escaped. Requests are not logged
here; they have the access log.
"""

from __future__ import annotations

import datetime
import json
import logging
import sys
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    from penstock.engine import Event

LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
COLOURS = {logging.INFO: "\x1b[32m", logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m"}
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

log = logging.getLogger("penstock")
# In a program that has not set up logging, a library is silent.
log.addHandler(logging.NullHandler())


def write_log(form: Literal["text", "json"], stream: TextIO = sys.stderr) -> None:
    """Write the process log to `stream` from now on: text is coloured only on a terminal."""
    to = logging.StreamHandler(stream)
    to.setFormatter(JsonLines() if form == "json" else TextLines(colours=stream.isatty()))
    log.handlers[:] = [to]
    log.setLevel(logging.INFO)
    log.propagate = False
    # What starlette and uvicorn have to say is about the admin listener, and belongs into the same log.
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).handlers[:] = [to]
        logging.getLogger(name).setLevel(logging.WARNING)


def log_event(event: Event) -> None:
    """Write what happened in the data plane."""
    log.log(LEVELS[event.level], "%s", event.message, extra={"kind": event.kind, "fields": event.fields})


class TextLines(logging.Formatter):
    """`2026-01-01T12:00:00.123Z info message key=value`."""

    def __init__(self, colours: bool) -> None:
        """Colour the level if `colours`."""
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line; a traceback follows indented."""
        level = record.levelname.lower()
        if self._colours:
            level = f"{COLOURS.get(record.levelno, '')}{level}\x1b[0m"
        fields = "".join(f" {key}={_value(value)}" for key, value in _fields(record).items())
        line = f"{_time(record)} {level} {_escape(record.getMessage())}{fields}"
        if record.exc_info:
            line += "\n    " + _escape(self.formatException(record.exc_info), keep="\n").replace("\n", "\n    ")
        return line


class JsonLines(logging.Formatter):
    """One JSON object a line: `at`, `level`, `message` and whatever fields there are."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        row = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = {key: value for key, value in vars(record).items() if key not in _OWN}
    more = fields.pop("fields", {})
    return {**fields, **more}


def _time(record: logging.LogRecord) -> str:
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text and all(character.isprintable() and character not in ' "=' for character in text)
    return text if plain else json.dumps(text)


def _escape(text: str, keep: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else f"\\x{ord(c):02x}" for c in text)
