"""`penstock run` as a process of its own, with an environment that a test may spoil."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.product.product import Running, command, read_log
from tests.product.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start `penstock run` on a configuration's text; what still runs at the end of the test is killed."""
    started: list[tuple[Running, threading.Thread]] = []

    def begin(text: str, env: dict[str, str] | None = None) -> Running:
        folder = tmp_path / f"run{len(started)}"
        folder.mkdir()
        config, control = folder / "penstock.toml", folder / "control" / "control.sock"
        config.write_text(text, "utf-8")
        words = [*command(), "run", "-c", str(config), "--control", str(control), "--log", "json"]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
        running = Running(process, control, config)
        assert process.stderr is not None
        reading = threading.Thread(target=read_log, args=(process.stderr, running.lines), daemon=True)
        reading.start()
        started.append((running, reading))
        ready = lambda: "taking commands" in running.messages() or process.poll() is not None  # noqa: E731
        wait_for(ready, "it serves", 20)
        assert process.poll() is None, running.lines
        return running

    yield begin
    for running, reading in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        reading.join()
        if running.process.stderr:
            running.process.stderr.close()
