"""`python -m tests.safety`: the rows of the catalogue in front of other proxies.

python -m tests.safety                          nginx and HAProxy, as far as they are installed
python -m tests.safety --write                  and Penstock; rewrite the table in docs/safety.md
python -m tests.safety --peer HOST:PORT --origin HOST:PORT
                                                whatever listens there and forwards to the origin, which this starts
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.safety.catalogue import Entry, read
from tests.safety.peers.judge import reader
from tests.safety.peers.proxies import Given, HAProxy, Nginx, Started, UnsupportedError
from tests.safety.test_cases import CASES
from tests.wire import peers
from tests.wire.cut import ANSWERS, BYTES, HALVES, WHOLE
from tests.wire.harness import CaseError, run_case
from tests.wire.stage import Stages

if TYPE_CHECKING:
    from tests.wire.script import Case
    from tests.wire.stage import Subject

PAGE = Path(__file__).parents[2] / "docs" / "safety.md"
BEGIN, END = "<!-- table: made by `make safety-table` -->", "<!-- end of table -->"
PATIENCE = 1.0
"""Seconds that a peer may take for anything: it has no other work."""

Verdicts = dict[int, tuple[int, int]]
"""By number: rows passed, rows run."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.safety")
    parser.add_argument("--peer", type=_address, help="a proxy that runs already")
    parser.add_argument("--origin", type=_address, default=("127.0.0.1", 18080), help="where it forwards to")
    parser.add_argument("--write", action="store_true", help="rewrite the table in docs/safety.md")
    parser.add_argument("--only", type=int, help="one case")
    words = parser.parse_args()
    peers.be_patient_for(PATIENCE)
    cases = [case for case in CASES if words.only in (None, case.number)]
    if words.peer:
        Given.at, peers.Origin.place = words.peer, words.origin
        _print({f"{words.peer[0]}:{words.peer[1]}": judge(Given, cases, loud=True)})
        return
    found: list[type[Started]] = [proxy for proxy in (Nginx, HAProxy) if proxy.path()]
    verdicts = {proxy.version(): judge(proxy, cases, loud=words.only is not None) for proxy in found}
    _print(verdicts)
    if words.write:
        _write(verdicts)


def judge(subject: type[Subject], cases: list[Case], *, loud: bool = False) -> Verdicts:
    """All rows that this proxy has a configuration for."""
    verdicts: Verdicts = {}
    stages = Stages(subject)
    for case in cases:
        try:
            stage = stages.of(case.config)
        except UnsupportedError:
            continue
        passed, run = verdicts.get(case.number or 0, (0, 0))
        fault = None
        try:
            for cut in (WHOLE,) if case.replay == "whole" else (WHOLE, BYTES, HALVES, ANSWERS):
                run_case(case, stage, cut, reader(case))
        except (CaseError, OSError) as error:
            fault = error
            stages.close()
        if fault and loud:
            sys.stderr.write(f"{fault}\n\n")
        verdicts[case.number or 0] = (passed + (fault is None), run + 1)
    stages.close()
    return verdicts


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _cell(verdicts: Verdicts, number: int) -> str:
    if number not in verdicts:
        return ""
    passed, run = verdicts[number]
    return "passed" if passed == run else f"failed: {run - passed} of {run}"


def _print(verdicts: dict[str, Verdicts]) -> None:
    sys.stdout.write(" " * 77 + "".join(f"{name:<20}" for name in verdicts) + "\n")
    for entry in _run(verdicts):
        cells = "".join(f"{_cell(columns, entry.number):<20}" for columns in verdicts.values())
        sys.stdout.write(f"{entry.number:4}  {entry.name:<71}{cells}\n")
    for name, columns in verdicts.items():
        sys.stdout.write(f"{name}: {_total(columns)}\n")


def _run(verdicts: dict[str, Verdicts]) -> list[Entry]:
    return [entry for entry in read() if any(entry.number in columns for columns in verdicts.values())]


def _total(columns: Verdicts) -> str:
    passed = sum(passed == run for passed, run in columns.values())
    return f"{passed} of {len(columns)} cases passed"


def _write(verdicts: dict[str, Verdicts]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        # Two at once: most of them wait.
        words = [sys.executable, "-m", "pytest", "-n", "2", "--safety", "--safety-results", str(results)]
        subprocess.run(words, check=False)
        ours = {int(number): state for number, state in json.loads(results.read_text("utf-8")).items()}
    shown = [entry for entry in read() if not ours[entry.number].startswith("not yet")]
    lines = [f"| | case | Penstock | {' | '.join(verdicts)} |", "|---|---|---" + "|---" * len(verdicts) + "|"]
    for entry in shown:
        cells = [ours[entry.number], *(_cell(columns, entry.number) for columns in verdicts.values())]
        lines.append(f"| {entry.number} | {entry.name} | {' | '.join(cells)} |")
    passed = sum(ours[entry.number].startswith("passed") for entry in shown)
    totals = [f"{passed} of {len(shown)} cases passed", *map(_total, verdicts.values())]
    lines.append(f"| | | {' | '.join(totals)} |")
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
