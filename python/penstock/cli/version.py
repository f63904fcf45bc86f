"""`penstock version`."""

from __future__ import annotations

import click


@click.command()
def version() -> None:
    """Print the version."""
    from penstock.version import __version__  # noqa: PLC0415 - reading it opens the package's files

    click.echo(f"penstock {__version__}")
