"""The list of all cases, `catalogue.txt`, as values, and what its tests make of a case: passed, failed or not yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).with_name("catalogue.txt")
THIS_ISSUE = "3"
"""The issue whose cases are to have tests; those of others may be without."""


@dataclass(frozen=True)
class Entry:
    """One numbered case."""

    number: int
    section: str
    name: str
    issue: str
    rest: str = ""


@dataclass
class Tally:
    """What the tests of one case said."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, outcome: str) -> None:
        """Count one test: `passed`, `failed` or `skipped`."""
        setattr(self, outcome, getattr(self, outcome) + 1)


def read(text: str | None = None) -> list[Entry]:
    """All cases in their order. Raises `ValueError` for a line that cannot be read or a number out of its order."""
    entries: list[Entry] = []
    section = ""
    for line in (PATH.read_text("utf-8") if text is None else text).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if " | " not in line:
            section = line
            continue
        number, name, issue, *rest = (part.strip() for part in line.split(" | "))
        entry = Entry(int(number), section, name, issue, *rest)
        if entry.number != len(entries) + 1:
            raise ValueError(f"case {entry.number} stands where case {len(entries) + 1} is due")
        entries.append(entry)
    return entries


def state(entry: Entry, tally: Tally | None) -> str:
    """`passed` only if a test said so, none failed and none was skipped."""
    if tally is None:
        return "not yet (later)" if entry.issue == "later" else f"not yet (issue {entry.issue})"
    if tally.failed:
        return f"FAILED ({tally.failed} of {tally.failed + tally.passed})"
    if tally.skipped or not tally.passed:
        return "not yet (skipped here)"
    return f"passed; {entry.rest}" if entry.rest else "passed"
