"""`trust`: how to let this machine believe the local authority of `tls = "internal"`."""

from __future__ import annotations

import hashlib
import ssl
from typing import TYPE_CHECKING

import click

from penstock.config.internal import state_folder
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "Penstock local authority"

_HOW = (
    (
        "Debian, Ubuntu",
        ("sudo cp {path} /usr/local/share/ca-certificates/{file}.crt", "sudo update-ca-certificates"),
    ),
    ("Fedora, RHEL, Arch", ("sudo trust anchor {path}",)),
    ("macOS", ("sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain {path}",)),
    ("Windows", ("certutil -addstore -f ROOT {path}",)),
    (
        "Chromium, Firefox on Linux",
        ("certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n {file} -i {path}",),
    ),
    ("curl", ("curl --cacert {path} {url}",)),
    ("Python", ("SSL_CERT_FILE={path} python …",)),
)


@click.command()
def trust() -> None:
    """Show how to trust the local authority of `tls = "internal"`. Changes nothing."""
    path = state_folder() / "ca.pem"
    try:
        der = ssl.PEM_cert_to_DER_cert(path.read_text("ascii"))
    except FileNotFoundError:
        message = f'there is no local authority in {path.parent}: one is made when a listener has tls = "internal"'
        raise PenstockError(message) from None
    except (OSError, ValueError) as error:
        raise PenstockError(f"{path} cannot be read: {error}") from None
    click.echo(f"authority    {NAME}")
    click.echo(f"certificate  {path}")
    click.echo(f"SHA-256      {hashlib.sha256(der).hexdigest()}")
    click.echo("")
    click.echo("Whoever has its key can be any site to those who trust it. Only for development, on this machine:")
    for line in how_to_trust(path, "penstock-local", "https://localhost:8443/"):
        click.echo(line)


def how_to_trust(path: Path, file: str, url: str) -> Iterator[str]:
    """How each system is told to trust the authority in `path`, which is called `file` there; `url` is an example."""
    for system, commands in _HOW:
        yield f"\n{system}:"
        for command in commands:
            yield f"  {command.format(path=path, file=file, url=url)}"
