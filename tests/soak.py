"""The load tests at full size: `python -m tests.soak reloads --requests 1000000`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.load.certificates import run_certificates
from tests.load.crosstalk import run_crosstalk
from tests.load.reloading import run_storm_alone
from tests.load.reloads import run_reloads
from tests.load.tokens import run_tokens


def soak() -> int:
    """Run one and print what came of it; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("what", choices=("reloads", "tokens", "crosstalk", "storm", "certificates"))
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--reloads", type=int, default=100, help="how often the configuration changes meanwhile")
    parser.add_argument("--signals", type=int, default=1000, help="HUPs of a storm, beside its reloads")
    parser.add_argument("--seconds", type=float, default=60, help="how long certificates are replaced, once a second")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    start = time.monotonic()
    if given.what == "reloads":
        tally = run_reloads(given.requests, given.reloads, given.workers)
    elif given.what == "crosstalk":
        tally = run_crosstalk(given.requests, given.reloads, given.workers)
    elif given.what == "storm":
        tally = run_storm_alone(given.requests, given.reloads, given.signals)
    elif given.what == "certificates":
        tally, certificates = run_certificates(given.seconds, given.workers)
        sys.stdout.write(f"{certificates} certificates were served\n")
        # There is no number of handshakes to come to: what there were must all be right.
        given.requests = 1
    else:
        tally = run_tokens(given.requests, given.workers)
    took = time.monotonic() - start
    sys.stdout.write(
        f"{given.what}: {tally.answered} answers, {tally.wrong} wrong or lost, {tally.aborted} given up by the client, "
        f"{took:.1f} s\n"
    )
    for example in tally.examples:
        sys.stdout.write(f"  {example}\n")
    return 1 if tally.wrong or tally.answered + tally.aborted < given.requests * 0.99 else 0


if __name__ == "__main__":
    sys.exit(soak())
