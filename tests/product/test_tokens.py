"""No answer ever reaches another's request: keep-alive, pipelining and aborts mixed."""

from __future__ import annotations

import os

from tests.load.tokens import run_tokens

REQUESTS = int(os.environ.get("PENSTOCK_TOKEN_REQUESTS", "100000"))


def test_every_answer_carries_its_own_token() -> None:
    tally = run_tokens(REQUESTS)
    assert tally.wrong == 0, tally.examples
    assert tally.answered + tally.aborted >= REQUESTS - 1
    assert tally.aborted > 0
