"""The Rust targets: built with the compiler's coverage passes, run with libFuzzer, their reports read.

`cargo fuzz run -s none TARGET` does the same for one target; these are its flags, so that neither a test nor CI has to
install it. No sanitizer: what is fuzzed forbids `unsafe`, and a stable compiler has none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_FLAGS = """
    --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Cdebug-assertions -Ccodegen-units=1
"""
_MEMORY = 1024
"""Megabytes of one target."""
_SLOW = 10
"""Seconds that one input may take."""


class NotBuiltError(Exception):
    """The targets cannot be built here, and why."""


@dataclass(frozen=True)
class Report:
    """What came of one target."""

    target: str
    executions: int
    coverage: int
    seconds: float
    finding: str
    """How it failed and how to see it again; empty if nothing was found."""


def targets() -> list[str]:
    """Their names, from the crate."""
    manifest = tomllib.loads((FOLDER / "Cargo.toml").read_text())
    return [binary["name"] for binary in manifest["bin"]]


def build() -> Path:
    """Build all of them; the folder of the programs. Raises `NotBuiltError`."""
    for program in ("cargo", "c++"):
        if not shutil.which(program):
            raise NotBuiltError(f"{program} is missing: the fuzz targets need a Rust toolchain and a C++ compiler")
    host = _host()
    # Not `--locked`: this lock file knows of a new dependency of the rules only after a build; all else it holds still.
    command = ["cargo", "build", "--quiet", "--release", "--target", host]
    built = subprocess.run(
        [*command, "--manifest-path", str(FOLDER / "Cargo.toml")],
        env={**os.environ, "RUSTFLAGS": " ".join(_FLAGS.split())},
        check=False,
        capture_output=True,
        text=True,
    )
    if built.returncode:
        raise NotBuiltError(f"cargo cannot build the fuzz targets:\n{built.stderr[-2000:]}")
    return FOLDER / "target" / host / "release"


def run(program: Path, seconds: float, seed: int) -> Report:
    """Fuzz one target from its corpus; what is new goes to `fuzz/target/corpus`, where the next run begins."""
    target = program.name
    found, artifacts = FOLDER / "target" / "corpus" / target, FOLDER / "artifacts" / target
    found.mkdir(parents=True, exist_ok=True)
    artifacts.mkdir(parents=True, exist_ok=True)
    words = FOLDER / ("predicate.dict" if target == "predicate" else "http.dict")
    options = {
        "max_total_time": max(1, round(seconds)),
        "seed": seed,
        "rss_limit_mb": _MEMORY,
        "timeout": _SLOW,
        "dict": words,
        "artifact_prefix": f"{artifacts}/",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    ran = subprocess.run(
        [program, *arguments, found, FOLDER / "corpus" / target],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return read(target, ran.returncode, ran.stdout)


def read(target: str, code: int, output: str) -> Report:
    """What libFuzzer printed."""
    executions = _last(r"stat::number_of_executed_units: (\d+)", output) or _last(r"^#(\d+)", output)
    speed = _last(r"stat::average_exec_per_sec: +(\d+)", output)
    finding = ""
    if code:
        said = re.search(r"panicked at .*\n(?:.*\n){0,3}|ERROR: .*", output)
        artifact = re.search(r"Test unit written to (\S+)", output)
        again = f"cargo fuzz run -s none {target} {artifact[1]}" if artifact else f"exit code {code}: {output[-500:]}"
        finding = f"{said[0].strip() if said else 'failed'}\n  {again}"
    seconds = executions / speed if speed else 0.0
    return Report(target, executions, _last(r"cov: (\d+)", output), seconds, finding)


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text, re.MULTILINE)
    return int(found[-1]) if found else 0


def _host() -> str:
    version = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return version.partition("host: ")[2].partition("\n")[0]
