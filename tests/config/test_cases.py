"""Golden files: a configuration and what becomes of it.

A `.case` file holds sections that begin with `=== `:

    === config              the configuration as TOML (or `=== config yaml`, `json`)
    === plan routes[0]      the part of the plan at that path, as JSON
    === faults              every fault, one a line, as `line: key: message`; further lines of a message are indented
    === warnings            every warning in the same form

Text before the first section says why the case exists. A case without `=== faults` must be accepted.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from penstock.config import check, compile_plan, load
from penstock.config.document import read_key
from penstock.errors import ConfigError, Fault

CASES = sorted(Path(__file__).parent.glob("*.case"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_case(case: Path, tmp_path: Path) -> None:
    sections = read_case(case.read_text())
    form = next(name for name in sections if name.startswith("config"))
    file = tmp_path / f"penstock.{form.partition(' ')[2] or 'toml'}"
    file.write_text(sections[form])
    faults, warnings, plan = outcome(file)
    assert shown(faults) == sections.get("faults", ""), "faults differ from === faults"
    if "warnings" in sections:
        assert shown(warnings) == sections["warnings"], "warnings differ from === warnings"
    for name, text in sections.items():
        if name.startswith("plan "):
            assert part(plan, name.partition(" ")[2]) == json.loads(text), f"differs from === {name}"


def outcome(file: Path) -> tuple[list[Fault], list[Fault], Any]:
    try:
        loaded = load(file)
        warnings = check(loaded)
    except ConfigError as error:
        return list(error.faults), [], None
    plan = compile_plan(loaded.config, Path("/etc/penstock"), 1)
    return [], warnings, json.loads(json.dumps(plan))


def shown(faults: list[Fault]) -> str:
    """Without the file's name, which is the test's own."""
    return "".join(f"{str(fault).removeprefix(fault.file).removeprefix(':').lstrip()}\n" for fault in faults)


def part(plan: Any, path: str) -> Any:
    for step in read_key(path):
        plan = plan[step]
    return plan


def read_case(text: str) -> dict[str, str]:
    pieces = re.split(r"^=== (.*)\n", text, flags=re.MULTILINE)
    return {
        name: content.strip("\n") + "\n" if content.strip() else ""
        for name, content in zip(pieces[1::2], pieces[2::2], strict=True)
    }


def test_a_case_can_fail(tmp_path: Path) -> None:
    case = tmp_path / "wrong.case"
    case.write_text('=== config\n[listeners.web]\nbind = ":1"\n=== plan listeners[0].name\n"other"\n')
    with pytest.raises(AssertionError, match="differs from === plan"):
        test_case(case, tmp_path)
