"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

CONTROL = "PENSTOCK_CONTROL"
"""The variable that stands for `--control`."""

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
    envvar=CONTROL,
    metavar="PATH",
    help="The control socket. Default: derived from the configuration file.",
)


def refuse_unused_control(running: bool) -> None:
    """A `--control` that nobody would ask is a mistake; what stands in the environment is for other commands, too."""
    given = click.get_current_context().get_parameter_source("control")
    if given is ParameterSource.COMMANDLINE and not running:
        raise click.UsageError("--control says where the running process is asked: give --running, too")


log_option = click.option(
    "--log",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the process log on standard error is written.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
