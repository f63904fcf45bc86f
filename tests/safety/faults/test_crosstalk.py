"""No answer reaches another's request, whatever else goes on. `python -m tests.soak crosstalk` hunts at full size."""

from __future__ import annotations

import pytest

from tests.load.crosstalk import run_crosstalk

REQUESTS = 50_000


@pytest.mark.safety(182)
def test_every_answer_carries_its_own_token_amid_aborts_retries_and_reloads() -> None:
    tally = run_crosstalk(REQUESTS)
    assert tally.wrong == 0, tally.examples
    assert tally.answered + tally.aborted >= REQUESTS - 1
    assert tally.aborted > 0
    assert tally.retried > 0
