"""`tls = "internal"`: a certificate for development, and an authority that nobody trusts unasked."""

from __future__ import annotations

import datetime
import hashlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.certificates import ask, secure
from tests.product.waiting import wait_for

import penstock
from product import run

ALWAYS = ["localhost", "127.0.0.1", "::1"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the authority is kept."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state" / "internal"


def configuration(*hosts: str) -> dict[str, Any]:
    routes: list[dict[str, Any]] = [{"match": f'host == "{host}"', "respond": {"body": host}} for host in hosts]
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": "internal"}},
        "routes": [*routes, {"respond": {"body": "any"}}],
        "engine": {"workers": 1},
    }


def trusting(state: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(state / "ca.pem"))


def serial(proxy: penstock.Proxy, state: Path) -> int:
    with secure(proxy.address(), "localhost", trusting(state)) as sock:
        return x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"").serial_number


def test_it_is_good_for_this_machine_and_the_hosts_of_routes(state: Path) -> None:
    routes = [
        {
            "match": 'path == "/x" and (host == "Shop.localhost" or sni in ["a.test", "b.test"])',
            "respond": {"body": "x"},
        },
        {"match": 'not host == "never.test" and path != "/host"', "respond": {"body": "any"}},
    ]
    with penstock.Proxy({**configuration(), "routes": routes}) as proxy:
        trust = trusting(state)
        for name in ("localhost", "127.0.0.1", "shop.localhost", "a.test", "b.test"):
            with secure(proxy.address(), name, trust) as sock:
                assert ask(sock) == b"any"
        (shown,) = proxy.stats().listeners[0].certificates
        assert list(shown.names) == [*ALWAYS, "shop.localhost", "a.test", "b.test"]
        with pytest.raises(ssl.SSLCertVerificationError):
            secure(proxy.address(), "never.test", trust)
        # Nobody was made to believe it.
        with pytest.raises(ssl.SSLCertVerificationError):
            secure(proxy.address(), "localhost", ssl.create_default_context())


def test_files_are_their_owners_alone_and_kept(state: Path) -> None:
    with penstock.Proxy(configuration()) as proxy:
        first = serial(proxy, state)
    authority = (state / "ca.pem").read_bytes()
    assert state.stat().st_mode & 0o777 == 0o700
    keys = list(state.glob("*.key"))
    assert len(keys) == 2
    assert all(path.stat().st_mode & 0o077 == 0 for path in keys)
    with penstock.Proxy(configuration()) as proxy:
        assert serial(proxy, state) == first
        proxy.apply(configuration("shop.test"))
        with secure(proxy.address(), "shop.test", trusting(state)) as sock:
            assert ask(sock) == b"shop.test"
    assert (state / "ca.pem").read_bytes() == authority


def age(proxy: penstock.Proxy, state: Path) -> int:
    """Put one with 10 days left and serial number 1 in the place of what is served; the number of that."""
    (path,) = (Path(one.cert) for one in proxy.stats().listeners[0].certificates)
    issuer = x509.load_pem_x509_certificate((state / "ca.pem").read_bytes())
    signer: Any = serialization.load_pem_private_key((state / "ca.key").read_bytes(), None)
    leaf = x509.load_pem_x509_certificate(path.read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    old = x509.CertificateBuilder(issuer.subject, leaf.subject, leaf.public_key(), 1)
    old = old.not_valid_before(now - datetime.timedelta(80)).not_valid_after(now + datetime.timedelta(10))
    for extension in leaf.extensions:
        old = old.add_extension(extension.value, extension.critical)
    fresh = path.with_suffix(".old")
    fresh.write_bytes(old.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    fresh.rename(path)
    return leaf.serial_number


def test_it_is_made_anew_before_its_end(state: Path) -> None:
    with penstock.Proxy(configuration()) as proxy:
        first = age(proxy, state)
        wait_for(lambda: serial(proxy, state) not in (1, first), "one with 10 days left is made anew", 10)


def test_what_cannot_be_made_is_tried_again(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    with penstock.Proxy(configuration()) as proxy:
        lock = state / "lock"
        lock.unlink()
        lock.mkdir()
        first = age(proxy, state)
        told = f"cannot keep the local authority in {state}"
        wait_for(lambda: told in caplog.text, "two tries fail", 10)
        # One that stopped trying would serve the old until a reload.
        lock.rmdir()
        wait_for(lambda: serial(proxy, state) not in (1, first), "a later one does not", 15)
        assert caplog.text.count(told) == 1


def test_how_to_trust_it_is_told(state: Path) -> None:
    refused = run("trust")
    assert refused.returncode == 1
    assert "there is no local authority" in refused.stderr
    with penstock.Proxy(configuration()):
        said = run("trust")
    assert said.returncode == 0
    der = ssl.PEM_cert_to_DER_cert((state / "ca.pem").read_text())
    for told in (str(state / "ca.pem"), hashlib.sha256(der).hexdigest(), "update-ca-certificates", "certutil"):
        assert told in said.stdout


def test_no_other_word_is_tls() -> None:
    with pytest.raises(penstock.ConfigError, match=r"listeners.web.tls: must be"):
        penstock.Proxy({**configuration(), "listeners": {"web": {"bind": ":0", "tls": "public"}}}).__enter__()
