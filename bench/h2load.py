"""The HTTP/2 load generator: running it and reading what it prints."""

import re
import shutil
import subprocess

from bench.launch import BenchError
from bench.wrk import Load

STREAMS = 4
"""Requests at once on each connection."""


def found() -> str | None:
    """Where h2load is, or nothing."""
    return shutil.which("h2load")


def drive(url: str, connections: int, seconds: int) -> Load:
    """Loads a URL from one thread, on the core of the caller, and refuses a run with wrong answers.

    So many requests are under way at once as there would be connections with HTTP/1.1.
    """
    if not found():
        raise BenchError("h2load is not installed (Debian: apt install nghttp2-client)")
    words = ["h2load", "-t1", f"-c{max(1, connections // STREAMS)}", f"-m{STREAMS}", f"-D{seconds}", url]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + 20, check=False)
    if done.returncode:
        raise BenchError(f"h2load: {(done.stdout + done.stderr).strip()[-200:]}")
    load = parse(done.stdout)
    if load.wrong_status or load.socket_errors or not load.requests:
        raise BenchError(
            f"{load.requests} requests with {load.wrong_status} wrong statuses and {load.socket_errors} errors"
        )
    return load


def parse(text: str) -> Load:
    """Reads h2load's report, which tells no percentiles."""
    total = re.search(r"requests: .* (\d+) done, .* (\d+) failed, (\d+) errored, (\d+) timeout", text)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", text)
    statuses = re.search(r"status codes: \d+ 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", text)
    if not total or not rate or not statuses:
        raise BenchError(f"h2load said nothing that can be read: {text.strip()[-200:]}")
    requests = int(total[1])
    return Load(
        requests=requests,
        seconds=requests / float(rate[1]) if float(rate[1]) else 0.0,
        wrong_status=sum(int(count) for count in statuses.groups()),
        socket_errors=int(total[2]) + int(total[3]) + int(total[4]),
        p50_us=0.0,
        p99_us=0.0,
    )
