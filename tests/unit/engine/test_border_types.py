from __future__ import annotations

import json

import pytest

from penstock.engine import Engine, check
from penstock.engine.explanation import Explanation
from penstock.engine.fake import FakeEngine
from penstock.engine.stats import Stats
from penstock.engine.types import Applied, Event, read
from penstock.errors import ConfigError, EngineError

PLAN = {
    "version": 3,
    "listeners": [{"name": "web", "bind": ["127.0.0.1:0"]}],
    "upstreams": [
        {
            "name": "shop",
            "endpoints": [
                {
                    "address": "127.0.0.1:9001",
                    "weight": 1,
                    "priority": 0,
                    "max_connections": None,
                    "slow_start": None,
                    "admin": "ready",
                }
            ],
        }
    ],
    "routes": [{"name": "all", "action": {"upstream": 0}}],
}


def test_a_document_becomes_a_typed_value() -> None:
    applied = read(Applied, '{"version":3,"warnings":["x"],"doubts":[],"addresses":{"web":["127.0.0.1:8080"]}}')
    assert applied == Applied(3, ("x",), (), {"web": ("127.0.0.1:8080",)})


def test_a_field_that_is_missing_is_named() -> None:
    with pytest.raises(EngineError, match=r"Applied is not as agreed at 'addresses'"):
        read(Applied, '{"version":3,"warnings":[],"doubts":[]}')


def test_a_field_of_another_type_is_named() -> None:
    rows = {"version": "three", "warnings": [], "addresses": {}}
    with pytest.raises(EngineError, match="'version'"):
        read(Applied, rows)


def test_an_event_keeps_the_fields_it_came_with() -> None:
    event = Event.read('{"at":1.5,"kind":"health","level":"warning","message":"down","endpoint":"a:1"}')
    assert event == Event(1.5, "health", "warning", "down", {"endpoint": "a:1"})


def test_an_event_of_an_unknown_level_is_refused() -> None:
    with pytest.raises(EngineError, match="level"):
        Event.read('{"at":1.5,"kind":"health","level":"loud","message":"down"}')


def test_spans_and_candidates_of_an_explanation() -> None:
    found = read(
        Explanation,
        {
            "listener": "web",
            "request": {"path": "/x"},
            "route": {"index": 1, "name": "b"},
            "action": "upstream",
            "throttle": None,
            "status": None,
            "refused": None,
            "maintenance": None,
            "passed_over": [{"index": 0, "name": "a", "why": "match", "at": [0, 4], "found": None}],
            "lists": [],
            "rule": None,
            "filters": [{"name": "strip_prefix", "effect": "/api/x -> /x"}],
            "forward_auth": None,
            "addons": [],
            "forwarded": [{"upstream": "shop", "method": "GET", "host": "h", "target": "/x", "headers": [["a", "b"]]}],
            "share": None,
            "mirror": None,
            "upstreams": [
                {
                    "name": "shop",
                    "weight": 1,
                    "balance": "p2c",
                    "endpoints": [{"address": "a:1", "weight": 1, "admin": "ready", "state": "up", "eligible": True}],
                }
            ],
        },
    )
    assert found.passed_over[0].at == (0, 4)
    assert found.upstreams[0].endpoints[0].eligible


def test_the_fake_gives_real_addresses_and_counts_nothing() -> None:
    engine = FakeEngine()
    assert engine.apply(json.dumps(PLAN)).addresses == {"web": ("127.0.0.1:40001",)}
    stats = engine.stats()
    assert isinstance(stats, Stats)
    assert [route.name for route in stats.routes] == ["all", "_none"]


def test_the_fake_refuses_once_when_told() -> None:
    engine = FakeEngine()
    engine.faults = {"listeners[0].bind[0]": "in use"}
    with pytest.raises(ConfigError, match="in use"):
        engine.apply(json.dumps(PLAN))
    assert engine.apply(json.dumps(PLAN)).version == 3


def test_an_event_that_cannot_be_read_says_so_and_takes_no_other_with_it() -> None:
    class Native:
        def events(self, wait: float) -> list[str]:
            good = {"at": wait, "kind": "health", "level": "info", "message": "up"}
            return [json.dumps(good), "{", json.dumps({**good, "level": "shout"}), json.dumps(good)]

    engine = Engine()
    engine._engine = Native()
    first, *unread, last = engine.events(0.5)
    assert first == last == Event(0.5, "health", "info", "up")
    assert [(event.level, event.message) for event in unread] == [("error", "an event of the data plane was lost")] * 2
    assert "level" in unread[1].fields["reason"]


def test_a_plan_of_another_version_is_no_fault_of_the_configuration() -> None:
    with pytest.raises(EngineError, match=r"another version: make build \(this is no plan: missing field"):
        check("{}")
    with pytest.raises(EngineError, match=r"make build"):
        Engine().apply("{}")
