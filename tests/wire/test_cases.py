"""Every dialogue of `cases/`: as written, the client's bytes one by one and in halves, the origin's one by one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.wire.harness import run_case
from tests.wire.script import Case, parse_file
from tests.wire.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = [case for path in sorted((Path(__file__).parent / "cases").glob("*.case")) for case in parse_file(path)]
CUTS = ("whole", "bytes", "halves", "answers")


class Stages:
    """The running stage; one at a time, because cases of one configuration follow one another."""

    def __init__(self) -> None:
        self._text: str | None = None
        self._stage: Stage | None = None

    def of(self, case: Case) -> Stage:
        """The stage for a case, started anew if the last one was another."""
        if self._stage is None or self._text != case.config:
            self.close()
            self._stage, self._text = Stage(case.config), case.config
        return self._stage

    def close(self) -> None:
        """Stop it."""
        if self._stage is not None:
            self._stage.close()
        self._stage = None


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """The stage that the cases of one configuration share."""
    shared = Stages()
    yield shared
    shared.close()


def _runs() -> Iterator[object]:
    for case in CASES:
        for cut in CUTS[:1] if case.whole_only else CUTS:
            yield pytest.param(case, cut, id=f"{case.file.removesuffix('.case')}: {case.title} ({cut})")


@pytest.mark.parametrize(("case", "cut"), list(_runs()))
def test_case(case: Case, cut: str, stages: Stages) -> None:
    """The dialogue goes as written."""
    try:
        run_case(case, stages.of(case), cut)
    except BaseException:
        stages.close()  # what a failed case left under way is not the next one's
        raise
