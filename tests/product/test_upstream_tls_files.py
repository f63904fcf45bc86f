"""Files of TLS to endpoints: what a reload keeps, how a replaced file is used, and what is refused."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from secured import SecuredOrigin, configuration, get, in_front_of
from tests.certificates import write
from tests.product.waiting import wait_for

import penstock
from product import run, serving

ASK = {"verify_mode": ssl.CERT_REQUIRED}


@pytest.mark.safety(72)
def test_a_reload_keeps_the_connections_of_what_is_unchanged_alone(
    ca: str, leaf: dict[str, Any], tmp_path: Path
) -> None:
    with SecuredOrigin(leaf) as origin:
        config = configuration(origin, tls={"ca": ca})
        with penstock.Proxy(config) as proxy:
            get(proxy)
            proxy.apply({**config, "routes": [{"name": "again", "upstream": "app"}]})
            get(proxy)
            assert len(origin.sessions) == 1
            changed = configuration(origin, tls={"ca": ca, "name": "app.internal"})
            proxy.apply({**changed, "listeners": config["listeners"]})
            assert get(proxy) == (200, b"ok")
            assert origin.names == [None, "app.internal"]
            in_clear = {**config["upstreams"]["app"], "tls": False}
            proxy.apply({**config, "upstreams": {"app": in_clear}})
            assert get(proxy)[0] == 502


def test_files_that_are_replaced_are_used_without_a_reload(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    own = write(tmp_path, "own", "old.internal")
    with SecuredOrigin(leaf, **ASK) as origin, in_front_of(origin, tls={"ca": ca, **own}) as proxy:
        get(proxy)
        write(tmp_path, "own", "new.internal")

        def shown() -> bool:
            assert get(proxy) == (200, b"ok")
            return origin.clients[-1] == "new.internal"

        wait_for(shown, "the new certificate is shown")
        # Nobody is believed any more whom the file does not name, connections that are open included.
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        (tmp_path / "other.pem").rename(ca)
        wait_for(lambda: get(proxy)[0] == 502, "the new authority is the one that counts")


def test_a_file_that_breaks_changes_nothing(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    config = tmp_path / "penstock.json"
    with SecuredOrigin(leaf) as origin:
        config.write_text(json.dumps(configuration(origin, tls={"ca": ca})), "utf-8")
        with serving(config) as running:
            assert running.get("/") == (200, "ok")
            Path(ca).write_text("no certificate", "ascii")
            said = (
                "ca.pem holds no certificate; a PEM file has -----BEGIN CERTIFICATE-----; endpoints are still spoken to"
            )
            wait_for(lambda: any(said in message for message in running.messages()), "it is warned of")
            assert running.command("reload").returncode == 2
            origin.hang_up()
            assert running.get("/") == (200, "ok")


def check(folder: Path, **tls: Any) -> str:
    """What `penstock check` says of an upstream with this TLS, on standard error."""
    path = folder / "penstock.json"
    path.write_text(json.dumps(configuration("127.0.0.1:1", tls=tls)), "utf-8")
    done = run("check", "-c", str(path))
    assert done.returncode == (2 if "refused" in done.stderr else 0)
    return done.stderr


@pytest.mark.safety(141)
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "there is no such file"),
        ("", "is empty"),
        ("no PEM", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "is no X.509 certificate"),
    ],
)
def test_an_authority_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content, "ascii")
    said = check(tmp_path, ca=str(tmp_path / "ca.pem"))
    assert "upstreams.app.tls.ca: " in said
    assert says in said


@pytest.mark.safety(141, 144)
def test_a_certificate_of_ours_that_cannot_be_used_is_refused(ca: str, tmp_path: Path) -> None:
    own, other = write(tmp_path, "own", "proxy.internal"), write(tmp_path, "other", "proxy.internal")
    assert check(tmp_path, ca=ca, **own) == ""
    said = check(tmp_path, ca=ca, cert=own["cert"], key=other["key"])
    assert "upstreams.app.tls.key: " in said
    assert "is not the key of the certificate" in said
    Path(own["key"]).chmod(0o644)
    assert "every user of this machine can read" in check(tmp_path, ca=ca, **own)
    assert check(tmp_path, ca=ca, **own, readable_key=True) == ""
