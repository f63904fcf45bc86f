"""The files that follow what listeners capture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from penstock.config import load_value
from penstock.control.captures import CaptureFiles, HarFile
from penstock.engine.fake import FakeEngine

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def entries(file: Path) -> list[Any]:
    log = json.loads(file.read_text())["log"]
    assert (log["version"], log["creator"]["name"]) == ("1.2", "Penstock")
    return list(log["entries"])


def test_a_file_is_whole_after_each_write(tmp_path: Path) -> None:
    har = HarFile(tmp_path / "a.har", 10_000)
    har.append([])
    assert not (tmp_path / "a.har").exists()
    har.append([{"a": "é"}])
    assert entries(tmp_path / "a.har") == [{"a": "é"}]
    har.append([{"b": 1}, {"b": 2}])
    har.append([{"c": 1}])
    assert entries(tmp_path / "a.har") == [{"a": "é"}, {"b": 1}, {"b": 2}, {"c": 1}]


def test_a_full_file_and_one_of_another_process_are_put_aside(tmp_path: Path) -> None:
    (tmp_path / "a.har").write_text("before")
    har = HarFile(tmp_path / "a.har", 330)
    har.append([{"a": "x" * 100}])
    assert (tmp_path / "a.har.1").read_text() == "before"
    har.append([{"b": "x" * 100}])
    har.append([{"c": "x" * 100}])
    assert [list(entry) for entry in entries(tmp_path / "a.har")] == [["c"]]
    assert [list(entry) for entry in entries(tmp_path / "a.har.1")] == [["a"], ["b"]]


def test_what_cannot_be_written_is_told_once_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    files = CaptureFiles(engine)
    config = {
        "listeners": {
            "web": {"bind": ":1", "capture": {"to": str(tmp_path / "none" / "web.har")}},
            "other": {"bind": ":2", "capture": {"to": str(tmp_path / "other.har")}},
        },
        "routes": [{"respond": {}}],
    }
    engine.captured = {1: {"a": 1}}
    files._files = {}
    files._stopping.set()
    files.run(load_value(config))
    files._write()
    engine.captured[2] = {"a": 2}
    files._write()
    assert entries(tmp_path / "other.har") == [{"a": 1, "_id": 1}, {"a": 2, "_id": 2}]
    assert len([one for one in caplog.records if "web captures is not written" in one.message]) == 1
