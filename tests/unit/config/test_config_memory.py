"""A chain of changes gives, step by step, what a process that starts now would give: the same plan, the same faults."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from penstock.config import Config, Memory, check, compile_plan, compile_text, load, load_value
from penstock.config.compile import _own_text
from penstock.config.pieces import plain_table
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Small sets, so that a chain comes back to what was there before; some of each are faults of shape or of content.
NAMES = st.sampled_from(["a", "b", "route-1", "no name", 7])
UPSTREAMS = st.sampled_from(["one", "two", "three", "gone"])
ROUTE = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "match": st.sampled_from(['path == "/x"', 'host == "H.example"', "path ==", "True", 'path.startswith("/")']),
        "upstream": UPSTREAMS,
        "split": st.sampled_from(
            [
                {"one": 1, "two": 2},
                {"one": True},
                {"one": 0},
                [{"upstream": "two"}],
                {"shares": {"one": 1}, "key": "path"},
            ]
        ),
        "respond": st.sampled_from([{}, {"status": 204, "body": "x"}, {"body": "é"}, {"headers": {"Via": "x"}}]),
        "redirect": st.sampled_from([{"to": "/x"}, {"to": "/x", "status": 301}, {"to": "/x", "status": 301.0}]),
        "listeners": st.sampled_from([["web"], ["api", "web"], ["gone"], []]),
        "filters": st.lists(
            st.sampled_from(
                [
                    {"strip_prefix": "/a"},
                    {"strip_prefix": "a"},
                    {"set_request_header": {"X-A": "1", "X-B": "2"}},
                    {"set_request_header": {"X-B": "2", "X-A": "1"}},
                    {"cors": {"credentials": True}},
                    {"cors": {"max_age": 1}},
                    {"cors": {"max_age": True}},
                    {},
                ]
            ),
            max_size=2,
        ),
        "timeouts": st.sampled_from([{"total": "5s"}, {"total": "5"}]),
        "limits": st.sampled_from([{"body": 1}, {"body": True}, {"body": 1.0}]),
    },
)
EDIT = st.one_of(
    st.tuples(st.just("insert"), st.integers(0, 5), ROUTE),
    st.tuples(st.just("replace"), st.integers(0, 5), ROUTE),
    st.tuples(st.just("remove"), st.integers(0, 5), st.none()),
    st.tuples(st.just("twice"), st.integers(0, 5), st.none()),
    st.tuples(st.just("reverse"), st.just(0), st.none()),
    st.tuples(st.just("upstreams"), st.just(0), st.permutations(["one", "two", "three"])),
    st.tuples(st.just("listeners"), st.just(0), st.permutations(["web", "api"])),
)
GOOD = {"match": 'path == "/good"', "upstream": "one", "filters": [{"add_prefix": "/p"}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


@pytest.mark.parametrize("form", ["json", "toml"])
@given(edits=st.lists(EDIT, max_size=8))
def test_a_chain_of_reloads_is_as_good_as_new(folder: Path, form: str, edits: list[tuple[str, int, Any]]) -> None:
    memory = Memory()
    document: dict[str, Any] = {
        "listeners": {"web": {"bind": ":1"}, "api": {"bind": ":2"}},
        "upstreams": {name: {"endpoints": ["10.0.0.1:1"]} for name in ("one", "two", "three")},
        "routes": [dict(GOOD), {"respond": {}}],
    }
    for edit in [("reverse", 0, None), *edits]:
        document = edited(document, *edit)
        file = folder / f"penstock.{form}"
        file.write_text(json.dumps(document) if form == "json" else as_toml(document))
        assert outcome(file, memory) == outcome(file, Memory())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"respond": {}, "limits": {"body": 1}}, {"respond": {}, "limits": {"body": True}}),
        ({"respond": {"status": 200}}, {"respond": {"status": 200.0}}),
        ({"split": {"one": 1, "two": 2}}, {"split": {"two": 2, "one": 1}}),
        (
            {"upstream": "one", "filters": [{"set_query": {"a": "", "b": ""}}]},
            {"upstream": "one", "filters": [{"set_query": {"b": "", "a": ""}}]},
        ),
    ],
)
def test_what_python_holds_equal_is_another_route(folder: Path, before: dict[str, Any], after: dict[str, Any]) -> None:
    memory = Memory()
    file = folder / "penstock.json"
    document = {"listeners": {"web": {"bind": ":1"}}, "upstreams": {n: {"endpoints": ["a:1"]} for n in ("one", "two")}}
    outcomes = []
    for route in (before, after):
        file.write_text(json.dumps({**document, "routes": [route]}))
        outcomes.append(outcome(file, memory))
        assert outcomes[-1] == outcome(file, Memory())
    assert outcomes[0] != outcomes[1]


def as_toml(document: dict[str, Any]) -> str:
    """The document as people write it: each route under a header, its tables under their own."""
    lines = []
    for kind in ("upstreams", "listeners"):
        for name, table in document[kind].items():
            lines += [f"[{kind}.{name}]", *(f"{key} = {toml_value(value)}" for key, value in table.items())]
    for route in document["routes"]:
        tables = {key: value for key, value in route.items() if key in ("limits", "timeouts", "respond")}
        lines += ["[[routes]]", *(f"{key} = {toml_value(value)}" for key, value in route.items() if key not in tables)]
        for key, table in tables.items():
            lines += [f"[routes.{key}]", *(f"{name} = {toml_value(value)}" for name, value in table.items())]
    return "\n".join(lines)


def toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{json.dumps(key)} = {toml_value(one)}' for key, one in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value)


def edited(document: dict[str, Any], what: str, at: int, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(document)
    routes = document["routes"]
    if what in ("upstreams", "listeners"):
        document[what] = {name: document[what][name] for name in value}
    elif what == "reverse":
        routes.reverse()
    elif what == "insert":
        routes.insert(at, value)
    elif routes and what == "twice":
        routes.append(routes[at % len(routes)])
    elif routes:
        routes[at % len(routes) : at % len(routes) + 1] = [] if what == "remove" else [value]
    return document


def outcome(file: Path, memory: Memory) -> object:
    try:
        loaded = load(file, memory)
        return check(loaded), json.loads(compile_text(loaded.config, loaded.folder, 1, memory))
    except ConfigError as error:
        return error.faults


def test_only_a_route_that_changed_is_worked_on(folder: Path) -> None:
    memory, worked = Memory(), []

    def find(route: object) -> str:
        worked.append(route)
        return "found"

    file = folder / "penstock.json"
    routes = [{"name": f"r{number}", "respond": {}} for number in range(5)]
    for _ in range(3):
        file.write_text(json.dumps({"listeners": {"web": {"bind": ":1"}}, "routes": routes}))
        config = load(file, memory).config
        assert memory.each(config.routes, find) == ["found"] * len(routes)
        routes.insert(1, {"name": f"new{len(routes)}", "respond": {}})
    assert [route.name for route in worked] == ["r0", "r1", "r2", "r3", "r4", "new5", "new6"]  # type: ignore[attr-defined]


# Each is read in pieces as it is whole, or is not read in pieces.
WHOLE = [
    "routes = [{respond = {}}]\n[listeners.web]\nbind = ':1'\n",
    "[listeners.web]\nbind = ':1'\n[[routes]]\nrespond = {}\n[routes.limits]\nbody = 1\n[[routes]]\nrespond = {}\n",
    "  [[routes]] #\nrespond = {}\r\n[[routes.filters]]\nstrip_prefix = '/a'\n[[routes.filters]]\nadd_prefix = '/b'\n"
    "[listeners.web]\nbind = ':1'\n",
    "[[routes]]\nrespond = {}\n[listeners.web]\nbind = ':1'\n[routes.limits]\nbody = 1\n",
    "[[routes]]\nrespond = {body = '''\n[[routes]]\n'''}\n[listeners.web]\nbind = ':1'\n",
    "[[routes]]\nrespond = {}\nfilters = [\n[[routes]]\n]\n[listeners.web]\nbind = ':1'\n",
    "[[routes]]\nrespond = {}\nlisteners=[\n'web'\n]\n[listeners.web]\nbind = [\n':1'\n]\n[[ routes ]]\nrespond = {}\n",
    "[listeners.web]\nbind = ':1'\n[[routes]]\nrespond = {}\n[routes]\n",
    "[[routes]]\nrespond = {}\n[listeners.web]\nbind = ':1'\n[ 'routes' . limits ]\nbody = 1\n",
    '[[routes]]\nrespond = {}\n[listeners.web]\nbind = ":1"\n["\\u0072outes".limits]\nbody = 1\n',
    "[listeners.web]\nbind = ':1'\n[[routes]]\nrespond = {}\n[listeners.web]\n",
    "[[routes]]\nrespond = {}\nrespond = {}\n[listeners.web]\nbind = ':1'\n",
    "[[routes]] x\n[listeners.web]\nbind = ':1'\n",
    "[[routes]]\nrespond = {}\n[listeners.web]\nbind = ':1'\nx = " + "[" * 5_000,
    "[listeners.web]\nbind = ':1'\n[[routes]]\nname = 'a'\nmatch = 'path == \"/x\"'\nupstream = 'u'\n\n[[routes]]\n"
    "match = \"host == '\\u0061'\"\nupstream = 'u'\n[upstreams.u]\nendpoints = ['h:1']\n",
    "[listeners.web]\nbind = ':1'\n[[routes]]\nname = 'a'\nname = 'b'\n",
    "[listeners.web]\nbind = ':1'\n[[routes]]\nnme = 'a'\n",
    "routes = [{respond = {}}]\n[listeners.web]\nbind = ':1'\n[[routes]]\nname = 'a'\n",
    "[listeners.web]\nbind = [\n':1',\n[[routes]]\nname = 'a'\n]\n",
]


@pytest.mark.parametrize("text", WHOLE)
def test_a_text_in_pieces_is_what_it_is_whole(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "pieces.toml"
    file.write_text(text, newline="")
    with monkeypatch.context() as patch:
        patch.setattr(Memory, "reread", lambda *_: None)
        whole = outcome(file, Memory())
    memory = Memory()
    # None of its pieces is known, or all are but for those of the second text, or none of the second's is.
    for before in (None, "[listeners.web]\nbind = ':1'\n[[routes]]\nrespond = {}\n", text):
        if before is not None:
            file.write_text(before, newline="")
            outcome(file, memory)
        file.write_text(text, newline="")
        assert outcome(file, memory) == whole


LINES = st.sampled_from(["", "\n", "name = 'a'\n", "name='a'\n", "match = ", 'upstream = "u"\n', "# x\n", "x_y = ''\n"])


@given(st.lists(LINES | st.text("ab_= '\"\\\n\t#é\x7f[]", max_size=8), max_size=6))
def test_a_plain_route_is_what_the_parser_makes_of_it(lines: list[str]) -> None:
    text = "[[routes]]\n" + "".join(lines)
    if (table := plain_table(text)) is not None:
        assert tomli.loads(text) == {"routes": [table]}


def test_most_routes_are_plain() -> None:
    match = "path.startswith('/x')"
    text = f"[[routes]]\nmatch = \"{match}\"\nupstream = 'shop'\n\n"
    assert plain_table(text) == {"match": match, "upstream": "shop"}


def test_of_toml_only_what_changed_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    loads = tomli.loads
    monkeypatch.setattr(tomli, "loads", lambda text: read.append(text) or loads(text))
    memory = Memory()
    file = folder / "read.toml"
    head = "[listeners.web]\nbind = ':1'\n"
    routes = [f"[[routes]]\nname = 'r{number}'\nrespond = {{}}\n" for number in range(3)]
    file.write_text(head + "".join(routes))
    load(file, memory)
    routes[1] = "[[routes]]\nname = 'new'\nrespond = {}\n"
    file.write_text(head + "".join(routes))
    assert [route.name for route in load(file, memory).config.routes] == ["r0", "new", "r2"]
    assert read[1:] == [head, routes[1]]


def test_what_is_gone_is_forgotten(folder: Path) -> None:
    memory = Memory()
    file = folder / "penstock.json"
    for routes in ([{"name": "a"}, {"name": "b"}], [{"name": "b"}]):
        file.write_text(json.dumps({"routes": routes}))
        load(file, memory)
    assert len(memory._by_text) == len(memory._known) == 1


@pytest.mark.parametrize("form", ["value", "python"])
def test_what_a_program_holds_may_change_in_place(folder: Path, form: str) -> None:
    config = Config.model_validate(
        {
            "listeners": {"web": {"bind": ":1"}},
            "routes": [{"respond": {}, "filters": [{"set_query": {"a": "1"}}]}],
        }
    )
    fields = config.routes[0].filters[0].set_query
    assert fields is not None
    memory = Memory()
    reload = reloads(folder, form, config, memory)
    reload()
    fields["a"] = "2"
    loaded = reload()
    plan = json.loads(compile_text(loaded.config, loaded.folder, 1, memory))
    assert plan["routes"][0]["filters"] == [{"set_query": [["a", "2"]]}]


def reloads(folder: Path, form: str, config: Config, memory: Memory) -> Callable[[], Any]:
    if form == "value":
        return lambda: load_value(config)
    file = folder / "program.py"
    file.write_text("import penstock\nconfig = penstock.held")
    import penstock  # noqa: PLC0415

    penstock.held = config  # type: ignore[attr-defined]
    return lambda: load(file, memory)


def test_the_remembered_text_is_all_of_a_route_but_its_place(folder: Path) -> None:
    config = Config.model_validate({"upstreams": {"one": {"endpoints": ["a:1"]}}, "routes": [GOOD]})
    route = compile_plan(config, folder, 1)["routes"][0]
    own = json.loads(f"{{{_own_text(config.routes[0])}}}")
    elsewhere = ("name", "listeners", "action", "forward_auth", "addons", "error_pages", "mirror")
    assert own == {key: value for key, value in route.items() if key not in elsewhere}
