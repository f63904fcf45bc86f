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
