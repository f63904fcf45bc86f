"""TLS as OpenSSL's own client sees it: sessions that are resumed, names, client certificates, versions."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from cryptography import x509
from tests.certificates import authority, write
from tests.product.waiting import wait_for

import penstock
from product import DEADLINE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

ANSWER = {"match": '"CN=alice" in tls.client.subject', "respond": {"body": "alice"}}
NOBODY = {"respond": {"body": "nobody"}}
TLS12, TLS13 = ("-tls1_2",), ("-tls1_3",)


def configuration(*certificates: Any, **tls: Any) -> dict[str, Any]:
    listener = {"bind": "127.0.0.1:0", "tls": {"certificates": list(certificates), **tls}}
    return {"listeners": {"web": listener}, "routes": [ANSWER, NOBODY], "engine": {"workers": 1}}


def s_client(proxy: penstock.Proxy, *options: str, name: str = "shop.example") -> subprocess.CompletedProcess[str]:
    """One request; everything that OpenSSL says of it."""
    command = ["openssl", "s_client", "-connect", "{}:{}".format(*proxy.address()), "-servername", name, "-ign_eof"]
    return subprocess.run(
        [*command, *options],
        input=f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n",
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE,
    )


def names(said: str) -> list[str]:
    """Those in the certificate that was shown."""
    found = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", said, re.DOTALL)
    assert found, said
    shown = x509.load_pem_x509_certificate(found[0].encode())
    return shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def authorities(folder: Path) -> str:
    path = folder / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return str(path)


@pytest.mark.parametrize(("version", "spoken"), [(TLS12, "TLSv1.2"), (TLS13, "TLSv1.3")], ids=["ticket", "PSK"])
def test_a_session_is_resumed_for_its_name_alone(tmp_path: Path, version: tuple[str, ...], spoken: str) -> None:
    shop = write(tmp_path, "shop", "shop.example", "blog.example")
    session = str(tmp_path / "session")
    with penstock.Proxy(configuration(shop)) as proxy:
        first = s_client(proxy, *version, "-sess_out", session)
        assert f"New, {spoken}" in first.stdout
        again = s_client(proxy, *version, "-sess_in", session)
        assert f"Reused, {spoken}" in again.stdout
        assert again.stdout.count("HTTP/1.1 200 OK") == 1
        elsewhere = s_client(proxy, *version, "-sess_in", session, name="blog.example")
        assert f"New, {spoken}" in elsewhere.stdout
        (listener,) = proxy.stats().listeners
        assert (listener.handshakes, listener.resumed) == (3, 1)


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["ticket", "PSK"])
def test_tickets_are_given_unless_told_otherwise(tmp_path: Path, version: tuple[str, ...]) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    for tickets in (True, False):
        with penstock.Proxy(configuration(shop, tickets=tickets)) as proxy:
            said = s_client(proxy, *version).stdout
        assert "HTTP/1.1 200 OK" in said
        assert ("TLS session ticket:" in said) is tickets, said


def test_a_session_outlives_a_reload_and_no_other_listener_takes_it(tmp_path: Path) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    session = str(tmp_path / "session")
    config = configuration(shop)
    with penstock.Proxy(config) as proxy, penstock.Proxy(configuration(shop)) as other:
        s_client(proxy, *TLS13, "-sess_out", session)
        proxy.apply({**config, "routes": [NOBODY]})
        assert "Reused, TLSv1.3" in s_client(proxy, *TLS13, "-sess_in", session).stdout
        assert "New, TLSv1.3" in s_client(other, *TLS13, "-sess_in", session).stdout


def test_the_name_chooses_the_certificate(tmp_path: Path) -> None:
    shop, blog = write(tmp_path, "shop", "shop.example"), write(tmp_path, "blog", "blog.example", "*.blog.example")
    with penstock.Proxy(configuration(shop, blog)) as proxy:
        trust = ("-CAfile", authorities(tmp_path), "-verify_return_error")
        for name, expected in (
            ("shop.example", ["shop.example"]),
            ("blog.example", ["blog.example", "*.blog.example"]),
            ("a.blog.example", ["blog.example", "*.blog.example"]),
        ):
            said = s_client(proxy, *trust, "-verify_hostname", name, name=name)
            assert (said.returncode, names(said.stdout)) == (0, expected)
            assert "Verify return code: 0 (ok)" in said.stdout
        assert names(s_client(proxy, name="other.example").stdout) == ["shop.example"]


@pytest.mark.parametrize("version", [TLS12, TLS13], ids=["1.2", "1.3"])
def test_clients_show_their_certificates(tmp_path: Path, version: tuple[str, ...]) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    alice, stranger = str(tmp_path / "alice.pem"), str(tmp_path / "stranger.pem")
    authority().issue_cert("alice.example", common_name="alice").private_key_and_cert_chain_pem.write_to_path(alice)
    trustme.CA().issue_cert("x.example").private_key_and_cert_chain_pem.write_to_path(stranger)
    with penstock.Proxy(configuration(shop, clients={"ca": authorities(tmp_path)})) as proxy:
        said = s_client(proxy, *version, "-cert", alice, "-key", alice)
        assert "HTTP/1.1 200 OK" in said.stdout
        assert "\nalice" in said.stdout
        for count, shown in enumerate(((), ("-cert", stranger, "-key", stranger)), 1):
            refused = s_client(proxy, *version, *shown)
            assert "HTTP/1.1 200" not in refused.stdout
            assert "alert" in refused.stderr
            wait_for(
                lambda count=count: proxy.stats().rejected["tls_client_certificate"] == count, "the refusal is counted"
            )


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(tmp_path: Path, version: str) -> None:
    with penstock.Proxy(configuration(write(tmp_path, "shop", "shop.example"))) as proxy:
        said = s_client(proxy, version, "-cipher", "DEFAULT:@SECLEVEL=0")
        if "no protocols available" in said.stderr or "unknown option" in said.stderr.lower():
            pytest.skip(f"this openssl does not speak {version}")
        assert said.returncode != 0
        assert re.search("alert (protocol version|handshake failure)", said.stderr)
        wait_for(lambda: proxy.stats().rejected["tls_failed"] == 1, "the refusal is counted")
