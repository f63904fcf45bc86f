"""`run` and `proxy`: serve until told to end."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from penstock.cli.options import CONTROL, config_option, control_option, log_option
from penstock.cli.output import print_banner

if TYPE_CHECKING:
    from types import ModuleType

    from penstock.engine import Applied, Stats
    from penstock.program import Program

Form = Literal["text", "json"]


@click.command()
@config_option
@control_option
@log_option
@click.option("--watch", is_flag=True, help="Reload when the configuration file changes.")
def run(config: Path, control: Path | None, form: Form, watch: bool) -> None:
    """Serve a configuration.

    HUP reloads, TERM and INT drain and end (a second one ends at once), USR1 opens the logs anew.
    """
    sources, program = _parts()
    serve(program.Program(sources.FileSource(config), control, watch), form)


own_control_option = click.option(
    "--control",
    type=click.Path(path_type=Path),
    envvar=CONTROL,
    metavar="PATH",
    help="Take commands at this socket. Default: none.",
)


@click.command(short_help="Serve without a file: penstock proxy :8080 127.0.0.1:9000.")
@click.argument("listen")
@click.argument("endpoints", nargs=-1, required=True, metavar="ENDPOINT…")
@own_control_option
@log_option
def proxy(listen: str, endpoints: tuple[str, ...], control: Path | None, form: Form) -> None:
    """Serve LISTEN in front of one or more endpoints, without a file: penstock proxy :8080 127.0.0.1:9000."""
    config = {
        "listeners": {"web": {"bind": listen}},
        "upstreams": {"default": {"endpoints": list(endpoints)}},
        "routes": [{"name": "all", "upstream": "default"}],
    }
    _serve_value(config, control, form)


@click.command(short_help="Pass connections on without a file: penstock tcp :5432 db1:5432 db2:5432.")
@click.argument("listen")
@click.argument("endpoints", nargs=-1, required=True, metavar="ENDPOINT…")
@own_control_option
@log_option
def tcp(listen: str, endpoints: tuple[str, ...], control: Path | None, form: Form) -> None:
    """Pass connections to LISTEN on to one or more endpoints, without a file: penstock tcp :5432 db1:5432 db2:5432."""
    _pass_on("tcp", listen, endpoints, control, form)


@click.command(short_help="Pass datagrams on without a file: penstock udp :5353 ns1:53 ns2:53.")
@click.argument("listen")
@click.argument("endpoints", nargs=-1, required=True, metavar="ENDPOINT…")
@own_control_option
@log_option
def udp(listen: str, endpoints: tuple[str, ...], control: Path | None, form: Form) -> None:
    """Pass datagrams to LISTEN on to one or more endpoints, without a file: penstock udp :5353 ns1:53 ns2:53."""
    _pass_on("udp", listen, endpoints, control, form)


@click.command(short_help="Go out for clients without a file: penstock forward :3128.")
@click.argument("listen")
@click.option(
    "--allow",
    "clients",
    multiple=True,
    metavar="NETWORK",
    help='Serve these clients beside those of this machine: "10.0.0.0/8".',
)
@own_control_option
@log_option
def forward(listen: str, clients: tuple[str, ...], control: Path | None, form: Form) -> None:
    """Be a forward proxy at LISTEN, without a file: penstock forward :3128. Until --allow names others, for this
    machine alone."""
    listener = {"bind": listen, "protocol": "forward", "allow_clients": list(clients)}
    _serve_value({"listeners": {"forward": listener}}, control, form)


def _pass_on(protocol: str, listen: str, endpoints: tuple[str, ...], control: Path | None, form: Form) -> None:
    config = {
        "listeners": {protocol: {"bind": listen, "protocol": protocol, "upstream": "default"}},
        "upstreams": {"default": {"endpoints": list(endpoints)}},
    }
    _serve_value(config, control, form)


def _serve_value(config: dict[str, Any], control: Path | None, form: Form) -> None:
    sources, program = _parts()
    serve(program.Program(sources.ValueSource(config), control), form)


def _parts() -> tuple[ModuleType, ModuleType]:
    """`control.source` and `program`: what every server needs, and nothing else of the command line."""
    # What is imported lives on. Looking for cycles in it again and again takes more than a twentieth of a start.
    gc.disable()
    try:
        from penstock import program  # noqa: PLC0415
        from penstock.control import source  # noqa: PLC0415
    finally:
        gc.enable()
    return source, program


def serve(program: Program, form: Form) -> None:
    """Run `program` and write its log."""
    from penstock.control.log import log, write_log  # noqa: PLC0415

    write_log(form)

    def started(applied: Applied) -> None:
        if form == "text":
            _welcome(program, applied)
        for name, addresses in applied.addresses.items():
            for address in addresses:
                log.info("listening", extra={"listener": name, "address": address})
        if program.service.admin.address:
            log.info("admin listening", extra={"address": program.service.admin.address})
        if program.control:
            log.info("taking commands", extra={"control": str(program.control)})

    program.run(started)


def places(applied: Applied, stats: Stats) -> list[tuple[str, str]]:
    """Each listener with what can be opened of it."""
    schemes = {
        row.name: row.protocol if row.protocol in ("tcp", "udp") else "https" if row.certificates else "http"
        for row in stats.listeners
    }
    return [
        (name, "  ".join(_place(address, schemes.get(name, "http")) for address in found))
        for name, found in applied.addresses.items()
    ]


def _welcome(program: Program, applied: Applied) -> None:
    rows = places(applied, program.service.controller.stats())
    if program.service.admin.address:
        rows.append(("admin", _place(program.service.admin.address, "http")))
    rows.append(("end it", "Ctrl-C, which lets requests finish; twice ends at once"))
    from penstock.version import __version__  # noqa: PLC0415

    print_banner(f"penstock {__version__} runs {program.service.controller.source}", rows)


def _place(address: str, scheme: str) -> str:
    """What can be opened: every address of this machine is none."""
    if address.startswith("unix:"):
        return address
    host, _, port = address.rpartition(":")
    everywhere = host in ("[::]", "0.0.0.0")  # noqa: S104 - read, not bound
    return f"{scheme}://localhost:{port} (every address)" if everywhere else f"{scheme}://{address}"
