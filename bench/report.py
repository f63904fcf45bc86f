"""The table on the terminal and the JSON file."""

import json
from pathlib import Path
from typing import Any

Whole = dict[str, Any]
"""What `latest.json` holds."""


def write_json(whole: Whole, target: Path) -> None:
    """Writes the results where the chart and the README's table read them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


def table(whole: Whole) -> str:
    """The results for people, one block a row."""
    lines = []
    for row in whole["rows"]:
        lines += ["", f"{row['row']}  {row['title']}"]
        lines += [_figure_line(figure) for figure in row["figures"]]
        lines += [f"    {peer:<28} absent: {why}" for peer, why in row["absent"].items()]
        lines += [f"    {label:<28} FAILED: {why}" for label, why in row["failures"].items()]
        lines += [f"    {verdict_text(verdict)}" for verdict in row["verdicts"]]
        lines += [f"    note: {note}" for note in row["notes"]]
    return "\n".join(lines[1:])


def _figure_line(figure: Whole) -> str:
    label = ", ".join(part for part in (figure["peer"], figure["variant"]) if part)
    if figure["median"] is None:
        return f"    {label:<28} not measured"
    spread = f"({number(figure['low'])} .. {number(figure['high'])})"
    beside = figure["beside"]
    more = ""
    if "requests_per_second" in beside:
        more = f"  {beside['requests_per_second']:>8,.0f}/s  core {beside['core_share']:.0%}"
        # Time in which the proxy could have run, but another program had its core.
        more += f", waited {beside['core_wait']:.0%}" if beside["core_wait"] > 0.05 else ""
    noisy = "  noisy" if figure["noisy"] else ""
    return f"    {label:<28} {number(figure['median']):>9} {figure['unit']:<16} {spread:<20}{more}{noisy}"


def verdict_text(verdict: Whole) -> str:
    """One verdict as words: `to nginx: 0.72 × (target ≤ 0.78: met)`."""
    unit = verdict["unit"]
    if verdict["value"] is None:
        return f"{verdict['what']}: not measured"
    text = f"{verdict['what']}: {number(verdict['value'])} {unit}"
    if verdict["limit"] is None:
        return text
    state = "met" if verdict["met"] else "MISSED"
    return f"{text} (target ≤ {number(verdict['limit'])} {unit}: {state})"


def number(value: float) -> str:
    """A number with as many digits as it deserves."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
