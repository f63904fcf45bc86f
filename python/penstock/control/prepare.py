"""The way of a change up to the swap: load → check → compile → native check → the configuration's own route tests.

`penstock check` takes this road and stops at its end; the controller goes on and applies. Every step either gives all of its
faults at once or hands a whole value to the next.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock import engine
from penstock.config import check, compile  # noqa: A004
from penstock.control.request import build_request
from penstock.engine import PLAN
from penstock.errors import ConfigError, Fault, PenstockError

if TYPE_CHECKING:
    from penstock.config import Config, Loaded
    from penstock.config.model import RouteTest
    from penstock.control.source import Source
    from penstock.engine import Explanation, Rules


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that may be applied."""

    loaded: Loaded
    plan: dict[str, Any]
    text: str
    """The plan as it crosses the border."""
    warnings: tuple[Fault, ...]
    tests: int
    """Route tests that passed: all there are."""

    @property
    def config(self) -> Config:
        """The configuration that the plan was made from."""
        return self.loaded.config

    def faults_in_place(self, faults: tuple[Fault, ...]) -> ConfigError:
        """Faults of the plan as faults of the configuration it was made from."""
        return ConfigError([located(fault, self.plan, self.loaded) for fault in faults])


def prepare(source: Source, version: int, rules: Rules = engine) -> Prepared:
    """Take a configuration along the whole road before the swap. Raises `ConfigError` with every fault of a step."""
    loaded = source.load()
    warnings = check.check(loaded)
    plan = compile.compile_plan(loaded.config, loaded.base, version)
    text = json.dumps(plan, ensure_ascii=False, separators=(",", ":"))
    prepared = Prepared(loaded, plan, text, tuple(warnings), len(loaded.config.tests))
    try:
        rules.check(text)
    except ConfigError as error:
        raise prepared.faults_in_place(error.faults) from None
    _run_tests(prepared, rules)
    return prepared


def located(fault: Fault, plan: dict[str, Any], loaded: Loaded) -> Fault:
    """A fault that names a place in the plan, with the key, file and line of the configuration that it came from."""
    if fault.file != PLAN:
        return fault
    key = config_key(fault.key, plan)
    return replace(fault, file=loaded.name, line=loaded.line(key), key=key)


def config_key(path: str, plan: dict[str, Any]) -> str:
    """Turn a path into the plan (`upstreams[1].endpoints[0]`) into the configuration's key (`upstreams.shop.endpoints[0]`)."""
    found = re.match(r"(listeners|upstreams)\[(\d+)\]", path)
    if found:
        rows = plan[found[1]]
        number = int(found[2])
        return f"{found[1]}.{rows[number]['name']}{path[found.end() :]}" if number < len(rows) else path
    if path.split(".")[0] == "access_log":
        return f"log.access{path.removeprefix('access_log')}"
    return path.replace(".match.predicate", ".match")


def _run_tests(prepared: Prepared, rules: Rules) -> None:
    faults = []
    for number, test in enumerate(prepared.config.tests):
        key = f"tests[{number}]"
        problem = _test(test, prepared.text, rules)
        if problem:
            title = test.name or f"{test.method} {test.url}"
            faults.append(Fault(prepared.loaded.name, prepared.loaded.line(key), None, key, f"{title}: {problem}"))
    if faults:
        raise ConfigError(faults)


def _test(test: RouteTest, plan: str, rules: Rules) -> str | None:
    """What is wrong with the way that the test's request takes."""
    try:
        request = build_request(test.method, test.url, test.headers, test.client, test.listener)
        found = rules.explain(plan, request)
    except PenstockError as error:
        return str(error)
    wrong = []
    if test.route is not None and test.route != (taken := _route(found)):
        wrong.append(f"expected route {test.route!r}, but it takes {taken}")
    if test.upstream is not None and test.upstream not in (names := [one.name for one in found.upstreams]):
        wrong.append(f"expected upstream {test.upstream!r}, but it goes to {', '.join(map(repr, names)) or 'none'}")
    if test.status is not None and test.status != found.status:
        wrong.append(f"expected status {test.status}, but {_answer(found)}")
    return "; ".join(wrong) or None


def _route(found: Explanation) -> str:
    if found.refused:
        return f"no route: the request is refused ({found.refused})"
    return repr(found.route.name) if found.route else "no route"


def _answer(found: Explanation) -> str:
    return "an endpoint answers it" if found.status is None else f"it is answered with {found.status}"
