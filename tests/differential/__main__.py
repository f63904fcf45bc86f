"""`python -m tests.differential --requests 1000000 [--seed N]`."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.differential.run import run_differential


def differential() -> int:
    """Run and print what came of it; 0 if everybody agrees."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 2**31))
    parser.add_argument("--lanes", type=int, default=2, help="processes that send and read (default 2)")
    given = parser.parse_args()
    _say(f"seed {given.seed}, {given.lanes} lanes")
    start = time.monotonic()
    tally = run_differential(given.requests, given.seed, given.lanes, lambda sent: _say(f"{sent} sent"))
    took = time.monotonic() - start
    _say(
        f"{tally.sent} requests sent in {took:.0f} s ({tally.sent / took:.0f}/s), {tally.forwarded} forwarded whole "
        f"({tally.forwarded / tally.sent:.0%}), {tally.cut} cut and {tally.broken_off} "
        f"broken off, over {tally.connections} connections; "
        f"{tally.refused_by_nginx} are right and refused by nginx"
    )
    for kind, count in sorted(tally.kinds.items()):
        _say(f"  {kind:28} {count:>8} sent, {tally.passed[kind]:>8} answered by the origin")
    _say("  refused: " + ", ".join(f"{word} {count}" for word, count in sorted(tally.rejected.items()) if count))
    _say(f"{tally.wrong} disagreements (seed {given.seed})")
    for example in tally.examples:
        _say(f"  {example[:4000]}")
    return 1 if tally.wrong else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(differential())
