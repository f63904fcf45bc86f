"""`cert`: the certificates that a running process serves."""

from __future__ import annotations

import time
from pathlib import Path  # noqa: TC003 - click reads it from the options
from typing import Any

import click

from penstock.cli.control import command
from penstock.cli.options import config_option, control_option, json_option
from penstock.cli.output import columns, print_json
from penstock.control.channel import default_path

DAY = 86_400
SOON = 7
"""Days before its end from which on a certificate stands out."""


@click.command()
@config_option
@control_option
@json_option
def cert(config: Path, control: Path | None, as_json: bool) -> None:
    """Show the certificates that the running process serves: their names, and the days that are left."""
    answer = command(control or default_path(config), {"command": "status"})
    rows = [
        {"listener": listener["name"], **row} for listener in answer["listeners"] for row in listener["certificates"]
    ]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("no listener has certificates")
    for line in columns([_row(row, time.time()) for row in rows], ""):
        click.echo(line)


def _row(row: dict[str, Any], now: float) -> tuple[object, ...]:
    left = int((row["not_after"] - now) // DAY)
    state = "expired" if left < 0 else "not valid yet" if row["not_before"] > now else "expires soon" * (left < SOON)
    stapled = ""
    if row["ocsp_until"] is not None:
        end = time.strftime("%Y-%m-%d %H:%M", time.gmtime(row["ocsp_until"]))
        stapled = f"OCSP until {end}" if row["ocsp_until"] > now else f"OCSP ran out {end}"
    until = time.strftime("%Y-%m-%d", time.gmtime(row["not_after"]))
    return (
        row["listener"],
        row["cert"],
        row["key"],
        " ".join(row["names"]),
        "until",
        until,
        left,
        "days",
        state,
        stapled,
    )
