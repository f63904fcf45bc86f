"""`trust`: how to let this machine believe the local authority of `tls = "internal"`."""

from __future__ import annotations

import hashlib
import ssl

import click

from penstock.config.internal import state_folder
from penstock.errors import PenstockError

NAME = "Penstock local authority"

_HOW = (
    (
        "Debian, Ubuntu",
        ("sudo cp {path} /usr/local/share/ca-certificates/penstock-local.crt", "sudo update-ca-certificates"),
    ),
    ("Fedora, RHEL, Arch", ("sudo trust anchor {path}",)),
    ("macOS", ("sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain {path}",)),
    ("Windows", ("certutil -addstore -f ROOT {path}",)),
    (
        "Chromium, Firefox on Linux",
        ('certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n "Penstock local authority" -i {path}',),
    ),
    ("curl", ("curl --cacert {path} https://localhost:8443/",)),
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
    for system, commands in _HOW:
        click.echo(f"\n{system}:")
        for command in commands:
            click.echo(f"  {command.format(path=path)}")
