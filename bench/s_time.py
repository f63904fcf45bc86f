"""The load of whole TLS handshakes: `openssl s_time -new`, which resumes no session, and reading what it prints."""

import re
import shutil
import subprocess

from bench.launch import BenchError
from bench.wrk import Load

AT_ONCE = 4
"""Programs that run side by side, each with one connection after the other."""

LEAST_BYTES = 128
"""Of an answer: the origin's body. A connection that brought less was no whole answer."""


def found() -> str | None:
    """Where openssl is, or nothing."""
    return shutil.which("openssl")


def drive(port: int, seconds: int) -> Load:
    """Opens connections, asks once on each and waits for its end; refuses a run with answers that are not whole."""
    command = [found() or "openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-new", "-www", "/"]
    programs = [
        subprocess.Popen([*command, "-time", str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(AT_ONCE)
    ]
    try:
        loads = [parse(one.communicate(timeout=seconds + 20)[0]) for one in programs]
    finally:
        for one in programs:
            if one.poll() is None:
                one.kill()
                one.wait(5)
    return Load(sum(load.requests for load in loads), max(load.seconds for load in loads), 0, 0, 0.0, 0.0)


def parse(text: str) -> Load:
    """Reads a report of s_time, which tells no latencies."""
    total = re.search(r"(\d+) connections in (\d+) real seconds, (\d+) bytes read per connection", text)
    if not total or int(total[1]) == 0:
        raise BenchError(f"openssl s_time: {text.strip()[-200:]}")
    if int(total[3]) < LEAST_BYTES:
        raise BenchError(f"openssl s_time: {total[3]} bytes a connection are no whole answer")
    return Load(int(total[1]), float(total[2]), 0, 0, 0.0, 0.0)
