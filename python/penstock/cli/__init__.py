"""The command line: parse arguments, call, print. One file for each group of commands.

Each command's file is imported when the command is used, so that `penstock version` does not wait for what only
`penstock run` needs. Exit codes: 0 done, 1 failed, 2 wrong use or refused configuration.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from penstock.errors import ConfigError, PenstockError, UsageError

COMMANDS = {
    "run": "penstock.cli.run",
    "check": "penstock.cli.check",
    "explain": "penstock.cli.explain",
    "reload": "penstock.cli.control",
    "status": "penstock.cli.control",
    "drain": "penstock.cli.control",
    "endpoint": "penstock.cli.control",
    "maintenance": "penstock.cli.control",
    "affinity": "penstock.cli.control",
    "capture": "penstock.cli.capture",
    "cert": "penstock.cli.cert",
    "trust": "penstock.cli.trust",
    "ca": "penstock.cli.ca",
    "plan": "penstock.cli.check",
    "schema": "penstock.cli.check",
    "proxy": "penstock.cli.run",
    "tcp": "penstock.cli.run",
    "udp": "penstock.cli.run",
    "forward": "penstock.cli.run",
    "demo": "penstock.cli.demo",
    "version": "penstock.cli.version",
}


EPILOG = """\b
Begin with `penstock demo`; `penstock COMMAND --help` says more.
Exit codes: 0 done, 1 failed, 2 wrong use or refused configuration."""


class Commands(click.Group):
    """Finds a command in its file, and turns what Penstock raises into a message and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            from penstock.cli.output import print_faults  # noqa: PLC0415 - only a refusal needs it

            print_faults(error.faults)
            ctx.exit(2)
        except UsageError as error:
            raise click.UsageError(str(error)) from None
        except PenstockError as error:
            click.echo(f"penstock: {error}", err=True)
            ctx.exit(1)


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG
)
def main() -> None:
    """Penstock: one program in front of everything.

    Reads penstock.toml in the current folder unless -c names another file.
    """
