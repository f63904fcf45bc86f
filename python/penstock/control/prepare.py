"""The way of a change up to the swap: load → check → add-ons → compile → native check → the configuration's own route
tests.

`penstock check` takes this road and stops at its end; the controller goes on and applies. Applying makes the native
check itself before it changes anything, so the controller leaves it out where no test of the file needs it before.
Every step either gives all of its faults at once or hands a whole value to the next.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from penstock import engine
from penstock.addons import Loader, check_fit
from penstock.config import Memory, check, compile_text, test_requests
from penstock.config.collector import uncollected
from penstock.engine import PLAN
from penstock.errors import ConfigError, PenstockError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.addons import Loading
    from penstock.config import Config, Expectation, Loaded
    from penstock.config.policy import WeightPolicy
    from penstock.control.source import Source
    from penstock.engine import Checked, Doubt, Explanation, Rules
    from penstock.errors import Fault


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration that may be applied."""

    loaded: Loaded
    text: str
    """The plan as it crosses the border."""
    warnings: tuple[Fault, ...]
    tests: int
    """Route tests that passed: all there are."""
    addons: dict[str, Loading]

    @property
    def policies(self) -> tuple[WeightPolicy, ...]:
        """The functions that give weights: of a Python file, and of add-ons."""
        of_addons = (policy for loading in self.addons.values() for policy in loading.policies)
        return (*self.loaded.document.policies, *of_addons)

    @property
    def config(self) -> Config:
        """The configuration that the plan was made from."""
        return self.loaded.config

    @property
    def plan(self) -> dict[str, Any]:
        """The plan, read from its text at each call: kept, it would be the largest thing that the process holds."""
        plan: dict[str, Any] = json.loads(self.text)
        return plan

    def doubts(self, found: Iterable[Doubt]) -> tuple[Fault, ...]:
        """What is doubtful in the plan, at its place in the configuration."""
        return tuple(self.loaded.plan_fault(doubt.path, doubt.message) for doubt in found)

    def in_place(self, error: ConfigError) -> ConfigError:
        """Faults of the plan as faults of the configuration that it was made from."""
        faults = (
            self.loaded.plan_fault(fault.key, fault.message) if fault.file == PLAN else fault for fault in error.faults
        )
        return ConfigError(faults)


def prepare(source: Source, version: int, rules: Rules = engine) -> Prepared:
    """Take a configuration along the whole road before the swap: this runs the code of its add-ons.

    Raises `ConfigError` with every fault of a step.
    """
    prepared = build(source, version, Memory(), Loader())
    checked = try_out(prepared, rules)
    return replace(prepared, warnings=(*prepared.warnings, *prepared.doubts(checked.doubts)))


@uncollected()
def build(source: Source, version: int, memory: Memory, loader: Loader) -> Prepared:
    """The first half of the road: load, check, compile. `memory` and `loader` are those of the build before."""
    loaded = source.load(memory)
    warnings = check(loaded)
    addons = loader.load(loaded)
    warnings += check_fit(loaded, addons)
    plans = {name: loading.plan() for name, loading in addons.items()}
    text = compile_text(loaded.config, loaded.folder, version, memory, plans)
    return Prepared(loaded, text, tuple(warnings), len(loaded.config.tests), addons)


def try_out(prepared: Prepared, rules: Rules) -> Checked:
    """The second half: whatever the data plane can say without running it. Raises `ConfigError`."""
    try:
        checked = rules.check(prepared.text)
    except ConfigError as error:
        raise prepared.in_place(error) from None
    _run_tests(prepared, checked)
    return checked


def _run_tests(prepared: Prepared, checked: Checked) -> None:
    faults = []
    for test in test_requests(prepared.config):
        try:
            problem = _difference(test.expected, checked.explain(test.request))
        except PenstockError as error:
            problem = str(error)
        if problem:
            faults.append(prepared.loaded.fault(test.key, f"{test.name}: {problem}"))
    if faults:
        raise ConfigError(faults)


def _difference(expected: Expectation, found: Explanation) -> str | None:
    """What the request does other than expected."""
    wrong = []
    if expected.route is not None and (found.route is None or expected.route != found.route.name):
        wrong.append(f'expected route "{expected.route}", but it takes {_route(found)}')
    taken = found.share.name if found.share else None
    names = [taken] if taken else [one.name for one in found.upstreams]
    if expected.upstream is not None and expected.upstream not in names:
        wrong.append(f'expected upstream "{expected.upstream}", but it goes to {", ".join(names) or "none"}')
    copied = found.mirror.upstream if found.mirror and found.mirror.eligible else ""
    if expected.mirror is not None and expected.mirror != copied:
        wrong.append(f"expected a copy to {_quoted(expected.mirror)}, but one goes to {_quoted(copied)}")
    if expected.status is not None and expected.status != found.status:
        wrong.append(f"expected status {expected.status}, but {_answer(found)}")
    return "; ".join(wrong) or None


def _quoted(name: str) -> str:
    return f'"{name}"' if name else "none"


def _route(found: Explanation) -> str:
    if found.refused:
        return f"none: the request is refused ({found.refused})"
    return f'"{found.route.name}"' if found.route else "none"


def _answer(found: Explanation) -> str:
    return "an endpoint answers it" if found.status is None else f"it is answered with {found.status}"
