from __future__ import annotations

import json
import os
import textwrap
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from penstock.config import (
    Config,
    Endpoint,
    Filter,
    Listener,
    Route,
    Upstream,
    check,
    check_routes,
    compile_filter,
    compile_plan,
    load,
    load_value,
)
from penstock.config.document import read_key, write_key
from penstock.config.file import LARGEST_FILE
from penstock.config.model import Affinity
from penstock.errors import ConfigError, Fault

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT: dict[str, Any] = {
    "listeners": {"web": {"bind": [":8080", "127.0.0.1:0"], "timeouts": {"head": "5s"}}},
    "upstreams": {"my.shop": {"endpoints": ["10.0.0.1:9000", {"address": "10.0.0.2:9000", "weight": 2}]}},
    "routes": [
        {
            "match": 'host == "shop.example"',
            "split": {"my.shop": 1},
            "filters": [{"replace_prefix": {"from": "/a", "to": "/b"}}, {"set_request_header": {"X-A": "ü"}}],
        },
        {"respond": {"status": 404, "body": "no"}},
    ],
    "tests": [{"url": "http://shop.example/", "route": "route-1"}],
}
TOML = """
[listeners.web]
bind = [":8080", "127.0.0.1:0"]
timeouts.head = "5s"
[upstreams."my.shop"]
endpoints = ["10.0.0.1:9000", { address = "10.0.0.2:9000", weight = 2 }]
[[routes]]
match = 'host == "shop.example"'
split = { "my.shop" = 1 }
filters = [{ replace_prefix = { from = "/a", to = "/b" } }, { set_request_header = { X-A = "ü" } }]
[[routes]]
respond = { status = 404, body = "no" }
[[tests]]
url = "http://shop.example/"
route = "route-1"
"""


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def faults_of(file: Path | str) -> list[Fault]:
    with pytest.raises(ConfigError) as caught:
        check(load(file))
    return list(caught.value.faults)


def test_all_forms_give_the_same_plan(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("w") as opened:
        YAML().dump(DOCUMENT, opened)
    files = [
        write(tmp_path, "a.toml", TOML),
        tmp_path / "a.yaml",
        write(tmp_path, "a.json", json.dumps(DOCUMENT)),
        write(tmp_path, "a.py", f"config = {DOCUMENT!r}"),
        write(tmp_path, "b.py", f"from penstock.config import Config\nconfig = Config.model_validate({DOCUMENT!r})"),
    ]
    plans = []
    for file in files:
        loaded = load(file)
        assert check(loaded) == []
        plans.append(compile_plan(loaded.config, loaded.folder, 1))
    assert all(plan == plans[0] for plan in plans)
    assert plans[0]["routes"][0]["action"] == {
        "split": {"shares": [{"upstream": 0, "weight": 1}], "key": None, "override": None}
    }


def test_python_values_make_a_configuration() -> None:
    config = Config(
        listeners={"web": Listener(bind=":0", timeouts={"head": timedelta(seconds=2)}, limits={"body": 4096})},
        upstreams={"shop": Upstream(endpoints=["127.0.0.1:9000", Endpoint(address="127.0.0.1:9001", weight=3)])},
        routes=[Route(match='path == "/x"', upstream="shop", filters=[Filter(strip_prefix="/x")])],
    )
    loaded = load_value(config)
    assert check(loaded) == []
    plan = compile_plan(loaded.config, loaded.folder, 7)
    assert plan["version"] == 7
    assert plan["listeners"][0]["timeouts"]["head"] == 2000
    assert plan["listeners"][0]["limits"]["body"] == 4096
    endpoint = plan["upstreams"][0]["endpoints"][1]
    assert (endpoint["address"], endpoint["weight"]) == ("127.0.0.1:9001", 3)


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        ({"addons": {"a": {"module": json}}, "routes": 5}, ["routes: must be a list, not 5"]),
        ({"routes": (5,)}, ["routes[0]: must be a table, not 5"]),
        (
            {"routes": ({"respond": {}}, {"respnd": {}}), "more": 1},
            ["routes[1].respnd: unknown key", "more: unknown key"],
        ),
    ],
    ids=["module", "tuple", "both"],
)
def test_what_a_program_made_is_refused_as_a_file_is(value: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load_value({"listeners": {"web": {"bind": ":1"}}, **value})
    found = [f"{fault.key}: {fault.message}" for fault in refused.value.faults]
    assert all(any(line.startswith(wanted) for line in found) for wanted in faults), found


def test_what_holds_itself_is_refused(tmp_path: Path) -> None:
    routes: list[object] = []
    routes.append(routes)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_value({"routes": routes})
    assert "nested too deeply" in str(faults_of(write(tmp_path, "a.yaml", "routes: &a [*a]")))


def test_a_config_that_was_changed_since_it_was_made_is_looked_at_again() -> None:
    document = {**DOCUMENT, "addons": {"a": {"module": json}}}
    config = Config.model_validate(document)
    again = load_value(config).config
    assert again == config
    assert again.addons["a"].module is json
    config.listeners["more"] = {"bind": ":1"}  # type: ignore[assignment]
    assert load_value(config).config.listeners["more"].bind == (":1",)
    config.listeners["more"] = {"bnd": ":1"}  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"listeners\.more\.bnd: unknown key"):
        load_value(config)


# The fault is in the second route's upstream in each form; its line is that of the key.
PLACED = {
    "a.toml": (
        """[listeners.web]
bind = ":1"
[[routes]]
match = '''
path == "/"
'''
respond = {}
[[routes]]
# a comment
upstream = "z"
""",
        10,
    ),
    "b.toml": (
        """listeners = { web = { bind = ":1" } }
routes = [
  { respond = { body = "]}" }, match = 'path == "/"' },
  { upstream = "z" },
]
""",
        4,
    ),
    "a.yaml": (
        """listeners: {web: {bind: ":1"}}
routes:
  - match: path == "/"
    respond: {}
  -
    upstream: z
""",
        6,
    ),
    "a.json": (
        r"""{"listeners": {"web": {"bind": ":1"}},
"routes": [
{"respond": {"body": "\"}]"},
"match": "path == \"/\""},
	{
"upstream": "z"}]}
""",
        6,
    ),
}


@pytest.mark.parametrize("name", PLACED)
def test_a_fault_names_its_line(name: str, tmp_path: Path) -> None:
    text, line = PLACED[name]
    (fault,) = faults_of(write(tmp_path, name, text))
    assert (fault.line, fault.key) == (line, "routes[1].upstream")
    assert str(fault).startswith(f"{tmp_path / name}:{line}: routes[1].upstream: ")


BROKEN = {
    "a.toml": [
        ("a = \n", 1, "not TOML"),
        ("[listeners]\n[listeners]\n", 2, "written once"),
        ("x = 1\nx = 2\n", 2, "not TOML"),
    ],
    "a.yaml": [
        ("a: [1\n", 2, "not YAML"),
        ("a: 1\na: 2\n", 2, "written once"),
        ("- 1\n", None, "a configuration is a table"),
    ],
    "a.json": [
        ('{"a": 1,\n}', 2, "not JSON"),
        ('{"routes": [{"upstream": "a",\n "upstream": "b"}]}', 2, "written twice"),
        ('{"routes": NaN}', None, "not JSON"),
        ('{"routes": [{"match": "\\ud800"}]}', 1, "surrogate"),
        ("[" * 100_000, None, "nested too deeply"),
    ],
    "a.py": [
        ("x = 1\n", None, "defines no name config"),
        ("config = 1\n", None, "config is a int"),
        ("\nconfig = 1 / 0\n", 2, "ZeroDivisionError"),
        ("def f():\n  raise SystemExit(3)\nf()\n", 2, "SystemExit"),
        ("config = (\n", 1, "SyntaxError"),
        ("from penstock.config import Route\n\nconfig = Route(upstrem='x')\n", 3, "upstrem"),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "line", "message"), [(name, *case) for name, cases in BROKEN.items() for case in cases]
)
def test_a_broken_file_is_a_fault_with_its_line(
    name: str, text: str, line: int | None, message: str, tmp_path: Path
) -> None:
    (fault,) = faults_of(write(tmp_path, name, text))
    assert message in str(fault)
    assert fault.line == line


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "binary.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    (tmp_path / "large.toml").write_bytes(b"#" * (LARGEST_FILE + 1))
    os.mkfifo(tmp_path / "pipe.toml")
    for name, message in {
        "missing.toml": "there is no such file",
        "folder.toml": "is a folder",
        "binary.toml": "is not UTF-8",
        "large.toml": "is larger than 16 MB",
        "pipe.toml": "is not a regular file",
        "penstock.conf": "must end with one of .toml",
    }.items():
        (fault,) = faults_of(tmp_path / name)
        assert message in fault.message
        assert fault.file == str(tmp_path / name)


def test_a_name_that_is_no_text_is_a_fault(tmp_path: Path) -> None:
    file = write(tmp_path, "a.yaml", 'listeners:\n  8080: {bind: ":1"}\n  web: {bind: ":2"}\nroutes: [{respond: {}}]\n')
    (fault,) = faults_of(file)
    assert "a name must be a text" in fault.message
    assert fault.line is not None


def test_a_table_in_place_of_a_list_says_how_it_is_written(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, "a.toml", '[listeners.web]\nbind = ":1"\n[routes]\nupstream = "a"\n'))
    assert "begin each with [[routes]]" in fault.message


def test_faults_of_the_data_plane_are_placed(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "a.toml", TOML))
    found = loaded.plan_fault("upstreams[0].endpoints[1].address", "no")
    assert (found.line, found.key) == (6, 'upstreams."my.shop".endpoints[1].address')
    found = loaded.plan_fault("routes[0].match.predicate.and[1].matches", "no")
    assert (found.line, found.key) == (8, "routes[0].match")
    found = loaded.plan_fault("routes[0].filters[0].replace_prefix", "no")
    assert found.line == 10


def test_keys_are_read_as_they_are_written() -> None:
    for key in (("routes", 3, "upstream"), ("upstreams", 'a."b\\', "endpoints", 0), ("a",)):
        assert read_key(write_key(key)) == key


@pytest.mark.parametrize("text", ["5", "5 years", "s", "-1s", "1e3s", "400d", "", "٥s"])
def test_a_duration_needs_a_unit(text: str) -> None:
    value = {"listeners": {"web": {"bind": ":1", "timeouts": {"head": text}}}, "routes": [{"respond": {}}]}
    with pytest.raises(ConfigError, match="duration"):
        load_value(value)


def test_units() -> None:
    value = {
        "listeners": {"web": {"bind": ":1", "limits": {"head": "64 kb", "body": "1.5MB", "body_rate": "0B"}}},
        "routes": [{"respond": {}, "timeouts": {"total": "1.5h", "head": "0.25s"}}],
        "engine": {"drain_timeout": "0s"},
    }
    config = load_value(value).config
    limits = config.listeners["web"].limits
    assert (limits.head, limits.body, limits.body_rate) == (65536, 1572864, 0)
    assert config.routes[0].timeouts.total == timedelta(hours=1.5)
    assert config.routes[0].timeouts.head == timedelta(milliseconds=250)


def test_a_document_from_yaml_may_be_empty(tmp_path: Path) -> None:
    (fault,) = faults_of(write(tmp_path, "a.yaml", textwrap.dedent("# nothing\n")))
    assert "listeners: none is given" in fault.message


@pytest.mark.parametrize("secret", [b"hunter2hunter2", 77777777, {"env": 77777777}])
def test_a_secret_in_the_wrong_place_is_not_shown(secret: object) -> None:
    affinity = {"cookie": "lb", "secret": secret}
    upstream = {"endpoints": ["127.0.0.1:9000"], "affinity": affinity}
    with pytest.raises(ConfigError) as refused:
        load_value({"listeners": {"web": {"bind": ":0"}}, "upstreams": {"a": upstream}})
    with pytest.raises(ValidationError) as raised:
        Affinity.model_validate(affinity)
    for message in (str(refused.value), str(raised.value)):
        assert "secret" in message
        assert "hunter2" not in message
        assert "7777" not in message


@pytest.mark.parametrize(
    ("built", "hint"),
    [
        ('Listener(bind=":0", bnd=":1")', 'bnd: Listener: unknown key; did you mean "bind"? (allowed: bind, protocol,'),
        ('Listener(bind=":0", limits={"boddy": 1})', 'limits.boddy: Listener: unknown key; did you mean "body"?'),
        ('Filter(strip_prefx="/a")', 'strip_prefx: Filter: unknown filter; did you mean "strip_prefix"?'),
        ("Config(listenrs={})", 'listenrs: Config: unknown key; did you mean "listeners"?'),
    ],
)
def test_an_unknown_key_of_a_part_is_told_the_keys_of_that_part(tmp_path: Path, built: str, hint: str) -> None:
    file = write(tmp_path, "a.py", f"from penstock.config import *\nconfig = {built}")
    (fault,) = faults_of(file)
    assert hint in str(fault)


def test_every_filter_is_checked_and_compiled() -> None:
    assert set(Filter.model_fields) == set(check_routes._FILTERS) == set(compile_filter._FILTERS)
