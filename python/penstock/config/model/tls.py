"""TLS: certificates, who gets which, and who is believed."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from penstock.config.model.base import Flag, Model


class Certificate(Model):
    """A certificate and its key, in PEM files. A file that is replaced is served within seconds, without a reload."""

    cert: Annotated[str, Field(min_length=1)]
    """File of the certificate and, behind it, its chain. Relative paths are relative to the configuration file."""
    key: Annotated[str, Field(min_length=1)]
    """File of the private key: PKCS#8, PKCS#1 or SEC1, not encrypted, and not readable by every user."""
    readable_key: Flag = False
    """Take a key that every user of the machine can read. Default false."""
    ocsp: Annotated[str, Field(min_length=1)] | None = None
    """File of what its issuer says of its revocation (an OCSP response in DER), which is stapled. Default: none."""


class ClientCertificates(Model):
    """Certificates by which clients prove who they are."""

    ca: Annotated[str, Field(min_length=1)]
    """File of the authorities whose certificates are believed, and no others."""
    crl: Annotated[str, Field(min_length=1)] | None = None
    """File of what they have revoked: a list of each authority that a client's chain has. Default: nobody looks."""
    required: Flag = True
    """Refuse clients that show none. One that is not believed is always refused. Default true."""


def _none_from_false(value: object) -> Any:
    if isinstance(value, bool):
        if value:
            raise ValueError("is false, or a table")
        return None
    return value


class ServerName(Model):
    """What clients are asked for that name this host."""

    clients: Annotated[
        ClientCertificates | None,
        BeforeValidator(_none_from_false, json_schema_input_type=Literal[False] | ClientCertificates),
    ]
    """Certificates that they are asked for, or false: they are asked for none."""


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
    alpn: tuple[Literal["h2", "http/1.1"], ...] = ("h2", "http/1.1")
    """What is spoken, the first preferred: "h2" (HTTP/2), "http/1.1". A client that does not say what it speaks gets
    HTTP/1.1. Default both."""
    tickets: Flag = True
    """Give clients tickets, which spare them most of the next handshake. Default true."""
    clients: ClientCertificates | None = None
    """Certificates that clients are asked for. Default: they are asked for none."""
    names: dict[str, ServerName] = Field(default_factory=dict)
    """Hosts ("admin.example", "*.staff.example") for which something else is asked of clients than `clients` says.
    Default: none."""


INTERNAL = "<internal>"
"""Stands for the files of a certificate that Penstock makes itself."""


def _tls_from_word(value: object) -> Any:
    if value == "internal":
        return Tls(certificates=(Certificate(cert=INTERNAL, key=INTERNAL),))
    return value


ListenerTls = Annotated[Tls, BeforeValidator(_tls_from_word, json_schema_input_type=Literal["internal"] | Tls)]
"""TLS on a listener, or `"internal"`: a certificate of a local authority, for development."""


class UpstreamTls(Model):
    """TLS to the endpoints of an upstream. `true` stands for it with every default."""

    ca: Annotated[str, Field(min_length=1)] | None = None
    """File of the authorities whose certificates are believed, and no others. Default: those that this machine
    trusts."""
    name: Annotated[str, Field(min_length=1)] | None = None
    """The name that endpoints are asked for (SNI) and must have in their certificate. Default: the host of their
    address."""
    cert: Annotated[str, Field(min_length=1)] | None = None
    """File of a certificate, and behind it its chain, for endpoints that ask who we are. Default: none."""
    key: Annotated[str, Field(min_length=1)] | None = None
    """File of its private key, as a listener's."""
    readable_key: Flag = False
    """Take a key that every user of the machine can read. Default false."""
    insecure: Flag = False
    """Believe any certificate: whoever is between can read and change everything. Default false."""
    min_version: Literal["1.2", "1.3"] = "1.2"
    """The oldest version of TLS that is spoken. Default "1.2"."""


def tls_from_switch(value: object) -> Any:
    """True stands for every default, false for none."""
    if isinstance(value, bool):
        return UpstreamTls() if value else None
    return value
