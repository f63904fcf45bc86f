"""Reloads under load. CI runs a tenth of the full size; `python -m tests.soak reloads` runs it whole."""

from __future__ import annotations

import os

from tests.load.reloads import run_reloads

REQUESTS = int(os.environ.get("PENSTOCK_RELOAD_REQUESTS", "100000"))


def test_a_hundred_reloads_lose_and_mix_nothing() -> None:
    tally = run_reloads(REQUESTS)
    assert tally.wrong == 0, tally.examples
    assert tally.answered >= REQUESTS - 1
