"""TLS: certificates, and who gets which."""

from typing import Annotated, Literal

from pydantic import Field

from penstock.config.model.base import Flag, Model


class Certificate(Model):
    """A certificate and its key, in PEM files. A file that is replaced is served within seconds, without a reload."""

    cert: Annotated[str, Field(min_length=1)]
    """File of the certificate and, behind it, its chain. Relative paths are relative to the configuration file."""
    key: Annotated[str, Field(min_length=1)]
    """File of the private key: PKCS#8, PKCS#1 or SEC1, not encrypted, and not readable by every user."""
    readable_key: Flag = False
    """Take a key that every user of the machine can read. Default false."""


class Tls(Model):
    """TLS on a listener."""

    certificates: Annotated[tuple[Certificate, ...], Field(min_length=1)]
    """The first is the default. Which one a client gets is told by the names in them; for one name there may be an
    ECDSA and an RSA certificate."""
    unknown_name: Literal["default", "refuse"] = "default"
    """What a client gets that names a host for which there is no certificate, or none: "default" (the first
    certificate) or "refuse" (an alert). Default "default"."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken. Default "1.2"."""
