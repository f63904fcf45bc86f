"""What all tests share: the marker `safety(number, …)`, which says what case of the catalogue a test shows."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.safety.table import pytest_addoption, pytest_collection_modifyitems, pytest_terminal_summary
from tests.wire.peers import Origin

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an example takes says something of the machine, not of the code.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

__all__ = ["pytest_addoption", "pytest_collection_modifyitems", "pytest_terminal_summary", "scripted"]


@pytest.fixture
def scripted() -> Iterator[Origin]:
    """An endpoint that says what the test tells it to."""
    with closing(Origin()) as origin:
        yield origin
