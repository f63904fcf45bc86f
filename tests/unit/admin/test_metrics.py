from __future__ import annotations

import dataclasses
import json
import re
from typing import TYPE_CHECKING

from penstock.admin.metrics import Family, render
from penstock.engine.stats import Latency

if TYPE_CHECKING:
    from penstock.control.controller import Controller
    from penstock.engine.fake import FakeEngine

LINE = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.e+-]+|\+Inf)')


def test_every_line_is_of_the_exposition_format(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    engine.stats_rows["rejected"] = {"bad_head": 2}
    engine.stats_rows["failures"] = {"connect_refused": 1}
    text = render(controller, "1.0")
    described: set[str] = set()
    seen: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            described.add(line.split()[2])
        elif not line.startswith("# HELP "):
            found = LINE.fullmatch(line)
            assert found, line
            name = re.sub(r"_(bucket|sum|count)$", "", found[1])
            assert name in described or found[1] in described, line
            series = found[1] + (found[2] or "")
            assert series not in seen, f"twice: {series}"
            seen.add(series)
    assert 'penstock_rejected_total{reason="bad_head"} 2' in text
    assert 'penstock_endpoint_up{upstream="shop",endpoint="127.0.0.1:9001"} 1' in text
    assert 'penstock_reloads_total{outcome="applied"} 1' in text


def test_label_values_are_escaped() -> None:
    text = Family("x", "gauge", "X.").text([({"name": 'a"b\\c\nd'}, 1)])
    assert text.splitlines()[-1] == 'penstock_x{name="a\\"b\\\\c\\nd"} 1'


def test_samples_of_the_same_labels_are_added_up() -> None:
    text = Family("x", "gauge", "X.").text([({"listener": "web"}, 1), ({"listener": "web"}, 2)])
    assert text.splitlines()[-1] == 'penstock_x{listener="web"} 3'


def test_a_histogram_is_cumulative_and_in_seconds() -> None:
    text = Family("d", "histogram", "D.").histogram(Latency((500, 10_000), (3, 2, 1), 1_250_000))
    assert text.splitlines()[2:] == [
        'penstock_d_bucket{le="0.0005"} 3',
        'penstock_d_bucket{le="0.01"} 5',
        'penstock_d_bucket{le="+Inf"} 6',
        "penstock_d_sum 1.25",
        "penstock_d_count 6",
    ]


def test_statuses_are_counted_by_route(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    row = {
        "name": "shop",
        "maintenance": True,
        "requests": 5,
        "statuses": {"2xx": 4, "5xx": 1},
        "bytes_in": 10,
        "bytes_out": 20,
    }
    engine.stats_rows["routes"] = [row]
    text = render(controller, "1.0")
    assert 'penstock_requests_total{route="shop",status="2xx"} 4' in text
    assert 'penstock_response_bytes_total{route="shop"} 20' in text


def test_a_list_that_fails_to_refresh_is_counted_wherever_it_failed(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    row = {
        "name": "social", "kind": "domains", "sources": ["https://lists.example/a"], "entries": 7, "bytes": 300,
        "ignored": 0, "bad": 1, "refreshed": 12.5, "failures": 2, "trouble": None,
    }  # fmt: skip
    engine.stats_rows["lists"] = [row]
    fetch = {"url": "https://lists.example/a", "fetched": None, "failures": 3, "trouble": "the server answered 503"}
    controller.lists.counts = lambda: {"social": [fetch]}  # type: ignore[method-assign]
    text = render(controller, "1.0")
    assert 'penstock_list_entries{list="social"} 7' in text
    assert 'penstock_list_bytes{list="social"} 300' in text
    assert 'penstock_list_refreshed_timestamp_seconds{list="social"} 12.5' in text
    assert 'penstock_list_refresh_failures_total{list="social"} 5' in text


def test_what_is_captured_is_counted_by_listener(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    figures = {"entries": 2, "bytes": 900, "memory": 1000, "captured": 5, "evicted": 3, "dropped": 1}
    listeners = json.loads(json.dumps([dataclasses.asdict(row) for row in engine.stats().listeners]))
    engine.stats_rows["listeners"] = [{**row, "capture": figures} for row in listeners]
    text = render(controller, "1.0")
    assert 'penstock_capture_bytes{listener="web"} 900' in text
    assert 'penstock_captures_total{listener="web",outcome="evicted"} 3' in text
