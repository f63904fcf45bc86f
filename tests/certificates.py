"""Certificates for tests: an authority of their own, files as people have them, and clients that trust nobody else."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

DEADLINE = 20.0
"""Seconds that a handshake may take."""

DAY = timedelta(days=1)
GOOD = ocsp.OCSPCertStatus.GOOD
EC, RSA = trustme.KeyType.ECDSA, trustme.KeyType.RSA


@cache
def authority() -> trustme.CA:
    """The one that all tests trust."""
    return trustme.CA()


def write(
    folder: Path, name: str, *names: str, kind: trustme.KeyType = EC, until: datetime | None = None
) -> dict[str, Any]:
    """`NAME.pem` with its chain and `NAME.key` for these names, and their entry in a configuration."""
    folder.mkdir(exist_ok=True)
    leaf = authority().issue_cert(*names, key_type=kind, not_after=until)
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
    for path, content in ((key, leaf.private_key_pem.bytes()), (cert, chain)):
        # Whoever reads it meanwhile gets the old or the new.
        fresh = path.with_suffix(".fresh")
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        fresh.rename(path)
    return {"cert": str(cert), "key": str(key)}


def staple(path: Path, cert: str, status: Any = GOOD, *, until: timedelta | None = DAY, pem: bool = False) -> str:
    """What the authority says of a certificate's revocation (OCSP), good from two days ago until `until` from now."""
    issuer = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    key: Any = serialization.load_pem_private_key(authority().private_key_pem.bytes(), None)
    now = datetime.now(UTC)
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    made = ocsp.OCSPResponseBuilder().add_response(
        cert=x509.load_pem_x509_certificate(Path(cert).read_bytes()),
        issuer=issuer,
        algorithm=hashes.SHA1(),
        cert_status=status,
        this_update=now - 2 * DAY,
        next_update=None if until is None else now + until,
        revocation_time=now - DAY if revoked else None,
        revocation_reason=None,
    )
    made = made.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
    der = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(b"-----BEGIN OCSP RESPONSE-----\n" + der if pem else der)
    fresh.rename(path)
    return str(path)


def rewrite_key(path: str, form: serialization.PrivateFormat, password: bytes | None = None) -> None:
    """The same key in another form."""
    key = serialization.load_pem_private_key(Path(path).read_bytes(), None)
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    Path(path).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, hidden))


def context(**options: Any) -> ssl.SSLContext:
    """A client's: it trusts `authority` and checks names. `options` are its attributes."""
    made = ssl.create_default_context()
    authority().configure_trust(made)
    for name, value in options.items():
        setattr(made, name, value)
    return made


def origin_context(*names: str, **options: Any) -> ssl.SSLContext:
    """An origin's, with a certificate for these names. `options` are its attributes."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*names, key_type=EC).configure_cert(made)
    for name, value in options.items():
        setattr(made, name, value)
    return made


def secure(
    address: tuple[str, int], name: str | None = "shop.example", trust: ssl.SSLContext | None = None, **more: Any
) -> ssl.SSLSocket:
    """A client's connection after its handshake. A connection that ends without a farewell is an error to it."""
    sock = socket.create_connection(address, DEADLINE)
    try:
        return (trust or context()).wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False, **more)
    except BaseException:
        sock.close()
        raise


def ask(sock: ssl.SSLSocket, path: str = "/", *fields: str, body: bytes = b"") -> bytes:
    """One request, for the host that was asked for; the answer's body."""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {sock.server_hostname or 'shop.example'}", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    sock.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return answer(sock)


def answer(sock: socket.socket) -> bytes:
    """Read one answer with a length; its body."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += sock.recv(65_536) or _cut(got)
    head, _, rest = got.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
    while len(rest) < int(fields[b"content-length"]):
        rest += sock.recv(65_536) or _cut(rest)
    return rest


def _cut(got: bytes) -> bytes:
    raise AssertionError(f"the connection ended after {got!r}")
