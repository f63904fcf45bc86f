"""`penstock run` under signals, reloads and commands."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from product import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from product import Origin, Running

    Start = Callable[..., Running]
    Eventually = Callable[[Callable[[], object]], None]


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new), "utf-8")


def test_it_serves_and_says_where(start: Start) -> None:
    running = start()
    assert running.get("/") == (200, "origin")
    assert running.get("/hello") == (200, "one")
    assert running.get("/readyz", running.admin) == (200, "ready\n")


def test_hup_reloads(start: Start, config: Path, eventually: Eventually) -> None:
    running = start()
    edit(config, '"one"', '"two"')
    running.signal(signal.SIGHUP)
    eventually(lambda: running.get("/hello") == (200, "two"))


def test_a_kept_connection_lives_through_a_reload(start: Start, config: Path) -> None:
    running = start()
    client = http.client.HTTPConnection(running.address(), timeout=20)
    client.request("GET", "/hello")
    assert client.getresponse().read() == b"one"
    before = client.sock
    edit(config, '"one"', '"two"')
    assert running.command("reload").returncode == 0
    client.request("GET", "/hello")
    assert client.getresponse().read() == b"two"
    assert client.sock is before
    client.close()


def test_a_bad_file_is_refused_and_shown(start: Start, config: Path) -> None:
    running = start()
    edit(config, 'upstream = "app"', 'upstream = "apple"')
    refused = running.command("reload")
    assert refused.returncode == 2
    assert f"{config}:11: routes[1].upstream:" in refused.stderr
    assert running.get("/") == (200, "origin")
    status = running.status()
    assert status["plan_version"] == 1
    assert status["last_refusal"]["faults"][0]["line"] == 11
    metrics = running.get("/metrics", running.admin)[1]
    assert 'penstock_reloads_total{outcome="refused"} 1' in metrics
    assert "penstock_reload_last_success 0" in metrics
    edit(config, '"apple"', '"app"')
    assert running.command("reload").returncode == 0
    assert running.status()["last_refusal"] is None


def test_term_drains_and_exits_0(start: Start, origin: Origin, eventually: Eventually) -> None:
    running = start()
    answers: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: answers.append(running.get("/slow")))
    asking.start()
    assert origin.entered.wait(20)
    running.signal(signal.SIGTERM)
    eventually(lambda: any(message.startswith("draining") for message in running.messages()))
    assert running.get("/readyz", running.admin) == (503, "draining\n")
    origin.release.set()
    asking.join()
    assert answers == [(200, "origin")]
    assert running.ends() == 0
    assert not running.control.exists()


def test_a_second_term_ends_at_once(start: Start, origin: Origin, eventually: Eventually) -> None:
    running = start()
    client = http.client.HTTPConnection(running.address(), timeout=20)
    client.request("GET", "/slow")
    assert origin.entered.wait(20)
    running.signal(signal.SIGTERM)
    eventually(lambda: any(message.startswith("draining") for message in running.messages()))
    assert running.process.poll() is None
    running.signal(signal.SIGINT)
    assert running.ends() == 0
    client.close()


def test_a_name_that_does_not_resolve_is_told_once_for_each_change(
    start: Start, config: Path, eventually: Eventually
) -> None:
    edit(config, 'endpoints = ["', 'endpoints = ["one.invalid:80", "')
    running = start()
    # The second name is asked after the first: by then a second word on the first would have come.
    edit(config, '"one.invalid:80"', '"one.invalid:80", "two.invalid:80"')
    assert running.command("reload").returncode == 0
    eventually(lambda: any("two.invalid" in message for message in running.messages()))
    assert sum("one.invalid" in message for message in running.messages()) == 2


def test_usr1_opens_the_access_log_anew(start: Start, config: Path, eventually: Eventually) -> None:
    running = start()
    log = config.with_name("access.log")
    running.get("/hello")
    eventually(lambda: log.exists() and log.read_text("utf-8").count("\n") == 1)
    log.rename(log.with_name("access.log.1"))
    running.signal(signal.SIGUSR1)
    eventually(log.exists)
    running.get("/hello")
    eventually(lambda: log.read_text("utf-8").count("\n") == 1)


def test_a_watched_file_is_reloaded_once(start: Start, config: Path, eventually: Eventually) -> None:
    running = start("--watch")
    edit(config, '"one"', '"two"')
    eventually(lambda: running.get("/hello") == (200, "two"))
    edit(config, "[[routes]]", "[[routes]")
    eventually(lambda: running.status()["last_refusal"])
    edit(config, "[[routes]\n", "[[routes]]\n")
    eventually(lambda: running.status()["last_refusal"] is None)
    assert [attempt["outcome"] for attempt in running.status()["history"]] == [
        "applied",
        "applied",
        "refused",
        "applied",
    ]


def test_a_watched_files_pages_are_reloaded_with_it(start: Start, config: Path, eventually: Eventually) -> None:
    page = config.parent / "none.html"
    page.write_text("old page", "utf-8")
    route = "match = 'path == \"/none\"'\nrespond = {}\nmaintenance = { on = true }\n"
    text = config.read_text("utf-8")
    config.write_text(f"[error_pages]\n503 = 'none.html'\n[[routes]]\n{route}{text}", "utf-8")
    running = start("--watch")
    assert running.get("/none") == (503, "old page")
    page.write_text("a newer page", "utf-8")
    eventually(lambda: running.get("/none") == (503, "a newer page"))
    assert [attempt["outcome"] for attempt in running.status()["history"]] == ["applied", "applied"]


def test_the_control_socket_is_private(start: Start) -> None:
    running = start()
    assert stat.S_IMODE(running.control.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.control.parent.stat().st_mode) == 0o700


def test_a_second_process_on_the_same_file_is_told(start: Start) -> None:
    running = start()
    second = running.command("run")
    assert second.returncode == 1
    assert "another penstock runs this configuration" in second.stderr
    assert running.get("/hello")[0] == 200


def test_after_a_crash_it_starts_again(start: Start) -> None:
    running = start()
    running.process.kill()
    running.process.wait()
    assert running.control.exists()
    assert start().get("/hello") == (200, "one")


def test_drain_waits_and_the_process_ends(start: Start) -> None:
    running = start()
    drained = running.command("drain")
    assert (drained.returncode, drained.stdout) == (0, "drained: everything under way has finished\n")
    assert running.ends() == 0


def test_drain_now(start: Start, origin: Origin) -> None:
    running = start()
    client = http.client.HTTPConnection(running.address(), timeout=20)
    client.request("GET", "/slow")
    assert origin.entered.wait(20)
    address = running.address().rpartition(":")
    assert running.command("drain", "--now").returncode == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address[0], int(address[2])), timeout=20)
    assert running.ends() == 0
    client.close()


def test_explain_asks_the_running_process(start: Start) -> None:
    running = start()
    found = running.command("explain", "GET", "http://x.example/y", "--running", "--json")
    explanation = json.loads(found.stdout)
    assert explanation["route"]["name"] == "app"
    assert explanation["passed_over"][0]["found"] == "/y"
    people = running.command("explain", "GET", "http://x.example/y", "--running").stdout
    assert "path == \"/hello\"\n      ^^^^^^^^^^^^^^^^ found '/y'" in people


def test_plan_of_the_running_process(start: Start) -> None:
    running = start()
    plan = json.loads(running.command("plan", "--running").stdout)
    assert [route["name"] for route in plan["routes"]] == ["hello", "app"]


def test_a_port_in_use_is_refused(config: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        edit(config, '"127.0.0.1:0"\n[upstreams', f'"127.0.0.1:{taken.getsockname()[1]}"\n[upstreams')
        refused = run("run", "-c", str(config), "--control", str(tmp_path / "c.sock"))
    assert refused.returncode == 2
    assert f"{config}:2: listeners.web.bind" in refused.stderr
    assert "in use" in refused.stderr.lower()
    assert not (tmp_path / "c.sock").exists()


def test_a_port_of_another_penstock_is_refused(start: Start, tmp_path: Path) -> None:
    running = start()
    refused = run("proxy", running.address(), "127.0.0.1:9", "--control", str(tmp_path / "c.sock"))
    assert refused.returncode == 2
    assert "in use" in refused.stderr.lower()


def test_an_admin_port_in_use_is_refused(config: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        edit(config, '[admin]\nbind = "127.0.0.1:0"', f'[admin]\nbind = "127.0.0.1:{taken.getsockname()[1]}"')
        refused = run("run", "-c", str(config), "--control", str(tmp_path / "c.sock"))
    assert refused.returncode == 2
    assert "admin.bind: cannot listen" in refused.stderr
