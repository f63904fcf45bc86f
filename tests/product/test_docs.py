"""What the documents say is what the program does: configurations load, programs run, commands print what is shown."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import re
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import click
import pytest
from terminal import ROOT, blocks, compare, play
from tests.certificates import EC, RSA, authority, staple, write
from waiting import wait_for

import penstock
from penstock.cli import COMMANDS, main
from penstock.config import explain_request
from penstock.control import commands as control_commands
from penstock.engine import Applied
from product import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LEAST = '[listeners.web]\nbind = ":8080"\n[[routes]]\nrespond = { status = 204 }\n'
"""What a block that shows one table is put into."""

TOML = [(page.name, text) for page in PAGES for text in blocks(page, "toml")]
_LIST = re.compile(r"# (\w+\.txt)\n")
_NAMED = re.compile(r"# (\w+\.py)\n")
"""How a block begins that is a file beside the page's configurations."""
PROGRAMS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in (ROOT / "README.md", ROOT / "docs" / "library.md", ROOT / "docs" / "addons.md")
    for number, text in enumerate(blocks(page, "python"))
    if not _NAMED.match(text)
]


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_commands_print_what_is_written(
    page: str, tmp_path: Path, eventually: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: make debian")
    if shutil.which("penstock", path=str(ROOT / ".venv" / "bin") + ":" + str(_here())) is None:
        pytest.skip("the command is not installed: make build")
    monkeypatch.delenv("PENSTOCK_CONTROL", raising=False)
    for folder in ("examples", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    play(ROOT / page, tmp_path, eventually)


def _here() -> Path:
    return type(ROOT)(sys.executable).parent


@pytest.mark.parametrize(("page", "text"), TOML, ids=[f"{page}-{at}" for at, (page, _) in enumerate(TOML)])
def test_configurations_load(page: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(text if "[listeners." in text else LEAST + text, "utf-8")
    for stem in re.findall(r'cert = "([\w-]+)\.pem"', text):
        host = f"{stem.removesuffix('-rsa')}.example"
        write(tmp_path, stem, host, f"*.{host}", kind=RSA if stem.endswith("-rsa") else EC)
    for stem in re.findall(r'ocsp = "([\w-]+)\.ocsp"', text):
        staple(tmp_path / f"{stem}.ocsp", str(tmp_path / f"{stem}.pem"))
    for stem in re.findall(r'ca = "([\w-]+)\.pem"', text):
        authority().cert_pem.write_to_path(tmp_path / f"{stem}.pem")
    for code in blocks(next(one for one in PAGES if one.name == page), "python"):
        if named := _NAMED.match(code):
            (tmp_path / named[1]).write_text(code, "utf-8")
    for url in re.findall(r'url = "(https://[^"]+)"', text):
        fetched = tmp_path / "lists" / hashlib.sha256(url.encode()).hexdigest()[:32]
        fetched.parent.mkdir(exist_ok=True)
        fetched.write_text("||ads.example^\n", "utf-8")
    for content in blocks(next(one for one in PAGES if one.name == page), "text"):
        if beside := _LIST.match(content):
            (tmp_path / beside[1]).write_text(content, "utf-8")
    done = run("check", "-c", str(path), env={"STATE_DIRECTORY": str(tmp_path)})
    assert done.returncode == 0, f"{page}: {done.stderr}"
    assert done.stderr == ""


@pytest.mark.parametrize("text", PROGRAMS)
def test_programs_run(text: str, tmp_path: Path) -> None:
    if "@pytest.fixture" in text:
        fixture = '\n\n@pytest.fixture\ndef app_address():\n    return "127.0.0.1:9"\n'
        (tmp_path / "test_example.py").write_text(text + fixture, "utf-8")
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    else:
        (tmp_path / "example.py").write_text(text, "utf-8")
        words = [str(tmp_path / "example.py")]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_python_file_is_a_configuration(tmp_path: Path) -> None:
    pages = [ROOT / "docs" / name for name in ("configuration.md", "balancing.md")]
    texts = [text for page in pages for text in blocks(page, "python") if not _NAMED.match(text)]
    for number, text in enumerate(texts):
        path = tmp_path / f"configuration{number}.py"
        path.write_text(text, "utf-8")
        assert run("check", "-c", str(path)).returncode == 0


def test_expressions_load(tmp_path: Path) -> None:
    expressions = [
        line for text in blocks(ROOT / "docs" / "expressions.md", "python") for line in text.splitlines() if line
    ]
    assert expressions
    path = tmp_path / "expressions.toml"
    routes = "".join(f"[[routes]]\nmatch = '{text}'\nrespond = {{ status = 204 }}\n" for text in expressions)
    path.write_text('[listeners.web]\nbind = ":8080"\n' + routes, "utf-8")
    done = run("check", "-c", str(path))
    assert done.returncode == 0, done.stderr


def test_mistakes_are_told_as_written() -> None:
    rows = re.findall(r"^\| `(.+)` \| refused: (.+) \|$", (ROOT / "docs" / "expressions.md").read_text("utf-8"), re.M)
    assert rows
    for expression, said in rows:
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0"}},
            "routes": [{"match": expression, "respond": {"status": 204}}],
        }
        with pytest.raises(penstock.ConfigError) as refused, penstock.Proxy(config):
            pass
        assert said in str(refused.value), expression


FAULTY = """\
[listeners.web]
bind = ":8080"
tls = { certificates = [] }


[listeners.web.timeouts]
bdy = "5s"

[upstreams.shop]
endpoints = ["10.0.0.1:80", "http://10.0.0.2:80"]


[[routes]]
match = 'hots == "x"'
upstream = "shpo"
"""


def test_faults_are_told_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "penstock.toml").write_text(FAULTY, "utf-8")
    monkeypatch.chdir(tmp_path)
    shown = next(text for text in blocks(ROOT / "docs" / "configuration.md", "text") if "bdy" in text)
    compare("penstock check", shown + "refused: 5 faults\n", run("check").stderr)


def test_every_command_is_documented_with_its_options() -> None:
    page = (ROOT / "docs" / "commands.md").read_text("utf-8")
    assert set(re.findall(r"^\| \[?`(\w+)`", page, re.MULTILINE)) == set(COMMANDS)
    for name in set(COMMANDS) - {"version"}:
        usage = re.search(rf"^## {name}\n\n`penstock {name}\b(.*)`$", page, re.MULTILINE)
        assert usage, name
        words = re.split(r"[\s\[\]|]+", usage[1])
        command = main.get_command(click.Context(main), name)
        for option in [one for one in command.params if isinstance(one, click.Option)]:
            assert any(spelling in words for spelling in option.opts), f"{name} {option.opts[0]}"


def test_every_command_of_the_control_socket_is_documented() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## The control socket")[2]
    rows = dict(re.findall(r"^\| `(\w+)` (\|.*)", page.partition("\n## ")[0], re.M))
    assert set(rows) == set(control_commands.COMMANDS)
    request = set(inspect.signature(explain_request).parameters)
    for command, names in (("reload", {one.name for one in dataclasses.fields(Applied)}), ("explain", request)):
        assert names <= set(re.findall(r"`(\w+)`", rows[command]))


EVERYTHING = """\
import types
import penstock
addon = types.SimpleNamespace(request_headers=lambda request: None)
config = {
    "listeners": {
        "web": {"bind": "127.0.0.1:0", "capture": {}},
        "db": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "app"},
        "dns": {"bind": "127.0.0.1:0", "protocol": "udp", "upstream": "app"},
        "out": {
            "bind": "127.0.0.1:0", "protocol": "forward", "rules": [{"intercept": True}],
            "interception": {"authority": "ca"}, "users": {"htpasswd": "users.txt"},
        },
        "secure": {"bind": "127.0.0.1:0", "tls": {"certificates": [{"cert": "shop.pem", "key": "shop.key"}]}},
    },
    "upstreams": {
        "app": {
            "endpoints": ["127.0.0.1:9"], "health_check": {"interval": "10ms"}, "limits": {"requests": 1},
            "affinity": {"table": "client.ip"},
        },
    },
    "lists": {"social": {"file": "social.txt"}},
    "addons": {"none": {"module": addon}},
    "routes": [{"upstream": "app", "addons": ["none"], "mirror": {"upstream": "app"}}],
    "admin": {"bind": "127.0.0.1:0"},
}
@penstock.weights("app")
def none(endpoints):
    return {}
"""


def test_every_metric_is_documented(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(penstock_\w+)`", text, re.MULTILINE))
    file = tmp_path / "penstock.py"
    file.write_text(EVERYTHING, "utf-8")
    (tmp_path / "social.txt").write_text("social.example\n", "utf-8")
    (tmp_path / "users.txt").write_text("# nobody\n", "utf-8")
    write(tmp_path, "shop", "shop.example")
    with penstock.Proxy(file) as proxy:
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].probe, "a probe has ended")
        with urllib.request.urlopen(f"http://{proxy.admin}/metrics", timeout=20) as answer:
            exposed = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    assert documented == exposed


def test_every_reason_of_a_refusal_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("## Refusals")[2].partition("\n## ")[0]
    documented = {
        word
        for row in re.findall(r"^\| (`.+?) \| \d{3} \|", text, re.MULTILINE)
        for word in re.findall(r"`(\w+)`", row)
    }
    with penstock.Proxy(
        {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {"body": "x"}}]}
    ) as proxy:
        assert documented == set(proxy.stats().rejected)


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
