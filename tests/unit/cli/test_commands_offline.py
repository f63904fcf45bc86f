from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from penstock.cli import COMMANDS, main
from penstock.cli.capture import curl
from penstock.cli.control import status_lines
from penstock.cli.explain import explanation_lines
from penstock.cli.output import columns, shown
from penstock.cli.run import places
from penstock.control.status import status
from penstock.engine.explanation import (
    Asking,
    Candidate,
    Explanation,
    FilterEffect,
    Forwarded,
    ListHit,
    PassedOver,
    RouteTaken,
    ShareTaken,
    UpstreamChoice,
)
from penstock.engine.stats import CertificateStats
from penstock.engine.types import Applied

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from penstock.control.controller import Controller
    from penstock.engine.fake import FakeEngine

FOUND = Explanation(
    listener="web",
    request={"path": "/api/x"},
    route=RouteTaken(2, "api"),
    rule=None,
    action="upstream",
    throttle=None,
    status=None,
    refused=None,
    maintenance=None,
    passed_over=(
        PassedOver(0, "a", "match", (7, 20), "/api/x", "True\nand path == '/y'"),
        PassedOver(1, "b", "listener"),
    ),
    lists=(ListHit("social", "www.a.example", "a.example", "social.txt", 3),),
    filters=(FilterEffect("strip_prefix", "/api/x -> /x"),),
    forward_auth=Asking("login", "/verify?x", ("remote-user", "x-groups")),
    addons=("auth", "stamp"),
    forwarded=(Forwarded("shop", "GET", "h", "/x", (("x-a", "1"),)),),
    share=None,
    mirror=None,
    upstreams=(
        UpstreamChoice(
            "shop",
            1,
            "p2c",
            (Candidate("a:1", 1, "ready", "down", False), Candidate("b:1", 3, "draining", "up", False)),
        ),
    ),
)


def plain(lines: list[str]) -> list[str]:
    return [click.unstyle(line) for line in lines]


def test_an_explanation_underlines_what_said_no() -> None:
    assert plain(explanation_lines("GET http://h/api/x", FOUND)) == [
        "GET http://h/api/x",
        "listener   web",
        "passed over",
        "  a (routes[0]):",
        "      and path == '/y'",
        "        ^^^^^^^^^^^^^ found '/api/x'",
        "  b (routes[1]): does not serve this listener",
        "route      api (routes[2])",
        "list       social has 'www.a.example': 'a.example' (social.txt:3)",
        "filters",
        "  1.  strip_prefix  /api/x -> /x",
        "asks first GET /verify?x of login, which gives the request remote-user, x-groups (not done here)",
        "add-ons    auth, stamp (not run: what they change is not shown)",
        "forwarded  GET /x",
        "  host:  h",
        "  x-a:   1",
        "upstream   shop (p2c)",
        "  a:1  weight 1  down          not a candidate",
        "  b:1  weight 3  up, draining  not a candidate",
    ]


def test_an_explanation_has_the_request_of_every_share_that_may_be_drawn() -> None:
    shares = tuple(Forwarded(name, "GET", f"{name}.internal", "/x", ()) for name in ("blue", "green"))
    lines = plain(explanation_lines("GET http://h/", replace(FOUND, forwarded=shares)))
    at = lines.index("forwarded  GET /x to blue")
    assert lines[at + 1 : at + 4] == ["  host:  blue.internal", "forwarded  GET /x to green", "  host:  green.internal"]


def test_an_explanation_says_that_no_route_is_asked() -> None:
    found = replace(FOUND, route=None, action="https_redirect", status=308, passed_over=(), filters=(), upstreams=())
    lines = plain(explanation_lines("GET http://h/", found))
    assert lines[2] == "route      none is asked: the listener sends who comes over plain HTTP to TLS"
    assert lines[-1] == "answer     308 (https_redirect)"


def test_an_explanation_says_which_share_and_why() -> None:
    for name, why, line in (
        ("green", "header", "share      green (its header names it)"),
        ("green", "key", "share      green (of its key)"),
        (None, "drawn", "share      drawn by weight, for each request anew"),
    ):
        found = replace(FOUND, share=ShareTaken(name, why))  # type: ignore[arg-type]
        assert line in plain(explanation_lines("GET http://h/", found))


def test_what_comes_from_elsewhere_cannot_command_the_terminal() -> None:
    assert shown("a\x1b[2Jb\r") == "a\\x1b[2Jb\\x0d"


def test_columns_put_numbers_on_the_right() -> None:
    assert columns([("a", 1), ("bbb", 100)]) == ["  a      1", "  bbb  100"]


def test_the_status_for_people(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    engine.takes = {}
    lines = plain(status_lines(status(controller)))
    assert "serving, plan version 1" in lines[0]
    assert any(line.startswith("  web  open  127.0.0.1:40001") for line in lines)
    assert "upstream shop (p2c)" in lines


def test_the_status_says_why_a_list_is_old(controller: Controller, engine: FakeEngine) -> None:
    controller.reload()
    row = {
        "name": "social", "kind": "domains", "sources": ["a.txt"], "entries": 7, "bytes": 300, "ignored": 0, "bad": 2,
        "refreshed": 0.0, "failures": 2, "trouble": "a.txt is empty",
    }  # fmt: skip
    engine.stats_rows["lists"] = [row]
    lines = plain(status_lines(status(controller)))
    (line,) = (line for line in lines if line.startswith("  social"))
    assert "domains  7  entries  300  bytes, 2 bad lines" in line
    assert line.endswith("ago  (a.txt is empty)")


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, result.output
        assert "Usage:" in result.output


def test_wrong_use_is_exit_code_2() -> None:
    assert CliRunner().invoke(main, ["dance"]).exit_code == 2
    assert CliRunner().invoke(main, ["check", "--nonsense"]).exit_code == 2
    assert CliRunner().invoke(main, ["explain", "GET", "not-a-url"]).exit_code == 2


def test_a_missing_file_is_exit_code_2(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "there is no such file" in result.output


def test_a_process_that_does_not_run_is_exit_code_1(tmp_path: Path) -> None:
    for command in (
        ["reload"],
        ["status"],
        ["drain"],
        ["plan", "--running"],
        ["explain", "GET", "http://x/", "--running"],
    ):
        result = CliRunner().invoke(main, [*command, "--control", str(tmp_path / "none.sock")])
        assert result.exit_code == 1
        assert "no penstock listens" in result.output


def test_the_banner_says_how_a_listener_is_opened(controller: Controller) -> None:
    controller.reload()
    stats = controller.stats()
    web = stats.listeners[0]
    over_tls = replace(web, name="secure", certificates=(CertificateStats("a.pem", ("a.example",), "ECDSA", 1, 2),))
    applied = Applied(1, (), (), {"web": ("127.0.0.1:80", "unix:/a"), "secure": ("127.0.0.1:443", "[::]:443")})
    assert places(applied, replace(stats, listeners=(web, over_tls))) == [
        ("web", "http://127.0.0.1:80  unix:/a"),
        ("secure", "https://127.0.0.1:443  https://localhost:443 (every address)"),
    ]


def test_every_command_that_takes_commands_knows_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Path | None] = []
    monkeypatch.setattr("penstock.cli.run.serve", lambda program, form: taken.append(program.control))
    place = tmp_path / "c.sock"
    without_file = [[name, "127.0.0.1:0", "127.0.0.1:9"] for name in ("proxy", "tcp", "udp")]
    for words in (["run"], *without_file):
        CliRunner().invoke(main, words, env={"PENSTOCK_CONTROL": str(place)}, catch_exceptions=False)
    assert taken == [place] * 4


def test_a_control_socket_that_nobody_would_ask_is_wrong_use(config: Path) -> None:
    for words in (["plan"], ["explain", "GET", "http://x/"]):
        words += ["-c", str(config)]
        refused = CliRunner().invoke(main, [*words, "--control", "c.sock"])
        assert refused.exit_code == 2
        assert "give --running, too" in refused.output
        assert CliRunner().invoke(main, words, env={"PENSTOCK_CONTROL": "c.sock"}).exit_code == 0


def test_a_captured_request_becomes_a_command_of_curl() -> None:
    entry = {
        "request": {
            "method": "POST",
            "url": "http://h/a?b=it's",
            "headers": [{"name": "Host", "value": "h"}, {"name": "X-A", "value": "a b"}],
            "postData": {"mimeType": "text/plain", "text": "it's"},
        }
    }
    assert shlex.split(curl(entry)) == [
        "curl",
        "-i",
        "--globoff",
        "-X",
        "POST",
        "http://h/a?b=it's",
        "-H",
        "X-A: a b",
        "--data-raw",
        "it's",
    ]
    entry["request"]["postData"] = {"mimeType": "", "text": "/wA=", "encoding": "base64"}
    assert curl(entry).startswith("echo /wA= | base64 -d | curl -i --globoff -X POST")
    assert curl(entry).endswith("--data-binary @-")
