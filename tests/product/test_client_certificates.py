"""Clients that prove who they are: who is refused, what expressions and endpoints are told, what a reload changes."""

from __future__ import annotations

import datetime
import hashlib
import json
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from secured import PlainOrigin
from tests.certificates import ask, authority, context, secure, write
from tests.product.waiting import wait_for

import penstock
from product import run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V12 = {"maximum_version": ssl.TLSVersion.TLSv1_2}
V13 = {"minimum_version": ssl.TLSVersion.TLSv1_3}
ALICE = {
    "match": r'"CN=alice" in tls.client.subject and "DNS:alice.example" in tls.client.san',
    "respond": {"body": "alice"},
}
SHOWN = {"match": 'tls.client.fingerprint.matches("^[0-9a-f]{64}$")', "respond": {"body": "somebody"}}
NOBODY = {"respond": {"body": "nobody"}}


def person(folder: Path, name: str, issuer: trustme.CA | None = None) -> Path:
    """A client's certificate and key in one file."""
    leaf = (issuer or authority()).issue_cert(f"{name}.example", common_name=name, organization_name="Example")
    path = folder / f"{name}.client.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def client(shown: Path | None = None, **options: Any) -> ssl.SSLContext:
    made = context(**options)
    if shown:
        made.load_cert_chain(shown)
    return made


def revoke(path: Path, *people: Path, days: int = 1) -> None:
    """A list of the authority that revokes these, good for so many days."""
    issuer = x509.load_pem_x509_certificate(authority().cert_pem.bytes())
    key: Any = serialization.load_pem_private_key(authority().private_key_pem.bytes(), None)
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    made = x509.CertificateRevocationListBuilder(issuer.subject, until - datetime.timedelta(days=30), until)
    made = made.add_extension(x509.CRLNumber(1), critical=False)
    identity = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    made = made.add_extension(identity, critical=False)
    for person in people:
        serial = x509.load_pem_x509_certificates(person.read_bytes())[0].serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        made = made.add_revoked_certificate(entry.build())
    fresh = path.with_suffix(".fresh")
    fresh.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    fresh.rename(path)


def configuration(folder: Path, routes: Any = (ALICE, SHOWN, NOBODY), **clients: Any) -> dict[str, Any]:
    authority().cert_pem.write_to_path(folder / "clients.pem")
    tls: dict[str, Any] = {"certificates": [write(folder, "shop", "shop.example")]}
    if clients:
        tls["clients"] = {"ca": str(folder / "clients.pem"), **clients}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}},
        "routes": list(routes),
        "engine": {"workers": 1},
        "log": {"access": {"to": str(folder / "access.log"), "format": "json"}},
    }


@contextmanager
def serving(folder: Path, **more: Any) -> Iterator[penstock.Proxy]:
    with penstock.Proxy(configuration(folder, **more)) as proxy:
        yield proxy


def answer(proxy: penstock.Proxy, trust: ssl.SSLContext, *fields: str) -> bytes:
    sock = secure(proxy.address(), trust=trust)
    try:
        return ask(sock, "/", *fields)
    finally:
        sock.close()


def is_refused(proxy: penstock.Proxy, trust: ssl.SSLContext) -> None:
    before = proxy.stats().rejected["tls_client_certificate"]
    # With TLS 1.3 a client is through before it is told.
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answer(proxy, trust)
    wait_for(lambda: proxy.stats().rejected["tls_client_certificate"] == before + 1, "it is counted")


@pytest.mark.parametrize("versions", [V12, V13])
def test_who_shows_no_certificate_or_a_wrong_one_is_refused(tmp_path: Path, versions: dict[str, Any]) -> None:
    alice, mallory = person(tmp_path, "alice"), person(tmp_path, "mallory", trustme.CA())
    with serving(tmp_path, required=True) as proxy:
        assert answer(proxy, client(alice, **versions)) == b"alice"
        is_refused(proxy, client(**versions))
        is_refused(proxy, client(mallory, **versions))
        log = tmp_path / "access.log"
        wait_for(lambda: log.exists() and len(log.read_text("utf-8").splitlines()) == 3, "all is recorded")
    causes = [json.loads(line)["cause"] for line in log.read_text("utf-8").splitlines()]
    assert causes == ["", "tls_client_certificate", "tls_client_certificate"]


@pytest.mark.parametrize("versions", [V12, V13])
def test_a_certificate_can_be_optional(tmp_path: Path, versions: dict[str, Any]) -> None:
    with serving(tmp_path, required=False) as proxy:
        assert answer(proxy, client(person(tmp_path, "alice"), **versions)) == b"alice"
        assert answer(proxy, client(person(tmp_path, "bob"), **versions)) == b"somebody"
        assert answer(proxy, client(**versions)) == b"nobody"
        is_refused(proxy, client(person(tmp_path, "mallory", trustme.CA()), **versions))


def test_whoever_is_not_asked_is_nobody(tmp_path: Path) -> None:
    with serving(tmp_path) as proxy:
        assert answer(proxy, client(person(tmp_path, "alice"))) == b"nobody"


@pytest.mark.safety(139)
@pytest.mark.parametrize("versions", [V12, V13])
def test_a_ticket_vouches_for_a_proof_as_long_as_it_would_be_believed(tmp_path: Path, versions: dict[str, Any]) -> None:
    alice = client(person(tmp_path, "alice"), **versions)
    lists = tmp_path / "revoked.pem"
    revoke(lists)
    with serving(tmp_path, required=True, crl=str(lists)) as proxy:

        def resumed(session: Any) -> Any:
            sock = secure(proxy.address(), trust=alice, session=session)
            assert ask(sock) == b"alice"
            found = sock.session, sock.session_reused
            sock.close()
            return found

        session, _ = resumed(None)
        assert resumed(session)[1]
        # Under other rules a proof has to be made anew.
        proxy.apply(configuration(tmp_path, required=False))
        sock = secure(proxy.address(), trust=client(**versions), session=None)
        assert ask(sock) == b"nobody"
        sock.close()
        assert not resumed(session)[1]


def test_who_was_revoked_is_refused_within_seconds(tmp_path: Path) -> None:
    alice, bob, lists = person(tmp_path, "alice"), person(tmp_path, "bob"), tmp_path / "revoked.pem"
    revoke(lists, bob)
    with serving(tmp_path, required=True, crl=str(lists)) as proxy:
        assert answer(proxy, client(alice)) == b"alice"
        is_refused(proxy, client(bob))
        sock = secure(proxy.address(), trust=(known := client(alice)))
        ask(sock)
        ticket = sock.session
        revoke(lists, alice, bob)

        def refused() -> bool:
            try:
                fresh = secure(proxy.address(), trust=known, session=ticket)
                ask(fresh)
            except (ssl.SSLError, ConnectionError):
                return True
            return False

        wait_for(refused, "a ticket is of no use either")
        sock.close()


def test_a_list_that_is_out_of_date_lets_nobody_in(tmp_path: Path) -> None:
    revoke(tmp_path / "revoked.pem", days=-1)
    with serving(tmp_path, required=True, crl=str(tmp_path / "revoked.pem")) as proxy:
        is_refused(proxy, client(person(tmp_path, "alice")))


def test_a_connection_made_under_other_rules_is_sent_away(tmp_path: Path) -> None:
    with serving(tmp_path) as proxy:
        sock = secure(proxy.address())
        assert ask(sock) == b"nobody"
        proxy.apply(configuration(tmp_path, required=True))
        sock.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        assert sock.recv(65_536).startswith(b"HTTP/1.1 421 ")
        sock.close()
        assert proxy.stats().rejected["misdirected"] == 1
        assert answer(proxy, client(person(tmp_path, "alice"))) == b"alice"


@pytest.mark.parametrize("shows", [True, False])
def test_endpoints_are_told_by_us_and_nobody_else(tmp_path: Path, *, shows: bool) -> None:
    alice = person(tmp_path, "alice")
    lies = [f"X-Client-Cert-{name}: zebra" for name in ("Subject", "San", "Fingerprint")]
    with PlainOrigin(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as origin:
        config = configuration(tmp_path, routes=[{"upstream": "app"}], required=False)
        config["upstreams"] = {"app": {"endpoints": [origin.address]}}
        with penstock.Proxy(config) as proxy:
            assert answer(proxy, client(alice if shows else None), *lies) == b"ok"
        told = dict(line.split(b": ", 1) for line in origin.heard[0].lower().split(b"\r\n") if b": " in line)
    assert b"zebra" not in origin.heard[0]
    der = x509.load_pem_x509_certificates(alice.read_bytes())[0].public_bytes(serialization.Encoding.DER)
    found = [told.get(b"x-client-cert-" + name) for name in (b"subject", b"san", b"fingerprint")]
    if shows:
        assert found[0] is not None
        assert found[0].startswith(b"cn=alice,")
        assert found[0].endswith(b"o=example")
        assert found[1:] == [b"dns:alice.example", hashlib.sha256(der).hexdigest().encode()]
    else:
        assert found == [None, None, None]


@pytest.mark.safety(141)
@pytest.mark.parametrize(
    ("what", "content", "says"),
    [
        ("ca", None, "there is no such file"),
        ("ca", "", "is empty"),
        ("ca", "no PEM", "holds no certificate"),
        ("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no X.509 certificate"),
        ("crl", None, "there is no such file"),
        ("crl", "", "is empty"),
        ("crl", "no PEM", "holds no list of revoked certificates"),
        ("crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "holds a list that cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, what: str, content: str | None, says: str) -> None:
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_text(content, "ascii")
    path = tmp_path / "penstock.json"
    path.write_text(json.dumps(configuration(tmp_path, required=True, **{what: str(file)})), "utf-8")
    done = run("check", "-c", str(path))
    assert done.returncode == 2
    assert f"listeners.web.tls.clients.{what}: " in done.stderr
    assert says in done.stderr
