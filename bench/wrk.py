"""The HTTP/1.1 load generator: running it and reading what it prints."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

from bench.launch import BenchError

_SCALE = {"us": 1.0, "ms": 1_000.0, "s": 1_000_000.0, "m": 60_000_000.0}


@dataclass(frozen=True)
class Load:
    """What one run of wrk did."""

    requests: int
    seconds: float
    wrong_status: int
    socket_errors: int
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds else 0.0


def found() -> str | None:
    """Where wrk is, or nothing."""
    return shutil.which("wrk")


def drive(  # noqa: PLR0913 - one parameter for each part of a request
    url: str, connections: int, seconds: int, headers: tuple[str, ...] = (), body: str = "", *, target: str = ""
) -> Load:
    """Loads a URL from one thread, on the core of the caller, and refuses a run with wrong answers.

    A body makes it a POST; `target` is asked for in place of the URL's path, as clients of a proxy do.
    """
    command = [found() or "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "5s", "--latency"]
    for header in headers:
        command += ["-H", header]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        if body:
            script.write(f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n')
        if target:
            script.write(f"wrk.path = [==[{target}]==]\n")
        if body or target:
            script.flush()
            command += ["-s", script.name]
        # wrk ends by itself; one that does not is killed.
        done = subprocess.run([*command, url], capture_output=True, text=True, timeout=seconds + 20, check=False)
    if done.returncode:
        raise BenchError(f"wrk: {(done.stdout + done.stderr).strip()[-200:]}")
    load = parse(done.stdout)
    if load.wrong_status or load.socket_errors or not load.requests:
        raise BenchError(
            f"{load.requests} requests with {load.wrong_status} wrong statuses and {load.socket_errors} socket errors"
        )
    return load


def parse(text: str) -> Load:
    """Reads wrk's report."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    if not total:
        raise BenchError(f"wrk said nothing that can be read: {text.strip()[-200:]}")
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Load(
        requests=int(total[1]),
        seconds=float(total[2]) * _SCALE[total[3]] / 1e6,
        wrong_status=int(wrong[1]) if wrong else 0,
        socket_errors=sum(int(count) for count in errors.groups()) if errors else 0,
        p50_us=_percentile(text, 50),
        p99_us=_percentile(text, 99),
    )


def _percentile(text: str, which: int) -> float:
    line = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    return float(line[1]) * _SCALE[line[2]] if line else 0.0
