from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from penstock.control.controller import HISTORY, Controller, State
from penstock.control.source import FileSource, ValueSource
from penstock.engine import Doubt
from penstock.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.config import Loaded, Memory
    from penstock.engine.fake import FakeEngine, FakeRules


class Recorder:
    """A companion that remembers what became of its changes."""

    name = "recorder"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fault: str | None = None
        self.breaks = False

    def prepare(self, loaded: Loaded) -> Recorder:
        if self.fault:
            raise ConfigError([loaded.fault("admin.bind", self.fault)])
        self.seen.append("prepare")
        return self

    def commit(self) -> None:
        if self.breaks:
            raise RuntimeError("can't start new thread")
        self.seen.append("commit")

    def abort(self) -> None:
        self.seen.append("abort")


def test_the_first_apply_serves(controller: Controller, engine: FakeEngine) -> None:
    assert controller.state is State.STARTING
    applied = controller.reload()
    assert applied.version == 1
    assert controller.state is State.SERVING
    assert engine.plans[0]["routes"][0]["name"] == "images"
    assert [attempt.outcome for attempt in controller.history] == ["applied"]


def test_versions_count_accepted_plans(controller: Controller, engine: FakeEngine, config: Path) -> None:
    controller.reload()
    good = config.read_text("utf-8")
    config.write_text("nonsense", "utf-8")
    with pytest.raises(ConfigError):
        controller.reload()
    config.write_text(good, "utf-8")
    assert controller.reload().version == 2
    assert [plan["version"] for plan in engine.plans] == [1, 2]


def test_a_refused_reload_keeps_the_old_and_shows_why(controller: Controller, engine: FakeEngine, config: Path) -> None:
    controller.reload()
    config.write_text(config.read_text("utf-8").replace('upstream = "shop"', 'upstream = "shpo"'), "utf-8")
    with pytest.raises(ConfigError):
        controller.reload()
    refusal = controller.last_refusal
    assert refusal is not None
    assert refusal.faults[0].key == "routes[1].upstream"
    assert refusal.faults[0].line == 14
    assert len(engine.plans) == 1
    assert controller.state is State.SERVING
    assert controller.counts == {"applied": 1, "refused": 1}


def test_the_refusal_goes_when_a_change_is_accepted(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    engine.faults = {"listeners[0].bind[0]": "in use"}
    with pytest.raises(ConfigError):
        controller.reload()
    assert controller.last_refusal is not None
    controller.reload()
    assert controller.last_refusal is None


def test_faults_of_the_data_plane_name_the_line_of_the_file(
    controller: Controller, engine: FakeEngine, rules: FakeRules, config: Path
) -> None:
    plain = config.read_text("utf-8")
    config.write_text(plain + '[[tests]]\nurl = "http://x.example/"\nroute = "images"\n', "utf-8")
    rules.faults = {"upstreams[0].endpoints[1].address": "no"}
    with pytest.raises(ConfigError) as checked:
        controller.reload()
    config.write_text(plain, "utf-8")  # without tests, applying checks
    engine.faults = {"listeners[0].bind[0]": "in use"}
    with pytest.raises(ConfigError) as applied:
        controller.reload()
    assert str(checked.value) == f"{config}:5: upstreams.shop.endpoints[1].address: no"
    assert str(applied.value) == f"{config}:2: listeners.web.bind[0]: in use"


def test_a_test_in_the_file_that_fails_refuses_the_change(controller: Controller, config: Path) -> None:
    text = config.read_text("utf-8")
    config.write_text(text + '[[tests]]\nurl = "http://x.example/"\nroute = "shop"\n', "utf-8")
    with pytest.raises(ConfigError) as refused:
        controller.reload()
    assert refused.value.faults[0].key == "tests[0]"
    assert 'expected route "shop", but it takes "images"' in refused.value.faults[0].message


def test_a_test_in_the_file_that_passes(controller: Controller, rules: FakeRules, config: Path) -> None:
    text = config.read_text("utf-8")
    config.write_text(text + '[[tests]]\nurl = "http://x.example/"\nroute = "shop"\nupstream = "shop"\n', "utf-8")
    rules.takes = {"/": "shop"}
    assert controller.reload().version == 1


def test_companions_change_only_after_the_data_plane(controller: Controller, engine: FakeEngine) -> None:
    companion = Recorder()
    controller.add(companion)
    controller.reload()
    engine.faults = {"listeners[0].bind[0]": "in use"}
    with pytest.raises(ConfigError):
        controller.reload()
    assert companion.seen == ["prepare", "commit", "prepare", "abort"]


def test_a_companion_that_cannot_follow_refuses_the_change(controller: Controller, engine: FakeEngine) -> None:
    first, second = Recorder(), Recorder()
    controller.add(first)
    controller.add(second)
    second.fault = "in use"
    with pytest.raises(ConfigError, match="in use"):
        controller.reload()
    assert first.seen == ["prepare", "abort"]
    assert engine.plans == []


def test_no_change_while_draining(controller: Controller) -> None:
    controller.reload()
    assert controller.drain(1.0)
    assert controller.state is State.DRAINING
    with pytest.raises(ControlError, match="draining"):
        controller.reload()


def test_what_cannot_follow_is_told_of_and_keeps_nothing_else_from_it(
    controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Recorder(), Recorder()
    first.breaks = True
    controller.add(first)
    controller.add(second)
    applied = controller.reload()
    (told,) = applied.warnings
    assert told == """recorder could not follow the configuration, which runs: RuntimeError("can't start new thread")"""
    assert second.seen == ["prepare", "commit"]
    assert controller.applied is applied
    assert (controller.state, controller.history[-1].warnings) == (State.SERVING, applied.warnings)
    assert "recorder could not follow" in caplog.text


def test_the_answer_has_all_warnings_at_their_places(controller: Controller, engine: FakeEngine, config: Path) -> None:
    config.write_text(config.read_text("utf-8") + '[upstreams.spare]\nendpoints = ["a:1"]\n', "utf-8")
    engine.warnings = ("1 names are not resolved yet",)
    engine.doubts = (Doubt("routes[0].match", "hardly meant"),)
    expected = (
        f"{config}:15: upstreams.spare: no route or listener uses it",
        f"{config}:9: routes[0].match: hardly meant",
        "1 names are not resolved yet",
    )
    assert controller.reload().warnings == controller.history[-1].warnings == expected


class SlowSource(FileSource):
    """A file whose load lasts until the event is set."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.begun, self.go_on = threading.Event(), threading.Event()

    def load(self, memory: Memory) -> Loaded:
        self.begun.set()
        assert self.go_on.wait(10)
        return super().load(memory)


@pytest.mark.parametrize("end", [lambda controller: controller.drain(1.0), Controller.stop], ids=["drain", "stop"])
def test_what_was_being_loaded_is_not_run_after_the_end(
    controller: Controller, engine: FakeEngine, config: Path, end: Callable[[Controller], object]
) -> None:
    companion, source, raised = Recorder(), SlowSource(config), []
    controller.add(companion)
    controller.reload()

    def reload() -> None:
        try:
            controller.reload(source)
        except ControlError as error:
            raised.append(str(error))

    reloading = threading.Thread(target=reload)
    reloading.start()
    assert source.begun.wait(10)
    end(controller)
    state = controller.state
    source.go_on.set()
    reloading.join()
    assert len(engine.plans) == 1
    assert raised == [f"the process is {state.value}: its configuration cannot change any more"]
    assert (controller.state, controller.last_refusal) == (state, None)
    assert companion.seen == ["prepare", "commit", "prepare", "abort"]


def test_another_source_takes_the_place_only_if_it_is_accepted(controller: Controller) -> None:
    controller.reload()
    with pytest.raises(ConfigError):
        controller.reload(ValueSource({"listeners": 3}))
    assert controller.source.endswith("penstock.toml")
    controller.reload(ValueSource({"listeners": {"web": {"bind": ":0"}}, "routes": [{"respond": {}}]}))
    assert controller.source == "<config>"


def test_the_history_is_limited(controller: Controller) -> None:
    for _ in range(HISTORY + 5):
        controller.reload()
    assert len(controller.history) == HISTORY
    assert controller.counts["applied"] == HISTORY + 5


def test_an_explanation_carries_the_text_of_the_matches(controller: Controller, engine: FakeEngine) -> None:
    with pytest.raises(ControlError):
        controller.explain({"method": "GET", "target": "/"})
    controller.reload()
    engine.takes = {"/": "shop"}
    found = controller.explain({"method": "GET", "target": "/"})
    assert found.passed_over[0].match == 'path.startswith("/images/")'


def test_reloads_from_many_threads_are_one_after_the_other(config: Path, engine: FakeEngine, rules: FakeRules) -> None:
    controller = Controller(FileSource(config), engine, rules)
    threads = [threading.Thread(target=controller.reload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [plan["version"] for plan in engine.plans] == list(range(1, 9))


def test_a_fault_of_ours_is_a_refusal_too(
    controller: Controller, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.reload()

    def broken(plan: str) -> None:
        raise RuntimeError(len(plan))

    monkeypatch.setattr(engine, "apply", broken)
    with pytest.raises(RuntimeError):
        controller.reload()
    assert controller.last_refusal is not None
    assert "cannot be applied: RuntimeError" in controller.last_refusal.faults[0].message
