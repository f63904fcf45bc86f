"""The way of a change up to the swap: load → check → compile → native check → the configuration's own route tests.

`penstock check` takes this road and stops at its end; the controller goes on and applies. Every step either gives all of its
faults at once or hands a whole value to the next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock import engine
from penstock.config import check, compile  # noqa: A004
from penstock.control.request import build_request
from penstock.engine import PLAN
from penstock.errors import ConfigError, PenstockError

if TYPE_CHECKING:
    from penstock.config.document import Loaded
    from penstock.config.model import Config, RouteTest
    from penstock.control.source import Source
    from penstock.engine import Explanation, Rules
    from penstock.errors import Fault


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

    def in_place(self, error: ConfigError) -> ConfigError:
        """Faults of the plan as faults of the configuration that it was made from."""
        faults = (
            self.loaded.plan_fault(fault.key, fault.message) if fault.file == PLAN else fault for fault in error.faults
        )
        return ConfigError(faults)


def prepare(source: Source, version: int, rules: Rules = engine) -> Prepared:
    """Take a configuration along the whole road before the swap. Raises `ConfigError` with every fault of a step."""
    loaded = source.load()
    warnings = check.check(loaded)
    plan = compile.compile_plan(loaded.config, loaded.folder, version)
    text = json.dumps(plan, ensure_ascii=False, separators=(",", ":"))
    prepared = Prepared(loaded, plan, text, tuple(warnings), len(loaded.config.tests))
    try:
        rules.check(text)
    except ConfigError as error:
        raise prepared.in_place(error) from None
    _run_tests(prepared, rules)
    return prepared


def _run_tests(prepared: Prepared, rules: Rules) -> None:
    faults = []
    for number, test in enumerate(prepared.config.tests):
        problem = _test(test, prepared.text, rules)
        if problem:
            title = test.name or f"{test.method} {test.url}"
            faults.append(prepared.loaded.fault(f"tests[{number}]", f"{title}: {problem}"))
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
