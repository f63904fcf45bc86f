"""Certificates that change all the time under load; `python -m tests.soak certificates` does it for longer."""

from __future__ import annotations

import pytest
from tests.load.certificates import run_certificates


@pytest.mark.safety(181)
def test_no_handshake_fails_while_certificates_change() -> None:
    tally, certificates = run_certificates(6)
    assert (tally.wrong, tally.examples) == (0, [])
    assert tally.answered > 20
    assert certificates > 2, "some of the replaced ones were served"
