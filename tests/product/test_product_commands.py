"""Commands that end by themselves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from product import run

if TYPE_CHECKING:
    from pathlib import Path


def test_version() -> None:
    done = run("version")
    assert done.returncode == 0
    assert done.stdout.startswith("penstock ")


def test_check_says_what_is_there(config: Path) -> None:
    done = run("check", "-c", str(config))
    assert (done.returncode, done.stdout) == (
        0,
        f"{config}: ok (1 listener, 2 routes, 1 upstream; no route tests)\n",
    )


def test_check_names_every_fault(config: Path) -> None:
    text = config.read_text("utf-8")
    text = text.replace('upstream = "app"', 'upstream = "apple"').replace("path ==", "pth ==")
    config.write_text(text.replace("workers = 2", "wrkers = 2"), "utf-8")
    done = run("check", "-c", str(config))
    assert done.returncode == 2
    for line in (7, 11, 13):
        assert f"{config}:{line}: " in done.stderr
    assert "refused: 3 faults" in done.stderr
    rows = json.loads(run("check", "-c", str(config), "--json").stdout)
    assert len(rows["faults"]) == 3


def test_check_finds_what_only_the_data_plane_knows(config: Path) -> None:
    text = config.read_text("utf-8")
    text = text.replace(
        'upstream = "app"\n', 'upstream = "app"\nfilters = [{ rewrite_path = { regex = "(", to = "x" } }]\n'
    )
    config.write_text(text, "utf-8")
    done = run("check", "-c", str(config))
    assert done.returncode == 2
    assert f"{config}:12: routes[1].filters[0]: regular expression: unclosed group" in done.stderr


def test_check_runs_the_tests_of_the_file(config: Path) -> None:
    text = config.read_text("utf-8")
    config.write_text(text + '[[tests]]\nurl = "http://x.example/hello"\nroute = "hello"\nstatus = 200\n', "utf-8")
    assert "1 route test passed" in run("check", "-c", str(config)).stdout
    config.write_text(text + '[[tests]]\nurl = "http://x.example/hello"\nroute = "app"\n', "utf-8")
    done = run("check", "-c", str(config))
    assert done.returncode == 2
    assert 'expected route "app", but it takes "hello"' in done.stderr


def test_explain_from_the_file(config: Path) -> None:
    done = run("explain", "-c", str(config), "GET", "http://x.example/hello")
    assert done.returncode == 0
    assert "route      hello (routes[0])" in done.stdout
    assert "answer     200 (respond)" in done.stdout


def test_plan_and_schema(config: Path) -> None:
    assert json.loads(run("plan", "-c", str(config)).stdout)["listeners"][0]["name"] == "web"
    assert json.loads(run("schema").stdout)["title"] == "Penstock configuration"


def test_a_process_that_does_not_run(config: Path) -> None:
    done = run("status", "-c", str(config))
    assert done.returncode == 1
    assert "no penstock listens" in done.stderr


@pytest.mark.parametrize("words", [["dance"], ["run", "--log", "xml"], ["proxy", ":0"], ["explain", "GET", "x"]])
def test_wrong_use(words: list[str]) -> None:
    assert run(*words).returncode == 2


def test_the_demo_does_what_it_says() -> None:
    done = run("demo", "--once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as they should be" in done.stdout
    assert "\x1b" not in done.stdout


def test_error_pages_are_read_when_the_configuration_is(config: Path) -> None:
    text = config.read_text("utf-8")
    config.write_text(f'error_pages = {{ "5xx" = "down.html" }}\n{text}', "utf-8")
    done = run("check", "-c", str(config))
    page = config.parent / "down.html"
    assert done.returncode == 2
    assert f"{config}:1: error_pages.5xx: {page} cannot be read: No such file" in done.stderr
    page.write_bytes(b"\xff")
    assert f"{page} cannot be read: " in run("check", "-c", str(config)).stderr
    page.write_text("<h1>{status}</h1>", "utf-8")
    assert run("check", "-c", str(config)).returncode == 0
