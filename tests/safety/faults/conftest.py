"""`penstock run` as a process of its own, with an environment that a test may spoil."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from tests.product.product import Running, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `penstock run` on a configuration's text; what still runs at the end of the test is killed."""
    with contextlib.ExitStack() as stack:

        def begin(text: str, env: dict[str, str] | None = None) -> Running:
            config = tmp_path / "penstock.toml"
            config.write_text(text, "utf-8")
            return stack.enter_context(serving(config, env))

        yield begin
