"""The catalogue's list and table: every number once, and no case passes that no test has shown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.safety.catalogue import Entry, Tally, read, state
from tests.safety.table import tally, tell

ONE = Entry(1, "a", "one", "3")


def test_every_case_is_in_the_list() -> None:
    assert [entry.number for entry in read()] == list(range(1, 186))
    assert {entry.issue for entry in read()} <= {"3", "4", "5", "6", "7", "later"}


def test_a_number_out_of_its_order_is_refused() -> None:
    with pytest.raises(ValueError, match="case 3 stands where case 2 is due"):
        read("a\n1 | one | 3\n3 | three | 3\n")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (None, "not yet (issue 3)"),
        (Tally(), "not yet (skipped here)"),
        (Tally(passed=2), "passed"),
        (Tally(passed=2, failed=1), "FAILED (1 of 3)"),
        (Tally(passed=2, skipped=1), "not yet (skipped here)"),
    ],
)
def test_a_case_passes_only_if_tests_say_so(said: Tally | None, told: str) -> None:
    assert state(ONE, said) == told


def test_what_reports_say_is_counted_for_each_number() -> None:
    def report(*numbers: int) -> object:
        return SimpleNamespace(user_properties=[("safety", number) for number in numbers])

    cases = tally({"passed": [report(1), report(1, 2), report()], "error": [report(2)], "skipped": [report(3)]})
    assert cases == {1: Tally(passed=2), 2: Tally(passed=1, failed=1), 3: Tally(skipped=1)}
    lines, total = tell(cases)
    assert sum(line.lstrip()[:1].isdigit() for line in lines) == 185
    assert "185 cases: 1 passed, 1 failed, 183 not yet" in total
