"""The product as its users have it: the command in a process of its own, real sockets, real signals."""

from __future__ import annotations

import importlib.util
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import authority, write

from product import DEADLINE, Origin, Running, command, read_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True, scope="session")
def _built() -> None:
    if importlib.util.find_spec("penstock._native") is None:
        pytest.skip("penstock._native is not built: make build")


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], None]:
    """Wait until a condition holds."""

    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.01)  # noqa: TID251 - the pause between two looks at a condition with a deadline

    return wait


@pytest.fixture
def origin() -> Iterator[Origin]:
    server = Origin("origin")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def config(tmp_path: Path, origin: Origin) -> Path:
    """A configuration in front of `origin`."""
    path = tmp_path / "penstock.toml"
    path.write_text(
        f"""\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{origin.address}"]
[[routes]]
name = "hello"
match = 'path == "/hello"'
respond = {{ body = "one" }}
[[routes]]
name = "app"
upstream = "app"
[engine]
workers = 2
[admin]
bind = "127.0.0.1:0"
[log.access]
to = "access.log"
""",
        "utf-8",
    )
    return path


@pytest.fixture
def start(
    tmp_path: Path, config: Path, eventually: Callable[[Callable[[], Any]], None]
) -> Iterator[Callable[..., Running]]:
    """Start `penstock run` on `config`; whatever still runs at the end of the test is stopped."""
    started: list[tuple[Running, threading.Thread]] = []

    def begin(*words: str) -> Running:
        control = tmp_path / "run" / "control.sock"
        words = ("run", "-c", str(config), "--control", str(control), "--log", "json", *words)
        process = subprocess.Popen([*command(), *words], stderr=subprocess.PIPE, text=True)
        running = Running(process, control, config)
        assert process.stderr is not None
        reading = threading.Thread(target=read_log, args=(process.stderr, running.lines), daemon=True)
        reading.start()
        started.append((running, reading))
        eventually(lambda: "taking commands" in running.messages() or process.poll() is not None)
        assert process.poll() is None, running.lines
        return running

    yield begin
    for running, reading in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        reading.join()
        if running.process.stderr:
            running.process.stderr.close()


@pytest.fixture
def busy() -> Iterator[Origin]:
    """An endpoint whose `/slow` waits until it is released."""
    origin = Origin("a")
    threading.Thread(target=origin.serve_forever, args=(0.02,), daemon=True).start()
    yield origin
    origin.release.set()
    origin.shutdown()
    origin.server_close()


@pytest.fixture
def ca(tmp_path: Path) -> str:
    """File of the authority that tests trust."""
    path = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def leaf(tmp_path: Path) -> dict[str, Any]:
    """A certificate for an origin: by its address and by a name."""
    return write(tmp_path, "origin", "127.0.0.1", "app.internal")
