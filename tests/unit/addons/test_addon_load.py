from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, Any

import pytest

from penstock.addons import Loader, Loading, check_fit
from penstock.config import load, load_value
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOOK = "def request_headers(request): pass\n"
CONFIG = '[listeners.web]\nbind = ":1"\n[[routes]]\nrespond = {{}}\naddons = ["a"]\n[addons.a]\nmodule = "{}"\n'


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def loading(tmp_path: Path, loader: Loader) -> Callable[..., Loading]:
    """Write a module and load a configuration that names it; what was loaded is kept unless `keep` says no."""

    def find(code: str | None = None, module: str = "a.py", *, more: str = "", keep: bool = True) -> Loading:
        if code is not None:
            file = tmp_path / module.partition(":")[0]
            file.write_text(code, "utf-8")
        (tmp_path / "penstock.toml").write_text(CONFIG.format(module) + more, "utf-8")
        found = loader.load(load(tmp_path / "penstock.toml"))
        if keep:
            loader.keep(found)
        return found["a"]

    return find


def test_hooks_are_found_and_told_apart(loading: Callable[..., Loading]) -> None:
    found = loading("async def request_headers(request): pass\ndef response_headers(request, response): pass\n")
    assert found.plan() == {"id": 1, "hooks": ["request_headers", "response_headers"], "concurrency": 8}
    assert found.tasks == {"request_headers"}
    assert loading("async def request_headers(request): pass\n").concurrency == 256
    assert loading("def request_headers(request, /, more=1): pass\n", more="concurrency = 3\n").concurrency == 3


WEIGHTS = 'import penstock\n@penstock.weights("{}")\ndef even(endpoints): return {{}}\n'


def test_functions_that_give_weights_are_found_beside_hooks_and_without(loading: Callable[..., Loading]) -> None:
    (policy,) = loading(WEIGHTS.format("shop") + HOOK).policies
    assert (policy.upstream, policy.name, policy.function(())) == ("shop", "even", {})
    alone = loading(WEIGHTS.format("shop"))
    assert (alone.hooks, len(alone.policies)) == ({}, 1)
    of_object = (
        "import penstock\nclass Even:\n    @property\n    def lost(self): raise OSError\n"
        '    @penstock.weights("shop")\n    def weigh(self, endpoints): return {"x": self.one}\n'
        "even = Even()\neven.one = 1\n"
    )
    (policy,) = loading(of_object, "a.py:even").policies
    assert (policy.name, policy.function(())) == ("Even.weigh", {"x": 1})


@pytest.mark.parametrize(
    ("code", "faults"),
    [
        (WEIGHTS.format("shop"), ['5: routes[0].addons[0]: "a" defines no hook that is asked of requests']),
        (HOOK + WEIGHTS.format("shpo"), ['7: addons.a.module: weights of even: "shpo" is not an upstream of this']),
        (HOOK + WEIGHTS.format("shop") + WEIGHTS.format("shop").replace("even", "odd"), ["odd is its second function"]),
    ],
)
def test_what_a_module_defines_must_fit_the_configuration(tmp_path: Path, code: str, faults: list[str]) -> None:
    (tmp_path / "a.py").write_text(code, "utf-8")
    file = tmp_path / "penstock.toml"
    file.write_text(CONFIG.format("a.py") + '[upstreams.shop]\nendpoints = ["a:1"]\n', "utf-8")
    loaded = load(file)
    with pytest.raises(ConfigError) as refused:
        check_fit(loaded, Loader().load(loaded))
    found = [str(fault) for fault in refused.value.faults]
    assert len(found) == len(faults)
    assert all(part in line for part, line in zip(faults, found, strict=True)), found


def test_an_add_on_that_nobody_asks_is_told_of_unless_it_gives_weights(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(HOOK, "utf-8")
    (tmp_path / "b.py").write_text(WEIGHTS.format("shop"), "utf-8")
    file = tmp_path / "penstock.toml"
    text = CONFIG.format("a.py").replace('addons = ["a"]\n', "") + '[addons.b]\nmodule = "b.py"\n'
    file.write_text(text + '[upstreams.shop]\nendpoints = ["a:1"]\n', "utf-8")
    loaded = load(file)
    (warning,) = check_fit(loaded, Loader().load(loaded))
    assert (warning.key, warning.message) == ("addons.a", "nothing names it")


def test_what_has_not_changed_lives_on(loading: Callable[..., Loading]) -> None:
    first = loading("count = []\n" + HOOK)
    assert loading() is first
    slower = loading(more='timeout = "1s"\n')
    assert (slower.id, slower.code) == (2, first.code)
    changed = loading("count = [1]\n" + HOOK)
    assert changed.id == 3
    assert changed.code is not first.code


def test_a_module_that_was_not_put_to_use_leaves_the_old_one_in_place(loading: Callable[..., Loading]) -> None:
    first = loading(HOOK)
    refused = loading(HOOK + "x = 1\n", keep=False)
    assert refused.id != first.id
    again = loading(keep=False)
    assert again.code is refused.code


def test_the_text_that_is_there_runs_under_another_name_too(tmp_path: Path, loader: Loader) -> None:
    file, module = tmp_path / "penstock.toml", tmp_path / "addon_that_is_renamed.py"

    def load_as(name: str, text: str) -> Any:
        module.write_text(f"text = {text!r}\n" + HOOK, "utf-8")
        named = CONFIG.format("addon_that_is_renamed").replace('"a"', f'"{name}"').replace("addons.a", f"addons.{name}")
        file.write_text(named if name else CONFIG.partition("addons")[0].format(), "utf-8")
        loader.keep(found := loader.load(load(file)))
        return found[name].code if name else None

    first = load_as("a", "one")
    assert load_as("b", "one") is first
    assert load_as("c", "two").text == "two"
    load_as("", "two")
    assert load_as("c", "three").text == "three"


@pytest.mark.parametrize(
    ("code", "module", "reason"),
    [
        (None, "none.py", 'none.py" is not there'),
        (None, "no.such.module", "raised ModuleNotFoundError: No module named 'no'"),
        (None, "no_such_module", 'there is no module "no_such_module"'),
        (None, "math", '"math" is no module of Python source'),
        ("x = 1\nraise RuntimeError('no key')\n", "a.py", "a.py:2: raised RuntimeError: no key"),
        ("import sys\nsys.exit(3)\n", "a.py", "raised SystemExit: 3"),
        ("def f(:\n", "a.py", "a.py:1: raised SyntaxError"),
        ("import missing_neighbour\n", "a.py", "a.py:1: raised ModuleNotFoundError"),
        (
            "x = 1\n",
            "a.py",
            "defines no hook, a function named request_headers, response_headers or authenticate, "
            "and none that gives weights",
        ),
        ("def request_header(request): pass\n", "a.py", "it has request_header"),
        ("request_headers = 7\n", "a.py", "request_headers is a int, not a function"),
        ("def request_headers(): pass\n", "a.py", "request_headers is called as request_headers(request)"),
        ("def response_headers(request): pass\n", "a.py", "response_headers(request, response)"),
        (HOOK, "a.py:missing", '"a.py" has no missing'),
        (f"class A:\n    {HOOK}", "a.py:A", "A is a class; name an object of it"),
    ],
)
def test_a_module_that_cannot_be_is_a_fault_at_its_line(
    loading: Callable[..., Loading], monkeypatch: pytest.MonkeyPatch, code: str | None, module: str, reason: str
) -> None:
    # Whatever another test left.
    monkeypatch.delitem(sys.modules, "penstock_addon_a", raising=False)
    with pytest.raises(ConfigError) as refused:
        loading(code, module)
    (fault,) = refused.value.faults
    assert (fault.line, fault.key) == (7, "addons.a.module")
    assert reason in fault.message
    # One that ran to its end is known, so that it does not run again for the next look at the same text.
    assert ("penstock_addon_a" in sys.modules) == (code is not None and "raised" not in fault.message)


def test_an_object_in_a_module_or_of_a_program_has_hooks(loading: Callable[..., Loading]) -> None:
    code = "class Gate:\n    def request_headers(self, request): return self\ngate = Gate()\n"
    found = loading(code, "a.py:gate")
    assert found.hooks["request_headers"](None) is found.code
    gate = types.SimpleNamespace(request_headers=lambda request: None)
    value: dict[str, Any] = {
        "listeners": {"web": {"bind": ":1"}},
        "routes": [{"respond": {}, "addons": ["a"]}],
        "addons": {"a": {"module": gate}},
    }
    loader = Loader()
    first = loader.load(load_value(value))["a"]
    loader.keep({"a": first})
    assert first.code is gate
    assert loader.load(load_value(value))["a"] is first


def test_a_module_imports_its_neighbours_and_packages_are_found(
    loading: Callable[..., Loading], tmp_path: Path
) -> None:
    folder = tmp_path / "addon_package_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "names.py").write_text("user = 'ann'\n")
    (folder / "gate.py").write_text("from .names import user\n" + HOOK)
    path = list(sys.path)
    found = loading(None, "addon_package_of_a_test.gate")
    assert getattr(found.code, "user") == "ann"  # noqa: B009 - of a module that types know nothing of
    assert sys.path == path
    (folder / "gate.py").write_text("from .names import user as user\n" + HOOK)
    assert loading(None, "addon_package_of_a_test.gate").code is not found.code
