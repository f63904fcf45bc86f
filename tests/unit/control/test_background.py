from __future__ import annotations

import os
import threading

import pytest

from penstock.control.background import NICENESS, in_background


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_work_is_nicer_and_the_caller_is_not() -> None:
    before = niceness()
    assert in_background(niceness) == min(before + NICENESS, 19)
    assert niceness() == before


def test_what_the_work_raises_is_raised_here() -> None:
    def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError, match="x"):
        in_background(work)


def test_without_the_right_to_it_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbidden)
    assert in_background(lambda: 7) == 7
