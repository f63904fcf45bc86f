"""What the unit tests of the control plane share: a data plane that opens nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from penstock.control.controller import Controller
from penstock.control.source import FileSource
from penstock.engine.fake import FakeEngine, FakeRules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TOML = """\
[listeners.web]
bind = "127.0.0.1:0"

[upstreams.shop]
endpoints = ["127.0.0.1:9001", "127.0.0.1:9002"]

[[routes]]
name = "images"
match = 'path.startswith("/images/")'
respond = { status = 204 }

[[routes]]
name = "shop"
upstream = "shop"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration file."""
    path = tmp_path / "penstock.toml"
    path.write_text(TOML, "utf-8")
    return path


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def rules() -> FakeRules:
    return FakeRules()


@pytest.fixture
def controller(config: Path, engine: FakeEngine, rules: FakeRules) -> Controller:
    """A controller over `config` that runs nothing yet."""
    return Controller(FileSource(config), engine, rules)


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until a condition holds, for ten seconds at most."""

    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in 10 s"
            time.sleep(0.005)  # noqa: TID251 - the pause between two looks at a condition with a deadline

    return wait
