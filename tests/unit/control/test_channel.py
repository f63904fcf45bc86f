from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock.control import channel
from penstock.control.channel import ControlSocket, ask, default_path
from penstock.errors import ControlError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    if request.get("command") == "refuse":
        raise ControlError("not now")
    if request.get("command") == "break":
        raise RuntimeError("a fault of ours")
    return {"heard": request.get("command")}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "private" / "control.sock"


@pytest.fixture
def listening(place: Path) -> Iterator[ControlSocket]:
    opened = ControlSocket(place, answer)
    opened.start()
    yield opened
    opened.close()


def raw(place: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(place))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            return file.read()


@pytest.mark.usefixtures("listening")
def test_one_line_in_one_line_out(place: Path) -> None:
    assert ask(place, {"command": "status"}) == {"heard": "status"}
    assert raw(place, b'{"command":"x"}\n') == b'{"heard": "x"}\n'


@pytest.mark.usefixtures("listening")
def test_only_the_owner_may_open_it(place: Path) -> None:
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


@pytest.mark.usefixtures("listening")
def test_what_is_raised_becomes_the_answer(place: Path) -> None:
    assert ask(place, {"command": "refuse"}) == {"error": "not now"}
    assert "process log" in ask(place, {"command": "break"})["error"]


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"\xff\n", b"\n"])
@pytest.mark.usefixtures("listening")
def test_what_is_no_command_is_said_so(place: Path, line: bytes) -> None:
    assert "one JSON object on one line" in json.loads(raw(place, line))["error"]


@pytest.mark.usefixtures("listening")
def test_half_a_line_gets_nothing(place: Path) -> None:
    assert raw(place, b'{"command":"x"}') == b""


def test_a_line_has_a_limit(place: Path, listening: ControlSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "LINE", 100)
    assert b"100 bytes" in raw(place, b"x" * 101)
    assert ask(listening.path, {"command": "x"}) == {"heard": "x"}


def test_a_client_that_says_nothing_is_dropped(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.05)
    opened = ControlSocket(place, answer)
    opened.start()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(10)
        silent.connect(str(place))
        assert silent.recv(1) == b""
    opened.close()


def trickle(connection: socket.socket) -> None:
    """Send one byte after the other until the other side has closed."""
    connection.settimeout(0.02)
    deadline = time.monotonic() + 5
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < deadline:
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                if connection.recv(1000) == b"":
                    return
        raise AssertionError("after 5 s it still listened")


def test_a_client_that_trickles_has_no_more_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "PATIENCE", 0.2)
    opened = ControlSocket(place, answer)
    opened.start()
    with socket.socket(socket.AF_UNIX) as slow:
        slow.connect(str(place))
        trickle(slow)
    opened.close()


def test_a_process_that_trickles_has_no_more_time(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            try:
                trickle(connection)
            except AssertionError as error:
                failed.append(error)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "slow.sock"))
        listening.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(ControlError, match="does not answer: timed out"):
            ask(tmp_path / "slow.sock", {"command": "x"}, 0.2)
        serving.join()
    assert failed == []


@pytest.mark.usefixtures("listening")
def test_a_second_process_is_told(place: Path) -> None:
    with pytest.raises(ControlError, match="another penstock runs this configuration"):
        ControlSocket(place, answer)
    assert ask(place, {"command": "x"}) == {"heard": "x"}


def test_a_stale_socket_is_replaced(place: Path) -> None:
    place.parent.mkdir(0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(place))
    opened = ControlSocket(place, answer)
    opened.start()
    assert ask(place, {"command": "x"}) == {"heard": "x"}
    opened.close()


def test_something_that_is_no_socket_is_left_alone(place: Path) -> None:
    place.parent.mkdir(0o700)
    place.write_text("precious")
    with pytest.raises(ControlError, match="not a socket"):
        ControlSocket(place, answer)
    assert place.read_text() == "precious"


def test_a_folder_open_to_others_is_refused(place: Path) -> None:
    place.parent.mkdir()
    place.parent.chmod(0o777)
    with pytest.raises(ControlError, match="not private"):
        ControlSocket(place, answer)


def test_a_folder_that_is_a_link_is_the_folder_it_leads_to(place: Path, tmp_path: Path) -> None:
    place.parent.mkdir(0o700)
    (tmp_path / "link").symlink_to(place.parent)
    opened = ControlSocket(tmp_path / "link" / "control.sock", answer)
    opened.start()
    assert ask(place, {"command": "x"}) == {"heard": "x"}
    opened.close()
    place.parent.chmod(0o777)
    with pytest.raises(ControlError, match="not private"):
        ControlSocket(tmp_path / "link" / "control.sock", answer)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a link of another user")
def test_a_link_of_another_user_is_refused(place: Path, tmp_path: Path) -> None:
    place.parent.mkdir(0o700)
    (tmp_path / "link").symlink_to(place.parent)
    os.chown(tmp_path / "link", 65534, 65534, follow_symlinks=False)
    with pytest.raises(ControlError, match="is a link of another user"):
        ControlSocket(tmp_path / "link" / "control.sock", answer)


def test_closing_leaves_nothing(place: Path) -> None:
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    opened = ControlSocket(place, answer)
    opened.start()
    ask(place, {"command": "x"})
    opened.close()
    assert not place.exists()
    # What earlier tests left to be collected may go meanwhile; nothing may come.
    assert set(os.listdir("/proc/self/fd")) <= before[0]
    assert threading.active_count() <= before[1]


def test_nobody_there_is_said_plainly(place: Path) -> None:
    with pytest.raises(ControlError, match="no penstock listens"):
        ask(place, {"command": "status"})


def test_the_same_file_has_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert default_path(Path("penstock.toml")) == default_path(tmp_path / "x" / ".." / "penstock.toml")
    assert default_path(Path("penstock.toml")) != default_path(Path("other.toml"))
    assert default_path(Path("penstock.toml")).parent == tmp_path / "penstock"
