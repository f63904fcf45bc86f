from __future__ import annotations

import json
from typing import TYPE_CHECKING

import fuzz.expressions
from fuzz import rust
from fuzz.plan import FILE, plan

from penstock.config import compile_expression
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    import pytest

CRASHED = """\
INFO: Seed: 1
#100\tNEW    cov: 375 ft: 1567 corp: 4/7b exec/s: 0 rss: 28Mb
thread '<unnamed>' (1) panicked at src/chunked.rs:21:9:
more taken than given
==1== ERROR: libFuzzer: deadly signal
artifact_prefix='a/'; Test unit written to a/crash-1
stat::number_of_executed_units: 120
stat::average_exec_per_sec:     60
"""


def test_the_plan_of_the_rust_target_is_that_of_this_version() -> None:
    assert json.loads(FILE.read_text()) == plan(), f"python -m fuzz.plan > {FILE.name} makes it anew"


def test_a_finding_is_told_with_the_way_to_see_it_again() -> None:
    report = rust.read("chunked", 77, CRASHED)
    assert (report.executions, report.coverage, report.seconds) == (120, 375, 2.0)
    assert "more taken than given" in report.finding
    assert report.finding.endswith("cargo fuzz run -s none chunked a/crash-1")
    assert rust.read("chunked", 0, CRASHED).finding == ""


def test_what_the_compiler_may_not_do_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        """Fails as no compiler may, on one word; refuses without a place on another."""

        @staticmethod
        def __wrapped__(text: str) -> object:
            if "method" in text:
                raise IndexError("out of range")
            if "scheme" in text:
                raise ExpressionError(text, (len(text) + 5, len(text) + 9), "beyond the end")
            return compile_expression.__wrapped__(text)

    monkeypatch.setattr(fuzz.expressions, "compile_expression", Broken)
    tried, _, finding = fuzz.expressions.run(20, seed=1)
    assert tried < 1000
    assert "method" in finding or "points at" in finding


def test_a_short_run_finds_nothing() -> None:
    tried, compiled, finding = fuzz.expressions.run(0.3, seed=1)
    assert finding == ""
    assert tried > compiled > 0
