"""`python -m fuzz`: build the targets, run each for a fixed time, print what came of it; 1 if anything was found."""

from __future__ import annotations

import argparse
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from fuzz import expressions, rust

EXPRESSION = "expression"


def fuzz() -> int:
    """Run what is asked for."""
    targets = [*rust.targets(), EXPRESSION]
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(targets)}; all by default")
    parser.add_argument("--seconds", type=float, default=6.0, help="for each target (default 6)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**31), help="of the dice")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="targets at once (default 1)")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(targets):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(targets)}")
    asked = given.targets or targets
    try:
        folder = rust.build() if asked != [EXPRESSION] else rust.FOLDER
    except rust.NotBuiltError as error:
        sys.stderr.write(f"fuzz: {error}\n")
        return 1
    _say(f"seed {given.seed}, {given.seconds:g} s for each target")

    def one(target: str) -> rust.Report:
        if target == EXPRESSION:
            report = _expressions(given.seconds, given.seed)
        else:
            report = rust.run(folder / target, given.seconds, given.seed)
        found = "1 finding" if report.finding else "no finding"
        _say(f"{target:14} {report.executions:>11} executions, coverage {report.coverage:>5}, {found}")
        if report.finding:
            _say(report.finding)
        return report

    with ThreadPoolExecutor(given.jobs) as pool:
        reports = list(pool.map(one, asked))
    return 1 if any(report.finding for report in reports) else 0


def _expressions(seconds: float, seed: int) -> rust.Report:
    start = time.monotonic()
    tried, compiled, finding = expressions.run(seconds, seed)
    # Expressions among the texts stand where the others have coverage: both say how deep it went.
    return rust.Report(EXPRESSION, tried, compiled, time.monotonic() - start, finding)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(fuzz())
