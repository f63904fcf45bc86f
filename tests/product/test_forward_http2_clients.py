"""Real clients of a forward proxy that speaks TLS: `curl` in either version, a browser."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from intercepting import asking, shop
from test_browser import BROWSER, NAME, OBJECTS, Site, browsing, published, trust
from tests.certificates import authority, write
from tests.product.forwarding import config
from tests.product.users import users
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROXY = "proxy.example"
HTTPS, HTTPS2 = 2, 3
"""How curl speaks to a proxy: TLS with HTTP/1.1, and with HTTP/2 if that has it (`--proxy-http2`)."""


@contextmanager
def secured(folder: Path, **listener: Any) -> Iterator[penstock.Proxy]:
    """One that speaks TLS, whose names are all on this machine."""
    shown = write(folder / "keys", "proxy", PROXY, "127.0.0.1")
    made = config(**{"connect_ports": ["1024-65535"], "tls": {"certificates": [shown]}, **listener})
    made["log"] = {"access": {"to": str(folder / "access.log"), "format": "json"}}
    authority().cert_pem.write_to_path(folder / "roots.pem")
    with NameServer("127.0.0.1") as names, penstock.Proxy(asking(names, made)) as proxy:
        yield proxy


def records(folder: Path, count: int) -> list[dict[str, Any]]:
    """That many lines of the access log."""
    path = folder / "access.log"
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= count, f"{count} records")
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, secured(tmp_path, users=users(tmp_path)) as proxy:
        roots = str(tmp_path / "roots.pem")
        command = ["curl", "--silent", "--show-error", "--cacert", roots, "--proxy-cacert", roots]
        command += ["-x", "https://127.0.0.1:{}".format(proxy.address("out")[1]), "--proxy-user", "ada:password"]
        place = f"https://{NAME}:{origin.port}/x"
        run = subprocess.run([*command, place, place], capture_output=True, text=True, timeout=60, check=False)
        assert (run.stdout, run.returncode) == ("okok", 0), run.stderr
        row = records(tmp_path, 1)[0]
        assert (row["method"], row["version"], row["user"]) == ("CONNECT", "1.1", "ada")


def test_curl_with_http_2(tmp_path: Path) -> None:
    pycurl: Any = pytest.importorskip("pycurl", reason="curl 8 is not installed")
    with shop(tmp_path) as origin, secured(tmp_path, users=users(tmp_path)) as proxy:
        for kind, version in ((HTTPS, "1.1"), (HTTPS2, "2.0")):
            curl = pycurl.Curl()
            said: dict[int, Any] = {
                pycurl.PROXY: "https://127.0.0.1:{}".format(proxy.address("out")[1]),
                pycurl.PROXYTYPE: kind,
                pycurl.PROXYUSERPWD: "ada:password",
                pycurl.PROXY_CAINFO: str(tmp_path / "roots.pem"),
                pycurl.CAINFO: str(tmp_path / "roots.pem"),
                pycurl.TIMEOUT: 20,
            }
            for option, value in said.items():
                curl.setopt(option, value)
            for _ in range(2):
                got = io.BytesIO()
                curl.setopt(pycurl.WRITEDATA, got)
                curl.setopt(pycurl.URL, f"https://{NAME}:{origin.port}/x")
                curl.perform()
                assert (got.getvalue(), curl.getinfo(pycurl.RESPONSE_CODE)) == (b"ok", 200)
            curl.close()
            row = records(tmp_path, kind - 1)[-1]
            assert (row["method"], row["user"], row["status"], row["version"]) == ("CONNECT", "ada", 200, version)


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed (make debian)")
def test_a_browser(tmp_path: Path) -> None:
    certificate = write(tmp_path / "keys", "shop", NAME)
    with published(certificate) as origin, secured(tmp_path) as proxy:
        keys = [trust(tmp_path / "keys" / f"{name}.pem") for name in ("proxy", "shop")]
        root = ",".join([keys[0], keys[1].partition("=")[2]])
        way = f"--proxy-server=https://{PROXY}:{proxy.address('out')[1]}"
        place = f"{NAME}:{origin.address('web')[1]}"
        with browsing(
            f"https://{place}/", tmp_path / "profile", root, way, f"--host-resolver-rules=MAP {PROXY} 127.0.0.1"
        ):
            report = Site.reports.get(timeout=60)
        assert (report["objects"], report["echoed"]) == (OBJECTS, "from a browser")
        log = tmp_path / "access.log"
        wait_for(lambda: log.exists() and f'"{place}"' in log.read_text(), "its tunnels have ended")
        tunnels = [row for row in records(tmp_path, 1) if row.get("target") == place]
        assert {(row["method"], row["version"], row["status"]) for row in tunnels} == {("CONNECT", "2.0", 200)}
