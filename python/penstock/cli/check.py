"""`check`, `plan` and `schema`: what can be said about a configuration without running it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from penstock.cli.options import config_option, control_option, json_option, refuse_unused_control
from penstock.cli.output import print_json, print_warnings

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.control.prepare import Prepared


@click.command()
@config_option
@json_option
def check(config: Path, as_json: bool) -> None:
    """Find every fault of a configuration, and run its route tests.

    The same road as a reload, up to the point where it would be applied: no socket is opened and no name resolved.
    """
    from penstock.control.prepare import prepare  # noqa: PLC0415
    from penstock.control.source import FileSource  # noqa: PLC0415
    from penstock.errors import ConfigError  # noqa: PLC0415

    try:
        prepared = prepare(FileSource(config), 1)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"ok": False, "faults": [asdict(fault) for fault in error.faults]})
        raise click.exceptions.Exit(2) from None
    if as_json:
        print_json({"ok": True, "warnings": [asdict(one) for one in prepared.warnings], "tests": prepared.tests})
        return
    print_warnings(prepared.warnings)
    click.echo(f"{config}: {click.style('ok', fg='green', bold=True)} ({summary(prepared)})")


@click.command()
@config_option
@control_option
@click.option("--running", is_flag=True, help="The plan of the running process, not of the file.")
def plan(config: Path, control: Path | None, running: bool) -> None:
    """Print the compiled plan, as the data plane gets it."""
    refuse_unused_control(running)
    if running:
        from penstock.cli.control import command  # noqa: PLC0415
        from penstock.control.channel import default_path  # noqa: PLC0415

        print_json(command(control or default_path(config), {"command": "plan"}))
        return
    from penstock.control.prepare import prepare  # noqa: PLC0415
    from penstock.control.source import FileSource  # noqa: PLC0415

    print_json(prepare(FileSource(config), 1).plan)


@click.command(short_help="Print the JSON schema of a configuration.")
@click.option("--plan", "of_plan", is_flag=True, help="The schema of the compiled plan instead.")
def schema(of_plan: bool) -> None:
    """Print the JSON schema of a configuration, with which editors complete and check it."""
    if of_plan:
        from penstock.engine import plan_schema  # noqa: PLC0415

        document = plan_schema()
    else:
        from penstock.config.schema import config_schema  # noqa: PLC0415

        document = config_schema()
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def summary(prepared: Prepared) -> str:
    """What a configuration holds, in one line."""
    config = prepared.config
    counts = [(len(config.listeners), "listener"), (len(config.routes), "route"), (len(config.upstreams), "upstream")]
    parts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts]
    tests = (
        f"{prepared.tests} route test{'' if prepared.tests == 1 else 's'} passed"
        if prepared.tests
        else "no route tests"
    )
    return f"{', '.join(parts)}; {tests}"
