from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import engine
from penstock.config import Memory, compile_expression, compile_text, load_value
from penstock.config.expression import compile_key, compile_template
from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Callable


def compare(left: Any, operator: str, right: Any, *at: int) -> Any:
    return {"compare": {"left": left, "operator": operator, "right": right, "at": list(at)}}


def header(name: str) -> Any:
    return {"field": {"header": name}}


COMPILED = {
    "True": {"constant": True},
    'host == "a.b"': compare("host", "==", {"text": "a.b"}, 0, 13),
    'host == "A.Example."': compare("host", "==", {"text": "a.example"}, 0, 20),
    '"/x" == path': compare({"text": "/x"}, "==", "path", 0, 12),
    "port == 80": compare("port", "==", {"number": 80}, 0, 10),
    "client.port >= 1024": compare("client_port", ">=", {"number": 1024}, 0, 19),
    "1 < port < 100": {
        "and": [
            compare({"number": 1}, "<", "port", 0, 8),
            compare("port", "<", {"number": 100}, 4, 14),
        ]
    },
    'header["X-A"] != "a"': compare(header("x-a"), "!=", {"text": "a"}, 0, 20),
    'cookie["a"] == query["b"]': compare({"field": {"cookie": "a"}}, "==", {"field": {"query": "b"}}, 0, 25),
    'header["A"].lower().lower() == "x"': compare({"lower": header("a")}, "==", {"text": "x"}, 0, 34),
    'json["/plan"] == "pro"': compare({"field": {"json": "/plan"}}, "==", {"text": "pro"}, 0, 22),
    'json["/n"] > -1': compare({"json_number": "/n"}, ">", {"number": -1}, 0, 15),
    'json["/a"].lower() == "x"': compare({"lower": {"field": {"json": "/a"}}}, "==", {"text": "x"}, 0, 25),
    'json["/a"] in [1, 70000]': {
        "in": {"value": {"json_number": "/a"}, "set": [{"number": 1}, {"number": 70000}], "at": [0, 24]}
    },
    '"/a~1b" in json': {"exists": {"field": {"json": "/a~1b"}, "at": [0, 15]}},
    'json["/flag"] == True': {"json_is": {"pointer": "/flag", "value": True, "at": [0, 21]}},
    'json["/a"] != None': {
        "and": [
            {"exists": {"field": {"json": "/a"}, "at": [0, 18]}},
            {"not": {"json_is": {"pointer": "/a", "value": None, "at": [0, 18]}}},
        ]
    },
    'json["/a"] not in ["x"]': {
        "and": [
            compare({"field": {"json": "/a"}}, ">=", {"text": ""}, 0, 23),
            {"not": {"in": {"value": {"field": {"json": "/a"}}, "set": [{"text": "x"}], "at": [0, 23]}}},
        ]
    },
    'method in ("GET", "HEAD")': {"in": {"value": "method", "set": [{"text": "GET"}, {"text": "HEAD"}], "at": [0, 25]}},
    'path not in ["/a"]': {"not": {"in": {"value": "path", "set": [{"text": "/a"}], "at": [0, 18]}}},
    'header["A"] not in ["a"]': {
        "and": [
            {"exists": {"field": {"header": "a"}, "at": [0, 24]}},
            {"not": {"in": {"value": header("a"), "set": [{"text": "a"}], "at": [0, 24]}}},
        ]
    },
    "port not in [80]": {
        "and": [
            compare("port", ">=", {"number": 0}, 0, 16),
            {"not": {"in": {"value": "port", "set": [{"number": 80}], "at": [0, 16]}}},
        ]
    },
    '"bot" not in header["A"]': {
        "and": [
            {"exists": {"field": {"header": "a"}, "at": [0, 24]}},
            {"not": {"contains": {"value": header("a"), "part": {"text": "bot"}, "at": [0, 24]}}},
        ]
    },
    '"bot" in header["A"]': {"contains": {"value": header("a"), "part": {"text": "bot"}, "at": [0, 20]}},
    '"X-Debug" in header': {"exists": {"field": {"header": "x-debug"}, "at": [0, 19]}},
    '"Q" not in query': {"not": {"exists": {"field": {"query": "Q"}, "at": [0, 16]}}},
    'client.ip == "10.0.0.1"': {"in_networks": {"networks": ["10.0.0.1/32"], "at": [0, 23]}},
    '"::1" != client.ip': {"not": {"in_networks": {"networks": ["::1/128"], "at": [0, 18]}}},
    'client.ip in ["10.0.0.0/8", "::1"]': {"in_networks": {"networks": ["10.0.0.0/8", "::1/128"], "at": [0, 34]}},
    'path.startswith("/a")': {"starts_with": {"value": "path", "prefixes": ["/a"], "at": [0, 21]}},
    'path.endswith((".a", ".b"))': {"ends_with": {"value": "path", "suffixes": [".a", ".b"], "at": [0, 27]}},
    'host.endswith(".Example.")': {"ends_with": {"value": "host", "suffixes": [".example"], "at": [0, 26]}},
    'host.startswith("A.")': {"starts_with": {"value": "host", "prefixes": ["a."], "at": [0, 21]}},
    r'path.matches(r"^/\d+$")': {"matches": {"value": "path", "regex": r"^/\d+$", "at": [0, 23]}},
    'path.glob("/a/*")': {"glob": {"value": "path", "pattern": "/a/*", "at": [0, 17]}},
    'not (host == "é" or\n  port == 1)  # why': {
        "not": {
            "or": [
                compare("host", "==", {"text": "é"}, 5, 16),
                compare("port", "==", {"number": 1}, 22, 31),
            ]
        }
    },
}


@pytest.mark.parametrize("text", COMPILED, ids=lambda text: text.replace("\n", " "))
def test_compiles_to_the_plan(text: str) -> None:
    assert compile_expression(text) == COMPILED[text]


# Each: the text, the marked part, what the message must say.
REFUSED = [
    ("", "", "the expression is empty"),
    ("  ", "  ", "the expression is empty"),
    ('hots == "x"', "hots", 'did you mean "host"?'),
    ("path == 5", "5", "path is a text, this is a number; expected a text"),
    ('port == "80"', '"80"', "port is a number, this is a text"),
    ("port == 70000", "70000", "port is never 70000"),
    ('port in [80, "x"]', '"x"', "port is a number"),
    ("host", "host", "host alone is not a test"),
    ('header["X"]', 'header["X"]', '"x" in header'),
    ("header", "header", '"name" in header'),
    ('host == "a" or "b"', '"b"', "a text alone is not a test"),
    ('header == "x"', "header", 'header["name"]'),
    ('header.get("x")', 'header.get("x")', 'header["name"]'),
    ("client", "client", "client.ip or client.port"),
    ("client.name == 1", "client.name", "client.ip or client.port"),
    ('path.strtswith("/")', 'path.strtswith("/")', 'did you mean "startswith"?'),
    ('path.startswith("x")', '"x"', '"/x"'),
    ('path == "x"', '"x"', 'path is never "x"'),
    ('scheme == "HTTPS"', '"HTTPS"', '"http" or "https"'),
    ('host == "a:80"', '"a:80"', "host has no port"),
    ('header["A"].lower() == "B"', '"B"', "no capital letters"),
    ('host in "a"', '"a"', "or == to compare"),
    ("host in []", "[]", "the list is empty"),
    ('host == ["a"]', '["a"]', '"in" before a list'),
    ('"a" == "b"', '"a"', "both sides are literals"),
    ('client.ip == "10.0.0.0/8"', '"10.0.0.0/8"', 'client.ip in ["10.0.0.0/8"]'),
    ('client.ip in ["10.0.0.1/8"]', '"10.0.0.1/8"', '"10.0.0.0/8"'),
    ('client.ip in ["x"]', '"x"', "is not an address"),
    ('client.ip < "10.0.0.1"', "client.ip", "addresses have no order"),
    ('client.ip.startswith("10.")', 'client.ip.startswith("10.")', 'client.ip in ["10.0.0.0/8"]'),
    ('host == "a" && port == 1', "&&", 'write "and"'),
    ('host == "a" || port == 1', "||", 'write "or"'),
    ('host = "a"', "=", 'write "=="'),
    ('(host == "a") & (port == 1)', '(host == "a") & (port == 1)', 'expected "and"'),
    ('host is "a"', 'host is "a"', '"is" is not of the language'),
    ('path.matches("\\d")', '"', 'r"…"'),
    ("a) or (b", ")", "no opening one"),
    ('(host == "a"', "(", "not balanced"),
    ("host ==", "", "ends too early"),
    ('json["plan"] == "x"', '"plan"', "JSON Pointer"),
    ('json["/a~"] == "x"', '"/a~"', "JSON Pointer"),
    ('json["/a"] == json["/b"]', 'json["/b"]', "whose types are not known"),
    ('json["/a"] < True', 'json["/a"]', "cannot be compared so with True"),
    ("path == None", "path", "cannot be compared so with None"),
    ('header["a b"] == "x"', '"a b"', "cannot be the name of a header field"),
    ("header[host] == 1", "host", "expected the name of a header"),
    ("len(path) == 1", "len(path)", "functions cannot be called"),
    ('f"{host}" == path', 'f"{host}"', "an f-string is not a value"),
    ("host == 1.5", "1.5", "a fraction is not a value"),
    ('host == b"x"', 'b"x"', "a text of bytes"),
    ('"\\ud800" == host', '"\\ud800"', "surrogate"),
    ("not " * 100 + "True", None, "nested deeper than 50"),
    ("(" * 300 + "True" + ")" * 300, None, "nested"),
    ("9" * 5000 + " == port", None, "too large"),
    ('path == "' + "x" * 9000 + '"', None, "at most 8192 characters"),
    ("path == '/a'\x00", "\x00", "control characters"),
]


@pytest.mark.parametrize(("text", "marked", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_a_mistake_is_marked_and_explained(text: str, marked: str | None, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    error = caught.value
    assert message in str(error)
    if marked is not None:
        start, end = error.span
        assert text[start:end] == marked


@pytest.mark.parametrize("compiled", [compile_key, lambda text: compile_template("{" + text + "}")])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path" + ".lower()" * 1000, "nested too deeply"),
        ("path" + ".lower()" * 1100, "at most 8192 characters"),
        (" + ".join(["path"] * 1000), None),
        ('header["\ud800"]', "surrogate"),
    ],
    ids=["deep", "long", "joined", "surrogate"],
)
def test_what_tests_cannot_be_keys_and_values_of_templates_cannot(
    compiled: Callable[[str], object], text: str, message: str | None
) -> None:
    with pytest.raises(ExpressionError, match=message):
        compiled(text)


def test_the_mark_stands_under_the_mistake() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression('path == "/a" and\n  prot == 80')
    assert str(caught.value).splitlines()[1:] == ["      prot == 80", "      ^^^^"]
    assert "(line 2, column 3)" in str(caught.value)
    assert (caught.value.line, caught.value.column) == (2, 3)


@pytest.mark.parametrize(
    "text",
    [
        "(port == 1 or " * 49 + '"/" < path < header["A"].lower() not in ["a"]' + ")" * 49,
        "(port == 1 and " * 49 + '"x" in path not in cookie["c"].lower()' + ")" * 49,
        'client.ip in ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"]',
    ],
)
def test_what_the_compiler_takes_the_data_plane_takes(text: str) -> None:
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "routes": [{"match": text, "respond": {"status": 204}}],
    }
    engine.check(compile_text(load_value(config).config, Path(), 1, Memory()))


def test_the_same_text_is_compiled_once() -> None:
    assert compile_expression('path == "/once"') is compile_expression('path == "/once"')


WORDS = """
host path port client.ip client.port header header["A"] query["q"] json "/a" "x" 80 -1 == != < >= in not and or ( ) [ ]
, .lower() .matches .startswith( "10.0.0.0/8" True if else # \\ ' " := lambda: é { }
"""
PIECES = st.sampled_from([*WORDS.split(), "not in", "\n", "\t", "\r"])
VALUES = st.sampled_from(["host", "path", "method", 'header["X"]', 'cookie["c"].lower()', 'query["q"]'])
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8).map(
    lambda text: json.dumps("/" + text.encode().lower().decode(), ensure_ascii=False)
)
LEAVES = st.one_of(
    st.tuples(VALUES, st.sampled_from(["==", "!=", "<", ">="]), TEXTS).map(" ".join),
    st.tuples(VALUES, st.lists(TEXTS, min_size=1, max_size=3)).map(lambda p: f"{p[0]} not in [{', '.join(p[1])}]"),
    st.tuples(VALUES, TEXTS).map(lambda p: f"{p[0]}.endswith({p[1]})"),
    st.integers(0, 65535).map(lambda n: f"client.port > {n}"),
)
TESTS = st.recursive(
    LEAVES,
    lambda tests: st.one_of(
        tests.map(lambda test: f"not ({test})"),
        st.tuples(tests, st.sampled_from([" and ", " or ", "\n and "]), tests).map(lambda p: f"({p[0]}){p[1]}({p[2]})"),
    ),
    max_leaves=8,
)


@given(
    st.one_of(
        st.text(max_size=60), st.lists(PIECES, max_size=14).map(" ".join), st.lists(PIECES, max_size=14).map("".join)
    )
)
@settings(max_examples=1500)
def test_any_text_compiles_or_is_refused(text: str) -> None:
    error = None
    try:
        predicate = compile_expression(text)
    except ExpressionError as refusal:
        error = refusal
    if error is None:
        check_shape(predicate, text)
    else:
        assert 0 <= error.span[0] <= error.span[1] <= len(text) + 1
        assert "^" in str(error)


@given(TESTS)
@settings(max_examples=300)
def test_well_formed_tests_compile(text: str) -> None:
    check_shape(compile_expression(text), text)


def check_shape(predicate: Any, text: str) -> None:
    """The tree is of the plan's shape, and its places lie in the text."""
    json.dumps(predicate, ensure_ascii=False).encode()
    ((kind, content),) = predicate.items()
    if kind in ("and", "or"):
        assert len(content) > 1
        for test in content:
            check_shape(test, text)
    elif kind == "not":
        check_shape(content, text)
    elif kind != "constant":
        start, end = content["at"]
        assert 0 <= start < end <= len(text)
        keys = {
            "compare": {"left", "operator", "right", "at"},
            "in": {"value", "set", "at"},
            "in_networks": {"networks", "at"},
            "contains": {"value", "part", "at"},
            "exists": {"field", "at"},
            "starts_with": {"value", "prefixes", "at"},
            "ends_with": {"value", "suffixes", "at"},
            "matches": {"value", "regex", "at"},
            "glob": {"value", "pattern", "at"},
        }
        assert set(content) == keys[kind]
