"""README's table, made from the results file and from nothing else (`python -m bench.readme`)."""

import json
import sys
from pathlib import Path

from bench.report import Whole, number

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- bench:start -->", "<!-- bench:end -->"
COLUMNS = ("penstock", "nginx", "haproxy")
"""Peers of most rows; those of a few stand together, each with its name."""


def rewrite(page: Path, results: Path) -> None:
    """Puts the table between the markers of a page."""
    page.write_text(replaced(page.read_text(), markdown(json.loads(results.read_text()))))


def replaced(text: str, table: str) -> str:
    """The text with the table between its markers."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the page has no {START} … {END}")
    return f"{before}{START}\n{table}\n{END}{after}"


def markdown(whole: Whole) -> str:
    """The table and the line under it that says what was measured where."""
    lines = ["| # | operation | Penstock | nginx | HAProxy | others | target |", "|---|---|---|---|---|---|---|"]
    for row in whole["rows"]:
        cells = [*(_cell(row, peer) for peer in COLUMNS), _others(row)]
        verdicts = "<br>".join(_verdict(one) for one in row["verdicts"] if one["limit"] is not None) or "-"
        operation = f"{row['title']}, {_unit(row)}" if _unit(row) else row["title"]
        lines.append(f"| {row['row']} | {operation} | {' | '.join(cells)} | {verdicts} |")
    machine = whole["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version[0].isdigit())
    lines += [
        "",
        f"{machine['cores']} cores ({machine['processor']}), Linux {machine['kernel']}, {machine['date']}; {versions}.",
    ]
    return "\n".join(lines)


def _unit(row: Whole) -> str:
    """The unit of the row, if it has one for all."""
    units = {figure["unit"] for figure in row["figures"]}
    return units.pop() if len(units) == 1 else ""


def _cell(row: Whole, peer: str) -> str:
    if peer in row["absent"]:
        return "absent"
    if peer in row["failures"]:
        return "failed"
    parts = []
    for figure in row["figures"]:
        if figure["peer"] == peer and figure["median"] is not None:
            # One unit stands beside the title; several stand with their figures.
            shown = number(figure["median"]) + ("" if _unit(row) else f" {figure['unit']}")
            parts.append(f"{figure['variant']}: {shown}" if figure["variant"] else shown)
    return "<br>".join(parts) or "-"


def _others(row: Whole) -> str:
    named = {*(figure["peer"] for figure in row["figures"]), *row["absent"], *row["failures"]}
    return "<br>".join(f"{peer}: {_cell(row, peer)}" for peer in sorted(named.difference(COLUMNS))) or "-"


def _verdict(verdict: Whole) -> str:
    limit = f"≤ {number(verdict['limit'])} {verdict['unit']}"
    if verdict["value"] is None:
        return f"{verdict['what']}: {limit}"
    state = "met" if verdict["met"] else "**missed**"
    return f"{verdict['what']}: {number(verdict['value'])} ({limit}, {state})"


if __name__ == "__main__":
    rewrite(ROOT / "README.md", ROOT / "bench" / "results" / "latest.json")
    sys.exit(0)
