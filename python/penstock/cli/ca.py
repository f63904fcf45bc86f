"""`ca`: the authority by which a forward proxy stands for the servers of the tunnels that it opens."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import click

from penstock.cli.trust import how_to_trust
from penstock.config.internal import state_folder
from penstock.errors import PenstockError


@click.command(short_help="Show, or write out, the authority that intercepts for a forward proxy.")
@click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration whose authority is meant. Default: the one that is used where a configuration names none.",
)
@click.option("--listener", metavar="NAME", help="With -c: the listener. Default: the first that intercepts.")
@click.option("--pem", "form", flag_value="pem", help="Write the certificate alone, in PEM.")
@click.option("--der", "form", flag_value="der", help="Write the certificate alone, in DER.")
def ca(config: Path | None, listener: str | None, form: str | None) -> None:
    """Show the authority by which a forward proxy stands for the servers of tunnels that it opens, and how clients
    come to trust it; or write its certificate to standard output. Never shows its key."""
    path = _folder(config, listener) / "ca.pem"
    try:
        pem = path.read_text("ascii")
        der = ssl.PEM_cert_to_DER_cert(pem)
    except FileNotFoundError:
        message = f"there is no authority in {path.parent}: one is made when a rule of a listener has intercept = true"
        raise PenstockError(message) from None
    except (OSError, ValueError) as error:
        raise PenstockError(f"{path} cannot be read: {error}") from None
    if form is not None:
        click.echo(der if form == "der" else pem, nl=False)
        return
    click.echo(f"certificate  {path}")
    click.echo(f"SHA-256      {hashlib.sha256(der).hexdigest()}")
    click.echo("")
    click.echo("Whoever has its key can be any site to those who trust it. The key is beside it, and stays there.")
    for line in how_to_trust(path, "penstock-interception", "https://example.com/ -x http://127.0.0.1:3128"):
        click.echo(line)


def _folder(config: Path | None, listener: str | None) -> Path:
    if config is None:
        if listener is not None:
            raise click.UsageError("--listener is one of a configuration: give -c, too")
        return state_folder("interception")
    from penstock.config import load  # noqa: PLC0415 - reading it takes longer than all else
    from penstock.config.compile_forward import authority_folder, intercepts  # noqa: PLC0415

    loaded = load(config)
    found = loaded.config
    wanted = [name for name, one in found.listeners.items() if intercepts(one) and listener in (None, name)]
    if not wanted:
        which = "no listener has" if listener is None else f"{listener} is no listener that has"
        raise PenstockError(f"{which} a rule with intercept = true")
    return Path(authority_folder(found.listeners[wanted[0]], lambda path: str(loaded.document.folder / path)))
