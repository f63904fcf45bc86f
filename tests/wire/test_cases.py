"""Every dialogue of `cases/`: as written, the client's bytes one by one and in halves, the origin's one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.wire.cut import ANSWERS, BYTES, HALVES, WHOLE, Cut
from tests.wire.harness import run_case
from tests.wire.script import Case, parse_file
from tests.wire.stage import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = [case for path in sorted((Path(__file__).parent / "cases").glob("*.case")) for case in parse_file(path)]
CUTS = (WHOLE, BYTES, HALVES, ANSWERS)


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """The stage that the cases of one configuration share."""
    shared = Stages()
    yield shared
    shared.close()


def _runs() -> Iterator[object]:
    for case in CASES:
        for cut in CUTS[:1] if case.replay == "whole" else CUTS:
            yield pytest.param(case, cut, id=f"{case.file.removesuffix('.case')}: {case.title} ({cut.name})")


@pytest.mark.parametrize(("case", "cut"), list(_runs()))
def test_case(case: Case, cut: Cut, stages: Stages) -> None:
    """The dialogue goes as written."""
    try:
        run_case(case, stages.of(case.config), cut)
    except BaseException:
        stages.close()  # what a failed case left under way is not the next one's
        raise
