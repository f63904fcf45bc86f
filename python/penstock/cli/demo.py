"""`penstock demo`: Penstock in front of origins of its own, and a tour of what it does."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.output import print_heading, print_toml
from penstock.cli.tour.origins import Origin
from penstock.cli.tour.stage import Stage
from penstock.cli.tour.steps import CONFIG, ORIGINS, STEPS
from penstock.control.channel import default_path
from penstock.control.lifecycle import Order
from penstock.control.source import FileSource
from penstock.errors import PenstockError
from penstock.program import Program

if TYPE_CHECKING:
    from penstock.engine import Applied


@click.command(short_help="Show what it does, with origins of its own.")
@click.option("--once", is_flag=True, help="End after the tour.")
def demo(once: bool) -> None:
    """Start small origins and Penstock in front of them, and give a tour.

    Every step checks what it shows; the exit code is 1 if one did not do what it says.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-demo-")))
        origins = {name: Origin(name) for name in ORIGINS}
        for origin in origins.values():
            stack.callback(origin.stop)
        config = folder / "penstock.toml"
        config.write_text(CONFIG.format(**{name: origin.address for name, origin in origins.items()}), "utf-8")
        tour = Tour(config, origins, once=once)
        tour.run()
        if tour.failure:
            raise tour.failure


class Tour:
    """Runs the program in the main thread, as `penstock run` does, and the steps beside it."""

    def __init__(self, config: Path, origins: dict[str, Origin], *, once: bool) -> None:
        """Run nothing yet."""
        self._program = Program(FileSource(config))
        self._config = config
        self._origins = origins
        self._once = once
        self.failure: PenstockError | None = None

    def run(self) -> None:
        """Give the tour; then serve until told to end, unless it is once."""
        self._program.run(self._started)

    def _started(self, applied: Applied) -> None:
        def place(name: str) -> tuple[str, int]:
            host, _, port = applied.addresses[name][0].rpartition(":")
            return host, int(port)

        web, relay, out = map(place, ("web", "relay", "out"))
        stage = Stage(self._config, default_path(self._config), web, relay, out, self._origins)
        threading.Thread(target=self._give, args=(stage,), name="penstock-tour", daemon=True).start()

    def _give(self, stage: Stage) -> None:
        try:
            _introduce(stage)
            for number, step in enumerate(STEPS, 1):
                print_heading(f"{number}. {step.__doc__}")
                step(stage)
        except PenstockError as error:
            self.failure = error
        except Exception as error:
            self.failure = PenstockError(f"a step failed: {error!r}")
        if self.failure or self._once:
            if not self.failure:
                click.echo(f"\n{len(STEPS)} steps, all as they should be.")
            self._program.lifecycle.order(Order.STOP)
        else:
            _invite(stage)


def _introduce(stage: Stage) -> None:
    click.echo(f"Penstock listens on {click.style(stage.url, bold=True)}, in front of these origins:")
    for name, origin in stage.origins.items():
        click.echo(f"  {name:8} http://{origin.address}")
    click.echo(f"with this configuration ({stage.config}):\n")
    print_toml(stage.config.read_text("utf-8"))


def _invite(stage: Stage) -> None:
    print_heading("Try it by hand")
    penstock = _program()
    for line in (
        f"curl -i {stage.url}/",
        f"curl -i {stage.url}/images/a.png",
        f"curl -i -H 'X-Team: beta' {stage.url}/",
        f"curl -i {stage.url}/api/orders",
        f"curl -i -x http://{stage.out[0]}:{stage.out[1]} http://{stage.origins['media'].address}/",
        f"{penstock} explain --running -c {stage.config} GET {stage.url}/api/orders",
        f"{penstock} status -c {stage.config}",
        f"edit {stage.config}, then: {penstock} reload -c {stage.config}",
    ):
        click.echo(f"  {line}")
    click.echo("Ctrl-C ends it.")


def _program() -> str:
    """How this program is called from here: by its name, or by its path where the name is not found."""
    return "penstock" if shutil.which("penstock") else min(os.path.relpath(sys.argv[0]), sys.argv[0], key=len)
