"""The training of builds, as far as that can be seen without ten minutes of it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from bench import builds, train
from bench.launch import BenchError, free_port
from bench.peers import Scenario
from bench.rows import ROWS

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def test_what_it_runs_is_in_the_bench():
    assert set(train.ROWS.split(",")) <= set(ROWS)


def test_what_is_dear_runs(tmp_path: Path) -> None:
    peer = train._Dear(builds.Build("instrumented", tmp_path))
    (tmp_path / "penstock.toml").write_text(peer.configuration(tmp_path, free_port(), 8081, Scenario()))
    with penstock.Proxy(tmp_path / "penstock.toml") as proxy:
        assert proxy.address("out")[1] == peer.out


def test_a_compiler_without_its_tool_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess((), 0, f"{tmp_path}\n", "")

    monkeypatch.setattr(subprocess, "run", elsewhere)
    with pytest.raises(BenchError, match="rustup component add llvm-tools"):
        train.tool()


def test_a_build_that_counted_nothing_is_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "FOLDER", tmp_path)
    with pytest.raises(BenchError, match="counted nothing"):
        train._merge(tmp_path / "llvm-profdata")
