from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock.config import check, load
from penstock.config.policy import policies_of
from penstock.control import weights as module
from penstock.control.controller import Controller
from penstock.control.source import FileSource
from penstock.control.status import status
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.engine.fake import FakeEngine, FakeRules

FILE = """\
import penstock
from penstock.control import weights as asked
config = {"listeners": {"web": {"bind": ":0"}}, "upstreams": {"shop": {"endpoints": ["a:1", "b:1"]}},
          "routes": [{"upstream": "shop"}]}
@penstock.weights("shop", every="50ms")
def policy(endpoints):
    return asked.answer(endpoints)
"""


@pytest.fixture
def running(
    tmp_path: Path, engine: FakeEngine, rules: FakeRules, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any], Controller]:
    """Run the file with this function behind its policy."""
    started: list[Controller] = []

    def run(answer: Any) -> Controller:
        monkeypatch.setattr(module, "answer", answer, raising=False)
        file = tmp_path / "penstock.py"
        file.write_text(FILE)
        controller = Controller(FileSource(file), engine, rules)
        controller.reload()
        started.append(controller)
        return controller

    yield run
    for controller in started:
        controller.stop()


def test_only_what_changes_is_ordered(
    running: Callable[[Any], Controller], engine: FakeEngine, eventually: Callable[[Any], None]
) -> None:
    seen: list[Any] = []
    controller = running(lambda endpoints: seen.append(endpoints) or {"a:1": 7, "b:1": 1})
    eventually(lambda: controller.weights.counts()[0]["applied"])
    assert [one.address for one in seen[0]] == ["a:1", "b:1"]
    assert [call for call in engine.calls if "b:1" in call] == []
    assert 'order shop a:1 {"weight": 7}' in engine.calls
    (row,) = status(controller)["weights"]
    assert (row["function"], row["last"], row["trouble"]) == ("policy", "applied", None)


def test_a_call_that_hangs_is_counted_and_its_late_answer_ignored(
    running: Callable[[Any], Controller],
    engine: FakeEngine,
    eventually: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HANGS", 0.05)
    monkeypatch.setattr(module, "LOOK", 0.01)
    release, returned = threading.Event(), threading.Event()

    def answer(_: Any) -> dict[str, int]:
        if not returned.is_set():
            release.wait(10)
            returned.set()
            return {"a:1": 200}
        return {"a:1": 3}

    controller = running(answer)
    eventually(lambda: controller.weights.counts()[0]["hung"] == 1)
    (row,) = controller.weights.counts()
    assert (row["last"], row["trouble"]) == ("hung", "has not returned for 0.05 s")
    release.set()
    eventually(lambda: 'order shop a:1 {"weight": 3}' in engine.calls)
    assert 'order shop a:1 {"weight": 200}' not in engine.calls


def test_a_call_that_hangs_costs_one_thread_however_often_its_configuration_is_loaded(
    running: Callable[[Any], Controller], tmp_path: Path, eventually: Callable[[Any], None], engine: FakeEngine
) -> None:
    release, entered = threading.Event(), threading.Event()

    def answer(_: Any) -> dict[str, int]:
        if not release.is_set():
            entered.set()
            release.wait(10)
            return {"a:1": 200}
        return {"a:1": 3}

    def threads() -> int:
        return sum(thread.name == "penstock-weights-shop" for thread in threading.enumerate())

    controller = running(answer)
    assert entered.wait(10)
    for _ in range(5):
        controller.reload()
    assert threads() == 1
    file = tmp_path / "penstock.py"
    file.write_text(FILE + "# other code\n")
    controller.reload()
    assert threads() == 2
    release.set()
    eventually(lambda: 'order shop a:1 {"weight": 3}' in engine.calls and threads() == 1)
    assert 'order shop a:1 {"weight": 200}' not in engine.calls


def test_no_weight_of_a_function_comes_after_the_configured_ones(
    running: Callable[[Any], Controller],
    engine: FakeEngine,
    tmp_path: Path,
    eventually: Callable[[Any], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordering, go_on, ordered = threading.Event(), threading.Event(), []

    def order(upstream: str, address: str, wanted: dict[str, int]) -> None:
        if wanted == {"weight": 7}:
            ordering.set()
            go_on.wait(10)
        ordered.append((address, wanted["weight"]))

    monkeypatch.setattr(engine, "order", order)
    controller = running(lambda endpoints: {"a:1": 7, "b:1": 7})
    assert ordering.wait(10)
    file = tmp_path / "penstock.py"
    file.write_text(FILE.partition("@")[0])
    reloading = threading.Thread(target=controller.reload)
    reloading.start()
    eventually(lambda: not controller.weights.counts())
    go_on.set()
    reloading.join()
    eventually(lambda: not any(thread.name == "penstock-weights-shop" for thread in threading.enumerate()))
    assert ordered == [("a:1", 7), ("a:1", 1), ("b:1", 1)]


def test_an_error_without_a_message_ends_one_call(
    running: Callable[[Any], Controller], engine: FakeEngine, eventually: Callable[[Any], None]
) -> None:
    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise ValueError

    answers = iter([SpeechlessError()])

    def answer(_: Any) -> dict[str, int]:
        for error in answers:
            raise error
        return {"a:1": 7}

    controller = running(answer)
    eventually(lambda: 'order shop a:1 {"weight": 7}' in engine.calls)
    (row,) = controller.weights.counts()
    assert row["failed"] == 1


def test_a_function_for_an_upstream_that_is_not_there_refuses_the_file(tmp_path: Path) -> None:
    file = tmp_path / "penstock.py"
    file.write_text(FILE.replace('weights("shop"', 'weights("shpo"'))
    loaded = load(file)
    with pytest.raises(ConfigError, match=r'weights of policy: "shpo" is not an upstream .*did you mean "shop"'):
        check(loaded)
    file.write_text(FILE + '@penstock.weights("shop")\ndef other(endpoints):\n    return {}\n')
    with pytest.raises(ConfigError, match="is its second function with weights"):
        check(load(file))


def test_an_interval_that_is_none_is_refused_where_it_stands() -> None:
    for wrong in ("1ms", "often"):
        with pytest.raises(ValueError, match=r"50ms|duration"):
            penstock.weights("shop", every=wrong)

    @penstock.weights("a")
    @penstock.weights("b", every="2s")
    def both(_: Any) -> dict[str, int]:
        return {}

    found = policies_of([both, both, 3, "x"])
    assert [(one.upstream, one.every, one.name.rpartition(".")[2]) for one in found] == [
        ("b", 2.0, "both"),
        ("a", 1.0, "both"),
    ]
