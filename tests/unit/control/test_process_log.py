from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING

import pytest

from penstock.control.events import EventPump
from penstock.control.log import log_event, write_log
from penstock.engine.types import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.engine.fake import FakeEngine

log = logging.getLogger("penstock")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


def test_a_text_line_can_be_parsed() -> None:
    to = io.StringIO()
    write_log("text", to)
    log.info("configuration applied", extra={"version": 3, "source": "my file.toml"})
    line = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info configuration applied version=3 source="my file.toml"\n'
    assert re.fullmatch(line, to.getvalue())


def test_a_json_line_is_an_object() -> None:
    to = io.StringIO()
    write_log("json", to)
    log_event(Event(1.0, "health", "warning", "endpoint down", {"endpoint": "a:1"}))
    row = json.loads(to.getvalue())
    assert {key: row[key] for key in ("level", "message", "kind", "endpoint")} == {
        "level": "warning",
        "message": "endpoint down",
        "kind": "health",
        "endpoint": "a:1",
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_in_a_message_makes_a_line_of_its_own(form: str) -> None:
    to = io.StringIO()
    write_log(form, to)  # type: ignore[arg-type]
    log.info("a\nb\x1b[2J\u2028", extra={"key": "c\nd"})
    assert to.getvalue().count("\n") == 1
    assert "\x1b" not in to.getvalue()
    assert len(to.getvalue().splitlines()) == 1


def test_a_traceback_is_kept() -> None:
    to = io.StringIO()
    write_log("json", to)
    try:
        raise RuntimeError("x")
    except RuntimeError:
        log.exception("failed")
    assert "RuntimeError: x" in json.loads(to.getvalue())["traceback"]


def test_events_are_given_on_until_the_end(
    engine: FakeEngine, eventually: Callable[[Callable[[], object]], None]
) -> None:
    seen: list[Event] = []
    pump = EventPump(engine, seen.append)
    pump.start()
    engine.happen(Event(1.0, "health", "info", "up"))
    eventually(lambda: seen)
    pump.stop()
    pump.stop()
    assert [event.message for event in seen] == ["up"]


def test_an_event_that_cannot_be_given_on_takes_no_other_with_it(
    engine: FakeEngine, eventually: Callable[[Callable[[], object]], None]
) -> None:
    seen: list[str] = []

    def give(event: Event) -> None:
        if event.message == "bad":
            raise ValueError
        seen.append(event.message)

    pump = EventPump(engine, give)
    pump.start()
    engine.happen(*(Event(1.0, "health", "info", message) for message in ("a", "bad", "b")))
    eventually(lambda: seen == ["a", "b"])
    pump.stop()
