"""Every dialogue of `cases/`, cut in every way: at each offset of what the client says and of what the origin says.

A case passes only if all of its runs go as written, each with a request of somebody else answered beside it, and if
nothing is left behind: no descriptor, no memory, no panic.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.safety.base_line import BaseLine
from tests.wire.cut import ANSWERS, BYTES, WHOLE, Cut, at, offsets
from tests.wire.harness import run_case, said
from tests.wire.script import Case, parse_file
from tests.wire.stage import Stage, Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = [case for path in sorted((Path(__file__).parent / "cases").glob("*.case")) for case in parse_file(path)]
FEW = 4


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """The stage that the cases of one configuration share."""
    shared = Stages()
    yield shared
    shared.close()


def _params() -> Iterator[object]:
    for case in CASES:
        assert case.number, f"{case.file}:{case.line}: {case.name!r} does not begin with a number of the catalogue"
        yield pytest.param(case, id=case.title, marks=pytest.mark.safety(case.number))


@pytest.mark.parametrize("case", list(_params()))
def test_case(case: Case, stages: Stages) -> None:
    """The dialogue goes as written, however its bytes are cut."""
    stage = stages.of(case.config)
    try:
        run_case(case, stage)
        # Threads that were late to begin open something once; what a case leaves behind, it leaves each time.
        left = _repeat(case, stage) and _repeat(case, stage)
        assert not left, left
    except BaseException:
        stages.close()  # what a failed case left under way is not the next one's
        raise


def _repeat(case: Case, stage: Stage) -> str:
    """Run a case in every way; what is left behind."""
    base = BaseLine(stage.subject)
    for cut in cuts(case, stage):
        run_case(case, stage, cut)
    return base.left()


def cuts(case: Case, stage: Stage) -> Iterator[Cut]:
    """The ways in which a case is run."""
    yield WHOLE
    if case.replay == "whole":
        return
    yield from (BYTES, ANSWERS)
    for side in ("client", "origin"):
        where = list(offsets(said(case, side, stage.names())))
        if case.replay == "some":
            where = where[:: max(1, len(where) // FEW)]
        yield from (at(offset, side) for offset in where)
