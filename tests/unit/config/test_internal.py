"""`tls = "internal"`: where its files are, and whom its certificate is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.config import Config
from penstock.config.internal import internal_names, internal_tls, is_internal, state_folder

ALWAYS = ["localhost", "127.0.0.1", "::1"]


def config(*matches: str) -> Config:
    routes = [{"match": match, "respond": {}} for match in matches]
    return Config.model_validate({"listeners": {"web": {"bind": ":8080", "tls": "internal"}}, "routes": routes})


@pytest.mark.parametrize(
    ("match", "hosts"),
    [
        ('host == "Shop.test"', ["shop.test"]),
        ('path == "/" and (host in ["a.test", "b.test"] or sni == "c.test")', ["a.test", "b.test", "c.test"]),
        ('not host == "a.test"', []),
        ('host != "a.test"', []),
        ('path == "/a.test" or header["Host"] == "b.test"', []),
        ('host == "not a host"', []),
        ('host == "localhost"', []),
        ('host == "10.0.0.1"', ["10.0.0.1"]),
    ],
)
def test_hosts_of_routes_have_a_certificate(match: str, hosts: list[str]) -> None:
    assert internal_names(config(match)) == [*ALWAYS, *hosts]


def test_other_hosts_are_another_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert is_internal(config().listeners["web"].tls)
    made, files = internal_tls(config())
    assert made == {"folder": str(tmp_path / "internal"), "names": ALWAYS}
    assert Path(files["cert"]).parent == tmp_path / "internal"
    assert files["cert"].removesuffix(".pem") == files["key"].removesuffix(".key")
    assert internal_tls(config('host == "a.test"'))[1] != files
    assert internal_tls(config())[1] == files


def test_where_state_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert state_folder() == Path("/var/lib/one/internal")
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert state_folder() == Path("/var/lib/penstock/internal")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/a/state")
    assert state_folder() == Path("/home/a/state/penstock/internal")
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/a")
    assert state_folder() == Path("/home/a/.local/state/penstock/internal")
