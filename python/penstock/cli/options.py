"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

config_option = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=Path("penstock.toml"),
    show_default=True,
    metavar="FILE",
    help="The configuration: TOML, YAML, JSON or a Python file.",
)
control_option = click.option(
    "--control",
    type=click.Path(path_type=Path),
    envvar="PENSTOCK_CONTROL",
    metavar="PATH",
    help="The control socket. Default: derived from the configuration file.",
)
log_option = click.option(
    "--log",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the process log on standard error is written.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
