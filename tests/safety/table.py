"""The pytest side of the catalogue: which test shows which case, and the table at the end (`--safety`).

`tests/conftest.py` takes the hooks from here. A test says what it shows with
`@pytest.mark.safety(12)`, or several numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.safety.catalogue import THIS_ISSUE, Tally, read, state

if TYPE_CHECKING:
    from collections.abc import Iterable

_PROPERTY = "safety"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--safety`: only the tests of the catalogue, and its table at the end."""
    parser.addoption("--safety", action="store_true", help="run the tests of the safety catalogue and print its table")
    parser.addoption("--safety-results", metavar="FILE", help="write what became of each case to FILE, as JSON")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Write the numbers where reports carry them, and leave other tests out if only the catalogue is asked for."""
    last = len(read())
    for item in items:
        for number in numbers_of(item):
            if not 1 <= number <= last:
                raise pytest.UsageError(f"{item.nodeid}: there is no case {number} in the catalogue")
            item.user_properties.append((_PROPERTY, number))
    if config.getoption("--safety"):
        others = [item for item in items if not numbers_of(item)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if numbers_of(item)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    if not config.getoption("--safety"):
        return
    cases = tally(terminalreporter.stats)
    if file := config.getoption("--safety-results"):
        states = {entry.number: state(entry, cases.get(entry.number)) for entry in read()}
        Path(file).write_text(json.dumps(states, indent=1), "utf-8")
    lines, total = tell(cases)
    terminalreporter.section("catalogue of attacks and faults")
    for line in lines:
        terminalreporter.write_line(line, red="FAILED" in line)
    terminalreporter.write_line(total, bold=True)


def numbers_of(item: pytest.Item) -> list[int]:
    """The cases that a test shows."""
    return sorted({number for mark in item.iter_markers("safety") for number in mark.args})


def tally(stats: dict[str, list[object]]) -> dict[int, Tally]:
    """What the reports of a run say of each case. An error before or after a test is a failure of its cases."""
    cases: dict[int, Tally] = {}
    for category, outcome in (("passed", "passed"), ("failed", "failed"), ("error", "failed"), ("skipped", "skipped")):
        for report in stats.get(category, []):
            for name, number in getattr(report, "user_properties", []):
                if name == _PROPERTY:
                    cases.setdefault(number, Tally()).add(outcome)
    return cases


def tell(cases: dict[int, Tally]) -> tuple[Iterable[str], str]:
    """The lines of the table, and its total."""
    lines: list[str] = []
    counts = dict.fromkeys(("passed", "failed", "not yet"), 0)
    due = 0
    section = ""
    for entry in read():
        if entry.section != section:
            section = entry.section
            lines += ["", section]
        told = state(entry, cases.get(entry.number))
        word = next(word for word in counts if told.lower().startswith(word))
        counts[word] += 1
        due += word == "not yet" and entry.issue == THIS_ISSUE
        lines.append(f"{entry.number:4}  {entry.name:<68} {told}")
    total = ", ".join(f"{count} {word}" for word, count in counts.items())
    return lines, f"\n{sum(counts.values())} cases: {total} ({due} of issue {THIS_ISSUE})"
