"""A panic in one request: that one gets 500, nobody else notices (safety.md 172)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.product.waiting import wait_for
from tests.safety.limits.process import Process, ask, status
from tests.wire.peers import Origin, connect

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{origin}"]
[[routes]]
match = 'path == "/here"'
respond = {{ body = "here" }}
[[routes]]
upstream = "app"
[engine]
workers = 1
[admin]
bind = "127.0.0.1:0"
[log.access]
to = "access.log"
"""
WANTED = {"PENSTOCK_FAULTS": "1"}


def struck(fault: str, more: str = "") -> bytes:
    """A request that asks for a fault."""
    return f"POST /here HTTP/1.1\r\nHost: a\r\nPenstock-Fault: {fault}\r\nContent-Length: 4\r\n{more}\r\nbody".encode()


def records(folder: Path) -> list[dict[str, object]]:
    """The access log so far."""
    path = folder / "access.log"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


@pytest.mark.safety(172)
@pytest.mark.parametrize("place", ["head", "filter"])
def test_before_an_answer_it_is_500_and_the_others_go_on(scripted: Origin, tmp_path: Path, place: str) -> None:
    with Process(CONFIG.format(origin=scripted.address), tmp_path, env=WANTED) as penstock:
        wait_for(lambda: penstock.logged("PENSTOCK_FAULTS is set"), "it is warned of")
        bystander, waiting = connect(penstock.address()), connect(penstock.address())
        assert ask(bystander, "/here") == 200
        waiting.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        endpoint = scripted.read_until(lambda got: b"\r\n\r\n" in got)
        before = penstock.metrics()
        for count in range(1, 4):
            client = connect(penstock.address())
            client.send(struck(f"panic {place}"))
            client.read_until(lambda _: False)
            assert status(client) == 500
            assert b"connection: close" in client.received.lower()
            assert not client.was_reset
            assert penstock.metrics()["penstock_panics_total"] == count
        record = wait_for(lambda: [row for row in records(tmp_path) if row.get("cause") == "internal"], "a record")[0]
        assert (record["status"], record["outcome"]) == (500, "proxy_error")
        endpoint.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")
        waiting.read_until(lambda got: got.endswith(b"slow"))
        assert ask(bystander, "/here") == 200
        after = penstock.metrics()
        assert after["penstock_panics_total"] == before["penstock_panics_total"] + 3
        wait_for(lambda: penstock.metrics()['penstock_listener_connections{listener="web"}'] == 2, "no leak")
        assert penstock.process.poll() is None


@pytest.mark.safety(172)
def test_behind_a_part_of_an_answer_it_is_a_visible_end(scripted: Origin, tmp_path: Path) -> None:
    with Process(CONFIG.format(origin=scripted.address), tmp_path, env=WANTED) as penstock:
        client = connect(penstock.address())
        client.send(b"GET /part HTTP/1.1\r\nHost: a\r\nPenstock-Fault: panic body\r\n\r\n")
        endpoint = scripted.read_until(lambda got: b"\r\n\r\n" in got)
        endpoint.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        client.read_until(lambda got: b"part" in got)
        endpoint.send(b"4\r\nmore\r\n0\r\n\r\n")
        client.read_until(lambda _: False)
        assert status(client) == 200
        assert not client.received.endswith(b"0\r\n\r\n")
        assert penstock.metrics()["penstock_panics_total"] == 1
        assert wait_for(lambda: [row for row in records(tmp_path) if row.get("cause") == "internal"], "a record")
        # The endpoint's connection is in doubt: it ends too, and nothing is counted as under way.
        endpoint.read_until(lambda _: False)
        assert penstock.metrics()[f'penstock_endpoint_in_flight{{upstream="app",endpoint="{scripted.address}"}}'] == 0


def test_a_process_without_the_variable_obeys_nobody(scripted: Origin, tmp_path: Path) -> None:
    with Process(CONFIG.format(origin=scripted.address), tmp_path) as penstock:
        client = connect(penstock.address())
        client.send(struck("panic filter"))
        client.read_until(lambda got: got.endswith(b"here"))
        assert status(client) == 200
        assert penstock.metrics()["penstock_panics_total"] == 0


def test_what_took_long_before_an_answer_is_in_its_record(scripted: Origin, tmp_path: Path) -> None:
    with Process(CONFIG.format(origin=scripted.address), tmp_path, env=WANTED) as penstock:
        client = connect(penstock.address())
        client.send(struck("block filter 300"))
        client.read_until(lambda got: got.endswith(b"here"))
        client.close()
        (record,) = wait_for(lambda: records(tmp_path), "its record")
        assert isinstance(record["total_ms"], float)
        assert record["total_ms"] >= 300
