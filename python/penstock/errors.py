"""The one exception tree: everything that Penstock raises on purpose descends from `PenstockError`.

Only exception types live here, with what reads any exception's message, and this module imports nothing of the package,
so that every layer may import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong (or, in a list of warnings, doubtful) in a configuration."""

    file: str
    """The file as the user named it; `<config>` for a configuration that came from Python."""
    line: int | None
    """Line in the file, from 1. `None` where no line can be named."""
    column: int | None
    """Column in the line, from 1. `None` where no column can be named."""
    key: str
    """Path of the key, such as `routes[3].upstream`. Empty for a fault of the whole file."""
    message: str
    """What is wrong and what is allowed. May hold further lines, indented, that point into an expression."""

    def __str__(self) -> str:
        """`file:line: key: message`, with the column where there is no key to name."""
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None and not self.key:
                place += f":{self.column}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class PenstockError(Exception):
    """Root of the tree. `str()` of any of them is a message for people."""


class ConfigError(PenstockError):
    """A configuration that is refused, with every fault that was found in it."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        """Keep the faults in the order given."""
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


class ExpressionError(PenstockError):
    """A text that is not an expression of the language (`docs/expressions.md`)."""

    def __init__(self, text: str, span: tuple[int, int], message: str, expected: str = "") -> None:
        """`span` is the first and one-past-last character of the mistake, from 0."""
        self.text = text
        self.span = span
        self.message = message
        self.expected = expected
        super().__init__(message)

    @property
    def line(self) -> int:
        """Line of the mistake within the text, from 1."""
        return self.text.count("\n", 0, self.span[0]) + 1

    @property
    def column(self) -> int:
        """Column of the mistake within its line, from 1."""
        return self.span[0] - self.text.rfind("\n", 0, self.span[0])

    def __str__(self) -> str:
        """The message, then the line of the expression with a mark under the mistake."""
        start, end = self.span
        begin = self.text.rfind("\n", 0, start) + 1
        finish = self.text.find("\n", begin)
        line = self.text[begin : finish if finish >= 0 else len(self.text)]
        shown, mark = _window(line, start - begin, end - begin)
        expected = f"; expected {self.expected}" if self.expected else ""
        place = f"column {self.column}" if "\n" not in self.text else f"line {self.line}, column {self.column}"
        return f"{self.message}{expected} ({place})\n    {shown}\n    {mark}"


class EngineError(PenstockError):
    """The data plane refused or failed."""


class ControlError(PenstockError):
    """A running process could not be reached, or refused a command."""


class UsageError(PenstockError):
    """A command or a call that was given what it does not take."""


def message_of(error: BaseException) -> str:
    """What an exception of the user's code says. Its `__str__` is the user's code, too, and may raise."""
    try:
        return str(error)
    except BaseException as worse:  # whatever it raises, `exit()` included
        return f"its message cannot be read: {type(worse).__name__}"


def _window(line: str, start: int, end: int, width: int = 110) -> tuple[str, str]:
    """The part of a long line around a mistake, and the line that marks it."""
    line = "".join(c if c.isprintable() else " " for c in line)
    if len(line) > width:
        cut = max(0, min(start - width // 3, len(line) - width))
        line, start, end = line[cut : cut + width], start - cut, end - cut
    end = max(start + 1, min(end, len(line)))
    return line, " " * start + "^" * (end - start)
