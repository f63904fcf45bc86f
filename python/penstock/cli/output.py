"""What the commands print: plain lines, with styles where a terminal shows them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.errors import Fault


def print_json(document: Any) -> None:
    """One JSON document, indented where a person reads it."""
    click.echo(json.dumps(document, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False, default=str))


def print_faults(faults: Sequence[Fault]) -> None:
    """Every fault as `file:line: key: message` on standard error, then their number."""
    for fault in faults:
        click.echo(shown(str(fault)), err=True)
    number = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    click.echo(click.style(f"refused: {number}", fg="red", bold=True), err=True)


def print_warnings(warnings: Iterable[object]) -> None:
    """Every warning on standard error."""
    for warning in warnings:
        click.echo(f"{click.style('warning:', fg='yellow')} {shown(str(warning))}", err=True)


def print_heading(text: str) -> None:
    """A line that begins a part."""
    if not sys.stdout.isatty():
        click.echo(f"\n{text}")
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and only a terminal shows it
    from rich.rule import Rule  # noqa: PLC0415

    Console().print("", Rule(f"[bold]{text}", align="left"))


def print_toml(text: str) -> None:
    """A configuration, highlighted on a terminal."""
    if not sys.stdout.isatty():
        click.echo("".join(f"    {line}\n".replace("    \n", "\n") for line in text.splitlines()))
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.padding import Padding  # noqa: PLC0415
    from rich.syntax import Syntax  # noqa: PLC0415

    Console().print(
        Padding(Syntax(text, "toml", theme="ansi_dark", background_color="default", word_wrap=True), (0, 4))
    )


def print_banner(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """What a process serves and where, on standard error; nothing where nobody watches, because the log says it too."""
    if not sys.stderr.isatty():
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.panel import Panel  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(f"[bold]{name}", value)
    Console(stderr=True).print(Panel(table, title=title, title_align="left", expand=False))


def columns(rows: Sequence[Sequence[object]], indent: str = "  ") -> list[str]:
    """Rows as lines with aligned columns: what is a number stands on the right."""
    texts = [[shown(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[number]) for row in texts) for number in range(len(texts[0]))] if texts else []
    lines = []
    for row, original in zip(texts, rows, strict=True):
        cells = [
            text.rjust(width) if isinstance(cell, int | float) else text.ljust(width)
            for text, width, cell in zip(row, widths, original, strict=True)
        ]
        lines.append(indent + "  ".join(cells).rstrip())
    return lines


def shown(text: str) -> str:
    """Text without characters that a terminal would obey: what is printed may come from a client or a file."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
