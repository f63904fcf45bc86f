from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from penstock.admin import AdminListener
from penstock.control.source import FileSource
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from penstock.control.controller import Controller
    from penstock.engine.fake import FakeEngine


@pytest.fixture
def admin(controller: Controller) -> Iterator[AdminListener]:
    listener = AdminListener(controller, "1.0")
    controller.add(listener)
    yield listener
    listener.close()


def bind(config: Path, address: str) -> None:
    text = config.read_text("utf-8").partition("[admin]")[0]
    config.write_text(text + f'[admin]\nbind = "{address}"\n', "utf-8")


def get(address: str | None, path: str, **headers: str) -> tuple[int, str]:
    assert address is not None
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_the_paths(admin: AdminListener, controller: Controller, config: Path) -> None:
    bind(config, "127.0.0.1:0")
    controller.reload()
    assert get(admin.address, "/healthz") == (200, "ok\n")
    assert get(admin.address, "/readyz") == (200, "ready\n")
    assert "penstock_plan_version 1" in get(admin.address, "/metrics")[1]
    assert json.loads(get(admin.address, "/status")[1])["version"] == "1.0"
    assert get(admin.address, "/other")[0] == 404
    assert get(admin.address, "/healthz", Host="evil.example")[0] == 403
    assert get(admin.address, "/other", Host="evil.example")[0] == 403


def test_not_ready_while_draining(admin: AdminListener, controller: Controller, config: Path) -> None:
    bind(config, "127.0.0.1:0")
    controller.reload()
    controller.drain(1.0)
    assert get(admin.address, "/readyz") == (503, "draining\n")
    assert get(admin.address, "/healthz")[0] == 200


def test_no_client_of_a_forward_proxy_is_taken_there(
    admin: AdminListener, controller: Controller, engine: FakeEngine, config: Path, tmp_path: Path
) -> None:
    bind(config, "127.0.0.1:0")
    controller.reload()
    assert engine.withheld == [admin.address]
    first = admin.address
    engine.faults = {"upstreams[0]": "no"}
    bind(config, "127.0.0.2:0")
    with pytest.raises(ConfigError):
        controller.reload()
    assert engine.withheld == [first], "what was opened for a change that was refused is closed again"
    controller.reload()
    assert engine.withheld == [admin.address] != [first]
    bind(config, f"unix:{tmp_path}/admin.sock")
    controller.reload()
    assert engine.withheld == []


def test_an_address_in_use_refuses_the_configuration(
    admin: AdminListener, controller: Controller, config: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind(config, f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match=r"16: admin\.bind: cannot listen on .*: Address already in use"):
            controller.reload()
    assert admin.address is None


def test_a_reload_moves_it_or_leaves_it(admin: AdminListener, controller: Controller, config: Path) -> None:
    bind(config, "127.0.0.1:0")
    controller.reload()
    first = admin.address
    controller.reload()
    assert admin.address == first
    bind(config, "127.0.0.2:0")
    controller.reload()
    assert admin.address != first
    assert get(admin.address, "/healthz")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        get(first, "/healthz")


def test_a_refused_change_leaves_it(admin: AdminListener, controller: Controller, config: Path) -> None:
    bind(config, "127.0.0.1:0")
    controller.reload()
    first = admin.address
    bind(config, "127.0.0.2:0")
    config.write_text(config.read_text("utf-8") + "[nonsense]\n", "utf-8")
    with pytest.raises(ConfigError):
        controller.reload()
    assert admin.address == first
    assert get(first, "/healthz")[0] == 200


def test_a_unix_socket_is_private_and_goes(
    admin: AdminListener, controller: Controller, config: Path, tmp_path: Path
) -> None:
    bind(config, "unix:admin.sock")
    controller.reload()
    path = tmp_path / "admin.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            assert b"200 OK" in answer.read()
    admin.close()
    assert not path.exists()


def test_one_place_under_two_spellings_is_one(
    admin: AdminListener, controller: Controller, config: Path, tmp_path: Path
) -> None:
    bind(config, "unix:admin.sock")
    controller.reload()
    inode = (tmp_path / "admin.sock").stat().st_ino
    for same in ("unix:./admin.sock", f"unix:{tmp_path}/admin.sock"):
        bind(config, same)
        controller.reload()
        assert (tmp_path / "admin.sock").stat().st_ino == inode
    other = tmp_path / "other"
    other.mkdir()
    moved = other / "penstock.toml"
    moved.write_text(config.read_text("utf-8").replace(same, "unix:admin.sock"), "utf-8")
    controller.reload(FileSource(moved))
    assert admin.address == f"unix:{other / 'admin.sock'}"
    assert not (tmp_path / "admin.sock").exists()


def test_a_socket_that_took_its_place_stays(
    admin: AdminListener, controller: Controller, config: Path, tmp_path: Path
) -> None:
    bind(config, "unix:admin.sock")
    controller.reload()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other.sock"))
        (tmp_path / "other.sock").rename(tmp_path / "admin.sock")
        admin.close()
        assert (tmp_path / "admin.sock").exists()


def test_a_server_that_cannot_be_built_refuses_the_configuration(
    admin: AdminListener, controller: Controller, engine: FakeEngine, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ImportError("no such server")

    bind(config, "unix:admin.sock")
    monkeypatch.setattr("penstock.admin.app.build_app", broken)
    with pytest.raises(ImportError):
        controller.reload()
    assert engine.plans == []
    assert not config.with_name("admin.sock").exists()


def test_while_it_stops_it_says_so(
    admin: AdminListener, controller: Controller, engine: FakeEngine, config: Path
) -> None:
    bind(config, "127.0.0.1:0")
    controller.reload()
    engine.stats_rows = {"version": "none"}
    controller.stop()
    assert get(admin.address, "/status") == (503, "stopped\n")


def test_closing_leaves_nothing(admin: AdminListener, controller: Controller, config: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    bind(config, "127.0.0.1:0")
    controller.reload()
    get(admin.address, "/status")
    admin.close()
    # What earlier tests left to be collected may go meanwhile; nothing may come.
    assert set(os.listdir("/proc/self/fd")) <= before
    assert not [thread for thread in threading.enumerate() if thread.name == "penstock-admin"]
