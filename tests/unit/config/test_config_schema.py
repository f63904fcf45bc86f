from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from penstock.config import check, compile_plan, config_schema, explain_request, load, load_value, test_requests
from penstock.config.expression import compile_expression
from penstock.errors import ExpressionError, UsageError

ROOT = Path(__file__).parents[3]
FULL = """
[listeners.web]
bind = ":8080"
trusted_proxies = ["10.0.0.0/8"]
[upstreams.a]
endpoints = ["10.0.0.1:80", { address = "unix:a.sock", weight = 0 }]
host = "x.internal"
health_check = {}
[[routes]]
match = 'client.ip in ["10.0.0.0/8"] and "X" in header and not path.matches(r"^/x") and "a" not in header["B"]'
split = { a = 1 }
filters = [
  { set_request_header = { a = "b" } }, { add_request_header = { a = "b" } }, { remove_request_header = ["a"] },
  { set_response_header = { a = "b" } }, { add_response_header = { a = "b" } }, { remove_response_header = ["a"] },
  { strip_prefix = "/a" }, { add_prefix = "/a" }, { replace_prefix = { from = "/a", to = "/b" } },
  { rewrite_path = { regex = "a", to = "b" } }, { set_query = { a = "b" } }, { remove_query = ["a"] }, { cors = {} },
  { compress = {} },
]
[[routes]]
match = 'path.glob("/*") or port > 1 or path.endswith(("a", "b")) or method in ["GET"] or path.startswith("/") or True'
redirect = { to = "/x", status = 301 }
[[routes]]
respond = { body = "x" }
[[routes]]
split = { shares = [{ upstream = "a" }], key = "path", override = { header = "A", cookie = "a", values = { b = "a" } } }
[[routes]]
upstream = "a"
[log.access]
to = "a.log"
"""


def examples(name: str) -> list[str]:
    """The TOML of a page of the documentation, as far as it is a whole configuration."""
    page = (ROOT / "docs" / name).read_text()
    return re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


@pytest.mark.parametrize("text", [FULL, *examples("configuration.md")])
def test_examples_are_sound_and_of_the_schema(text: str, schema: dict[str, Any], tmp_path: Path) -> None:
    jsonschema.validate(tomli.loads(text), schema)
    file = tmp_path / "penstock.toml"
    file.write_text(text)
    check(load(file))


def test_the_schema_refuses_what_the_model_refuses(schema: dict[str, Any]) -> None:
    for value in (
        {"listenrs": {}},
        {"listeners": {"web": {"bind": 80}}},
        {"routes": [{"filters": [{"strip_prefix": "/a", "add_prefix": "/b"}]}]},
        {"upstreams": {"a": {"endpoints": []}}},
        {"engine": {"drain_timeout": "5"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(value, schema)


def test_every_key_of_the_schema_is_described_and_documented(schema: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for model in (schema, *schema["$defs"].values()):
        assert model["description"]
        for key, described in model["properties"].items():
            assert described.get("description"), f"{model['title']}.{key} has no docstring"
            assert f"`{key}`" in page, f"{model['title']}.{key} is not in docs/configuration.md"


def test_expressions_of_the_documentation_compile() -> None:
    page = (ROOT / "docs" / "expressions.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert blocks
    for line in "".join(blocks).splitlines():
        if line.strip():
            compile_expression(line)
    for text in re.findall(r"^\| `([^`]+)` \| refused", page, re.MULTILINE):
        with pytest.raises(ExpressionError):
            compile_expression(text)


def test_plans_are_of_the_plan_schema(tmp_path: Path) -> None:
    native = pytest.importorskip("penstock._native", reason="the extension is not built")
    validator = jsonschema.Draft202012Validator(json.loads(native.plan_schema()))
    for text in (FULL, *examples("configuration.md")):
        file = tmp_path / "penstock.toml"
        file.write_text(text)
        loaded = load(file)
        plan = json.loads(json.dumps(compile_plan(loaded.config, loaded.folder, 1)))
        validator.validate(plan)
        native.CheckedPlan(json.dumps(plan))


def test_tests_of_the_file_become_requests() -> None:
    loaded = load_value(
        {
            "listeners": {"web": {"bind": ":1"}},
            "routes": [{"respond": {}}],
            "tests": [
                {"url": "https://Shop.example:8443?a=b", "headers": {"X-A": "1"}, "client": "::1", "status": 200},
                {"name": "two", "method": "POST", "url": "http://x/y", "headers": {"Host": "z"}, "route": "route-1"},
            ],
        }
    )
    assert check(loaded) == []
    first, second = test_requests(loaded.config)
    assert first.request == {
        "listener": None,
        "method": "GET",
        "scheme": "https",
        "host": "Shop.example:8443",
        "target": "/?a=b",
        "headers": [["x-a", "1"]],
        "body": None,
        "user": None,
        "client": "[::1]:40000",
    }
    assert (first.key, first.name, first.expected.status) == ("tests[0]", "GET https://Shop.example:8443?a=b", 200)
    assert (second.name, second.request["host"], second.expected.route) == ("two", "z", "route-1")


@pytest.mark.parametrize("url", ["/x", "ftp://x/", "http://", "http://x:99999/", "http://u@x/"])
def test_a_request_needs_an_absolute_url(url: str) -> None:
    with pytest.raises(UsageError):
        explain_request("GET", url)
