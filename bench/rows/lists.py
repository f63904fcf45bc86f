"""LISTS: what a list of a million domains costs, measured inside the data plane's own code."""

import json
import subprocess

from bench.figures import Figure, Result, Verdict
from bench.launch import BenchError
from bench.peers.null_relay import built
from bench.stand import Stand

DOMAINS = 1_000_000
PATIENCE = 120


def lists(stand: Stand) -> Result:
    """Time of one lookup and memory of one entry; half of the hosts are in the list."""
    result = Result("LISTS", "a list of 1 000 000 domains")
    lookup, memory = Figure("penstock", "ns", "lookup"), Figure("penstock", "bytes", "entry")
    for _ in range(stand.settings.rounds):
        found = measured(DOMAINS)
        lookup.samples.append(found["nanoseconds"])
        lookup.observe(milliseconds_to_read=found["milliseconds"])
        memory.samples.append(found["bytes"])
        memory.observe(bytes_of_text=found["text"])
    result.figures += [lookup, memory]
    result.verdicts.append(Verdict("lookup", lookup.middle, 1000, "ns"))
    result.verdicts.append(Verdict("entry", memory.middle, 100, "bytes"))
    return result


def measured(domains: int) -> dict[str, float]:
    """What `bench/programs/src/bin/lists.rs` says."""
    done = subprocess.run(
        [str(built("lists")), str(domains)], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise BenchError(f"lists: {done.stderr.strip()}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures
