"""`python -m bench`: measures, prints the table, writes JSON and chart."""

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from bench import chart, machine, readme, report
from bench.contest import TROUBLE, say
from bench.figures import Result
from bench.launch import BenchError
from bench.rows import ROWS
from bench.stand import Settings, Stand, open_stand

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
QUICK = Settings(seconds=1, rounds=2, idle_connections=2_000, large_bytes=30_000_000)


def run(arguments: list[str]) -> int:
    """Does what the command line asks for; 1 when something could not be measured or answered wrongly."""
    options = _options(arguments)
    if options.readme:
        readme.rewrite(ROOT / "README.md", options.out / "latest.json")
        return 0
    try:
        build_programs()
        results = _measure(_settings(options), options.rows)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    whole: report.Whole = {"machine": machine.facts(), "rows": [result.as_json() for result in results]}
    report.write_json(whole, options.out / "latest.json")
    print(report.table(whole))
    print(f"\nwritten: latest.json; chart: {chart.draw(whole, options.out / 'chart.svg')}")
    return 1 if any(result.failures for result in results) else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Penstock and its peers, side by side.")
    parser.add_argument("--rows", type=_rows, default=list(ROWS), help=f"which, by comma; all: {','.join(ROWS)}")
    parser.add_argument("--seconds", type=int, help=f"of one sample (default {Settings.seconds})")
    parser.add_argument("--rounds", type=int, help=f"samples of each contender (default {Settings.rounds})")
    parser.add_argument("--quick", action="store_true", help="short and rough: does everything work?")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of latest.json and the chart")
    parser.add_argument("--readme", action="store_true", help="only rewrite README's table from latest.json")
    return parser.parse_args(arguments)


def _rows(text: str) -> list[str]:
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in ROWS]:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return names


def _settings(options: argparse.Namespace) -> Settings:
    settings = QUICK if options.quick else Settings()
    chosen = {name: getattr(options, name) for name in ("seconds", "rounds") if getattr(options, name)}
    return replace(settings, **chosen)


def build_programs() -> None:
    """Builds the bench's own programs; one that is up to date costs nothing."""
    try:
        subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "penstock-bench"], cwd=ROOT, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise BenchError(f"the bench's own programs do not build: {error}") from None


def _measure(settings: Settings, names: list[str]) -> list[Result]:
    with open_stand(settings) as stand:
        results = [_row(stand, name) for name in names]
        if stand.shared_core:
            for result in results:
                result.notes.append("one core only: proxy, client and origin shared it")
        return results


def _row(stand: Stand, name: str) -> Result:
    """One row; what it cannot do is its result, and the others go on."""
    try:
        return ROWS[name](stand)
    except TROUBLE as error:
        return Result(name, "not measured", failures={"row": str(error)})


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
