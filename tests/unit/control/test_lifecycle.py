from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from penstock.control.commands import Commands
from penstock.control.controller import Controller, State
from penstock.control.lifecycle import Lifecycle, Order
from penstock.control.signals import ORDERS, deliver
from penstock.engine import Doubt
from penstock.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.engine.fake import FakeEngine

    Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture
def lifecycle(controller: Controller) -> Lifecycle:
    controller.reload()
    return Lifecycle(controller)


@pytest.fixture
def slow_drain(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A drain that lasts until the event is set."""
    finished = threading.Event()
    monkeypatch.setattr(engine, "drain", lambda wait: finished.wait(10) and engine.drains)
    return finished


def test_terminate_drains_and_ends(lifecycle: Lifecycle, engine: FakeEngine) -> None:
    lifecycle.order(Order.TERMINATE)
    lifecycle.run()
    assert lifecycle.drained is True
    assert "drain 30" in engine.calls


def test_it_has_ended_when_nothing_is_served_any_more(lifecycle: Lifecycle) -> None:
    seen: list[bool] = []
    lifecycle.order(Order.STOP)
    lifecycle.run(lambda: seen.append(lifecycle.ended.is_set()))
    assert (seen, lifecycle.ended.is_set()) == ([False], True)


def test_a_reload_while_draining_is_ignored(
    lifecycle: Lifecycle, slow_drain: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    lifecycle._take(Order.DRAIN)
    lifecycle._take(Order.RELOAD)
    assert "reload ignored: draining" in caplog.text
    assert not lifecycle._reload.is_set()
    slow_drain.set()


def test_a_drain_that_does_not_finish_ends_too(lifecycle: Lifecycle, engine: FakeEngine) -> None:
    engine.drains = False
    lifecycle.order(Order.TERMINATE)
    lifecycle.run()
    assert lifecycle.drained is False


def test_a_second_terminate_ends_at_once(lifecycle: Lifecycle, slow_drain: threading.Event) -> None:
    lifecycle.order(Order.TERMINATE)
    lifecycle.order(Order.TERMINATE)
    lifecycle.run()
    assert lifecycle.drained is None
    slow_drain.set()


def test_a_second_drain_command_waits_for_the_first(lifecycle: Lifecycle, slow_drain: threading.Event) -> None:
    lifecycle.order(Order.DRAIN)
    lifecycle.order(Order.DRAIN)
    slow_drain.set()
    lifecycle.run()
    assert lifecycle.drained is True


def test_a_drain_that_raises_ends_the_process(
    lifecycle: Lifecycle, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(wait: float) -> bool:
        raise RuntimeError(wait)

    monkeypatch.setattr(engine, "drain", broken)
    lifecycle.order(Order.DRAIN)
    lifecycle.run()
    assert lifecycle.drained is False


def test_a_storm_of_reloads_costs_two(
    lifecycle: Lifecycle,
    controller: Controller,
    engine: FakeEngine,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[None] = []
    taken = threading.Event()

    def reload() -> None:
        begun.append(None)
        assert taken.wait(10)

    monkeypatch.setattr(controller, "reload", reload)
    serving = threading.Thread(target=lifecycle.run)
    serving.start()
    lifecycle.order(Order.RELOAD)
    eventually(lambda: begun)
    for _ in range(1000):
        lifecycle.order(Order.RELOAD)
    # Orders are taken one after another: behind this one, all of the storm were.
    lifecycle.order(Order.REOPEN_LOGS)
    eventually(lambda: "reopen_logs" in engine.calls)
    taken.set()
    eventually(lambda: len(begun) > 1)
    lifecycle.order(Order.STOP)
    serving.join()
    assert len(begun) == 2


def test_a_refused_reload_does_not_end_the_process(
    lifecycle: Lifecycle, controller: Controller, config: Path, eventually: Eventually
) -> None:
    config.write_text("nonsense", "utf-8")
    serving = threading.Thread(target=lifecycle.run)
    serving.start()
    lifecycle.order(Order.RELOAD)
    eventually(lambda: controller.last_refusal)
    assert controller.state is State.SERVING
    lifecycle.order(Order.STOP)
    serving.join()


def test_signals_become_orders_and_then_are_what_they_were() -> None:
    before = [signal.getsignal(number) for number in ORDERS]
    taken: list[Order] = []
    with deliver(taken.append, *ORDERS):
        for number in ORDERS:
            os.kill(os.getpid(), number)
    assert taken == list(ORDERS.values())
    assert [signal.getsignal(number) for number in ORDERS] == before


def test_commands(lifecycle: Lifecycle, controller: Controller, engine: FakeEngine, config: Path) -> None:
    commands = Commands(controller, lifecycle)
    assert commands({"command": "status"})["state"] == "serving"
    engine.doubts = (Doubt("routes[0].match", "hardly meant"),)
    answer = commands({"command": "reload"})
    assert answer["version"] == 2
    assert list(answer["warnings"]) == [f"{config}:9: routes[0].match: hardly meant"]
    assert commands({"command": "plan"})["version"] == 2
    assert commands({"command": "explain", "url": "http://x.example/"})["route"]["name"] == "images"
    config.write_text("nonsense", "utf-8")
    assert commands({"command": "reload"})["faults"][0]["line"] == 1
    assert commands({"command": "status"})["last_refusal"]["outcome"] == "refused"


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"command": "dance"},
        {"command": 3},
        *(
            {"command": "explain", **more}
            for more in (
                {},
                {"url": 5},
                {"url": "http://x.example/", "method": None},
                {"url": "http://x.example/", "body": 5},
                {"url": "http://x.example/", "client": 5},
                {"url": "http://x.example/", "listener": ["web"]},
                {"url": "http://x.example/", "headers": {"a": "b"}},
                {"url": "http://x.example/", "headers": [["a"]]},
                {"url": "http://x.example/", "headers": ["ab"]},
                {"url": "http://x.example/", "headers": [["a", 1]]},
            )
        ),
    ],
)
def test_what_is_no_command_is_refused(
    lifecycle: Lifecycle, controller: Controller, request_: dict[str, object]
) -> None:
    with pytest.raises(ControlError):
        Commands(controller, lifecycle)(request_)


def test_drain_and_stop_answer_when_it_is_over(lifecycle: Lifecycle, controller: Controller) -> None:
    answers: list[object] = []
    commands = Commands(controller, lifecycle)
    asking = threading.Thread(target=lambda: answers.append(commands({"command": "drain"})))
    asking.start()
    lifecycle.run()
    asking.join()
    assert answers == [{"drained": True}]
