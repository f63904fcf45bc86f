"""OCSP stapling: what clients are told of a certificate's revocation, which files are refused, which warned of."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.x509 import ocsp
from tests.certificates import DAY, staple, write
from tests.product.waiting import wait_for

import penstock
from product import DEADLINE, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from product import Running

REVOKED, UNKNOWN = ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


def configuration(*certificates: dict[str, Any]) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": {"certificates": list(certificates)}}},
        "routes": [{"respond": {"body": "here"}}],
        "engine": {"workers": 1},
    }


def check(folder: Path, certificate: dict[str, Any]) -> str:
    """What `penstock check` says on standard error."""
    path = folder / "penstock.json"
    path.write_text(json.dumps(configuration(certificate)), "utf-8")
    return run("check", "-c", str(path)).stderr


def stapled(proxy: penstock.Proxy) -> str:
    """What OpenSSL says of the response that it was given."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    command = ["openssl", "s_client", "-status", "-connect", "{}:{}".format(*proxy.address())]
    said = subprocess.run(
        [*command, "-servername", "shop.example"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE,
    )
    return said.stdout.partition("Certificate chain")[0]


def test_a_response_is_stapled_and_a_new_one_soon(tmp_path: Path) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    blog = write(tmp_path, "blog", "blog.example")
    shop["ocsp"] = staple(tmp_path / "shop.ocsp", shop["cert"])
    with penstock.Proxy(configuration(shop, blog)) as proxy:
        assert "OCSP Response Status: successful" in stapled(proxy)
        assert "Cert Status: good" in stapled(proxy)
        first, other = proxy.stats().listeners[0].certificates
        assert first.ocsp_until is not None
        assert other.ocsp_until is None
        staple(tmp_path / "shop.ocsp", shop["cert"], until=3 * DAY)

        def renewed() -> bool:
            until = proxy.stats().listeners[0].certificates[0].ocsp_until
            return until is not None and first.ocsp_until is not None and until > first.ocsp_until

        wait_for(renewed, "the new response is used", 5)
        assert "Cert Status: good" in stapled(proxy)


def test_a_response_that_ran_out_is_not_stapled_and_named(tmp_path: Path) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    shop["ocsp"] = staple(tmp_path / "shop.ocsp", shop["cert"], until=-DAY)
    said = check(tmp_path, shop)
    assert "tls.certificates[0].ocsp" in said
    assert f"{shop['ocsp']} has run out 24 h ago: it is not stapled" in said
    assert "refused" not in said
    with penstock.Proxy(configuration(shop)) as proxy:
        assert "OCSP response: no response sent" in stapled(proxy)


@pytest.mark.parametrize(
    ("of", "says"),
    [
        ({"status": REVOKED}, "says that the certificate is revoked or unknown"),
        ({"status": UNKNOWN}, "says that the certificate is revoked or unknown"),
        ({"until": None}, "does not say until when it counts"),
        ({"pem": True}, "is no OCSP response in DER"),
    ],
    ids=["revoked", "unknown", "endless", "PEM"],
)
def test_what_says_nothing_good_is_refused(tmp_path: Path, of: dict[str, Any], says: str) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    shop["ocsp"] = staple(tmp_path / "shop.ocsp", shop["cert"], **of)
    assert f"tls.certificates[0].ocsp: {shop['ocsp']} {says}" in check(tmp_path, shop)


def test_a_response_for_another_certificate_is_refused(tmp_path: Path) -> None:
    shop, blog = write(tmp_path, "shop", "shop.example"), write(tmp_path, "blog", "blog.example")
    shop["ocsp"] = staple(tmp_path / "blog.ocsp", blog["cert"])
    assert "says nothing of this certificate" in check(tmp_path, shop)
    shop["ocsp"] = str(tmp_path / "none.ocsp")
    assert "none.ocsp cannot be read: there is no such file" in check(tmp_path, shop)


def test_the_command_shows_until_when(tmp_path: Path, start: Callable[..., Running], config: Path) -> None:
    shop = write(tmp_path, "shop", "shop.example")
    shop["ocsp"] = staple(tmp_path / "shop.ocsp", shop["cert"])
    words = ", ".join(f'{key} = "{value}"' for key, value in shop.items())
    tls = f"tls = {{ certificates = [{{ {words} }}] }}\n"
    config.write_text(config.read_text("utf-8").replace("[upstreams.app]", tls + "[upstreams.app]", 1), "utf-8")
    running = start()
    assert "OCSP until " in running.command("cert").stdout
    staple(tmp_path / "shop.ocsp", shop["cert"], until=-DAY)
    wait_for(lambda: "OCSP ran out " in running.command("cert").stdout, "the one that ran out is read")
    # Before the next is read, what there is has been looked at once more.
    staple(tmp_path / "shop.ocsp", shop["cert"])
    wait_for(lambda: "OCSP until " in running.command("cert").stdout, "a good one is read")
    warned = [line["message"] for line in running.lines if "has run out" in line["message"]]
    assert len(warned) == 1
    assert shop["ocsp"] in warned[0]
