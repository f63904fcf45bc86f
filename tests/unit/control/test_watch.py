from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.config.file import LARGEST_FILE
from penstock.control import watch
from penstock.control.watch import FileWatch, NamedWatch, Watch, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

OLD, NEW, NEWER = (1, 1, 10, 1), (1, 1, 11, 2), (1, 1, 12, 3)


def looks(start: watch.Look | None, *seen: watch.Look | None, digest: str = "new", tried: str = "old") -> list[bool]:
    """What the watch says to one look after the other."""
    deciding = Watch(start)
    return [deciding.see(look, lambda: digest, tried) for look in seen]


def test_nothing_happens_while_nothing_changes() -> None:
    assert looks(OLD, OLD, OLD) == [False, False]


def test_a_change_counts_once_it_rests() -> None:
    assert looks(OLD, NEW, NEW, NEW) == [False, True, False]


def test_a_file_that_is_being_written_is_left_alone_until_it_rests() -> None:
    assert looks(OLD, NEW, NEWER, NEWER) == [False, False, True]


def test_a_content_that_was_tried_is_not_tried_again() -> None:
    assert looks(OLD, NEW, NEW, digest="same", tried="same") == [False, False]


def test_a_file_that_is_gone_for_a_moment_is_waited_for() -> None:
    assert looks(OLD, None, None, NEW, NEW) == [False, False, False, True]


def test_the_content_is_read_only_when_a_change_rests() -> None:
    asked = []
    deciding = Watch(OLD)
    for look in (OLD, NEW, NEWER, NEWER, NEWER):
        deciding.see(look, lambda: asked.append(1) or "new", "old")  # type: ignore[func-returns-value]
    assert len(asked) == 1


def named(*seen: watch.Looks, loaded: watch.Looks) -> list[bool]:
    """As `looks`, of files that the configuration names."""
    deciding = NamedWatch()
    return [deciding.see(look, loaded) for look in seen]


def test_files_that_are_named_count_once_they_rest_and_once_for_each_change() -> None:
    page, other = Path("page.html"), Path("other.html")
    old, new, newer = {page: OLD, other: OLD}, {page: NEW, other: OLD}, {page: NEW, other: NEWER}
    assert named(old, old, loaded=old) == [False, False]
    assert named(new, new, new, new, loaded=old) == [False, True, False, False]
    assert named(new, newer, newer, old, loaded=old) == [False, False, True, False]
    assert named({page: None, other: OLD}, {page: None, other: OLD}, loaded=old) == [False, False], "being replaced"
    missing = {page: None, other: OLD}
    assert named(missing, missing, old, old, loaded=missing) == [False, False, False, True], "it came"


def test_a_digest_is_of_what_a_load_would_read_and_is_not_waited_for(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    with large.open("wb") as opened:
        opened.truncate(LARGEST_FILE + 1)
        before = digest_of(large)
        opened.seek(0, os.SEEK_END)
        opened.write(b"beyond the limit")
    assert before == digest_of(large) is not None
    os.mkfifo(tmp_path / "pipe.toml")
    assert digest_of(tmp_path / "pipe.toml") is None
    assert digest_of(tmp_path) is None


def test_the_thread_calls_for_a_changed_file(
    config: Path, monkeypatch: pytest.MonkeyPatch, eventually: Callable[[Callable[[], object]], None]
) -> None:
    monkeypatch.setattr(watch, "INTERVAL", 0.01)
    tried = digest_of(config)
    changed = threading.Event()
    watching = FileWatch(config, lambda: tried, changed.set)
    watching.start()
    config.write_text("# changed\n", "utf-8")
    eventually(changed.is_set)
    watching.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-watch"]
