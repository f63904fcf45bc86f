"""How long a configuration of many routes takes from file to Plan: the first time, and again after a change.

`python bench/config_load.py [--routes 10000] [--filters] [--tests 100]` prints milliseconds; a reload is the best of
five, each with one route changed. With `--tests`, also what the native check and so many `[[tests]]` take.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

started = time.perf_counter()
# The import is part of what is measured.
from penstock import engine  # noqa: E402
from penstock.addons import Loader  # noqa: E402
from penstock.config import Memory, check, compile_text, load  # noqa: E402
from penstock.config.collector import uncollected  # noqa: E402
from penstock.control.prepare import build, try_out  # noqa: E402
from penstock.control.source import FileSource  # noqa: E402

imported = time.perf_counter() - started


def document(routes: int, change: int, *, filters: bool) -> str:
    """A file with one listener, 100 upstreams and many routes, one of which depends on `change`."""
    parts = ['[listeners.web]\nbind = ":8080"\n']
    parts += [f'[upstreams.u{i}]\nendpoints = ["10.0.0.{i}:9000"]\n' for i in range(100)]
    for i in range(routes):
        path = f"/changed{change}/" if i == routes // 2 else f"/s{i}/"
        parts.append(
            f'[[routes]]\nname = "r{i}"\nmatch = \'host == "h{i}.example" and path.startswith("{path}")\'\n'
            f'upstream = "u{i % 100}"\n'
        )
        if filters:
            parts.append(f'filters = [{{ strip_prefix = "/s{i}" }}, {{ set_request_header = {{ "X-R" = "{i}" }} }}]\n')
    return "".join(parts)


@uncollected()
def once(file: Path, memory: Memory) -> tuple[float, float, float]:
    """Milliseconds of load, check and compile, as a process does them that remembers the time before."""
    times = [time.perf_counter()]
    loaded = load(file, memory)
    times.append(time.perf_counter())
    check(loaded)
    times.append(time.perf_counter())
    compile_text(loaded.config, loaded.folder, 1, memory)
    times.append(time.perf_counter())
    steps = [1000 * (after - before) for before, after in itertools.pairwise(times)]
    return steps[0], steps[1], steps[2]


def trying(file: Path, tests: int) -> float:
    """Milliseconds of the native check and of tests that ask for routes all over the file."""
    with file.open("a") as text:
        for i in range(tests):
            text.write(f'[[tests]]\nurl = "http://h{i}.example/s{i}/"\nroute = "r{i}"\n')
    prepared = build(FileSource(file), 1, Memory(), Loader())
    begin = time.perf_counter()
    try_out(prepared, engine)
    return 1000 * (time.perf_counter() - begin)


def run() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routes", type=int, default=10_000)
    parser.add_argument("--filters", action="store_true", help="two filters on each route")
    parser.add_argument("--tests", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "penstock.toml"
        runs = []
        memory = Memory()
        for change in range(6):
            file.write_text(document(options.routes, change, filters=options.filters))
            runs.append(once(file, memory))
        size = file.stat().st_size / 1e6
        tried = trying(file, options.tests) if options.tests else None
    print(f"{options.routes} routes, {size:.1f} MB; import {1000 * imported:.0f} ms")
    for name, steps in (("cold", runs[0]), ("reload", min(runs[1:], key=sum))):
        print(f"{name:6} {sum(steps):4.0f} ms = load {steps[0]:.0f} + check {steps[1]:.0f} + compile {steps[2]:.0f}")
    if tried is not None:
        print(f"tests  {tried:4.0f} ms = native check and {options.tests} tests")


if __name__ == "__main__":
    run()
