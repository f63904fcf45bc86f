"""The admin listener's socket and thread, following the configuration.

A change of `admin.bind` opens the new socket before the data plane is asked to change (so that an address in use
refuses the whole configuration) and closes the old one after.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.control.channel import bind_private
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from penstock.config import Loaded
    from penstock.control.controller import Controller

CONNECTIONS = 64
PATIENCE = 2.0
"""Seconds for the last answers when the listener closes."""


class AdminListener:
    """The companion of the controller that serves what `admin` says."""

    def __init__(self, controller: Controller, version: str) -> None:
        """Listen nowhere yet."""
        self._controller = controller
        self._version = version
        self._bind: str | None = None
        self._serving: _Serving | None = None

    @property
    def address(self) -> str | None:
        """Where it really listens (port 0 became a number), if it does."""
        return self._serving.address if self._serving else None

    def prepare(self, loaded: Loaded) -> AdminChange:
        """Open what `admin.bind` names, unless it is open. Raises `ConfigError`."""
        bind = loaded.config.admin.bind if loaded.config.admin else None
        if bind is None or bind == self._bind:
            return AdminChange(self, bind, None)
        try:
            return AdminChange(self, bind, _open(bind, loaded.folder))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError([loaded.fault("admin.bind", f"cannot listen on {bind}: {reason}")]) from None
        except ValueError as error:
            raise ConfigError([loaded.fault("admin.bind", str(error))]) from None

    def take(self, bind: str | None, opened: socket.socket | None) -> None:
        """Serve on the socket that was opened for `bind`, and no longer on another."""
        if bind == self._bind:
            return
        old, self._serving = self._serving, _Serving(self._controller, self._version, opened) if opened else None
        self._bind = bind
        if old:
            old.close()

    def close(self) -> None:
        """Listen no more."""
        self.take(None, None)


class AdminChange:
    """A socket that is open and not served yet."""

    name = "admin listener"

    def __init__(self, listener: AdminListener, bind: str | None, opened: socket.socket | None) -> None:
        """Keep it for `listener`."""
        self._listener = listener
        self._bind = bind
        self._opened = opened

    def commit(self) -> None:
        """Serve there."""
        self._listener.take(self._bind, self._opened)

    def abort(self) -> None:
        """Close it again."""
        if self._opened:
            name = self._opened.getsockname()
            self._opened.close()
            if isinstance(name, str):
                Path(name).unlink(missing_ok=True)


class _Serving:
    """uvicorn on one socket, in a thread of its own."""

    def __init__(self, controller: Controller, version: str, opened: socket.socket) -> None:
        # A fifth of all that the process imports. Where there is an admin listener, requests are served already.
        import uvicorn  # noqa: PLC0415

        from penstock.admin.app import build_app  # noqa: PLC0415

        name = opened.getsockname()
        self._path = Path(name) if isinstance(name, str) else None
        self.address = f"unix:{name}" if self._path else _text(name)
        self._opened = opened
        settings = uvicorn.Config(
            build_app(controller, version),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, args=([opened],), name="penstock-admin", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._opened.close()
        if self._path:
            self._path.unlink(missing_ok=True)


def _open(bind: str, folder: Path) -> socket.socket:
    """Raises `OSError`, or `ValueError` for what must not be opened."""
    if bind.startswith("unix:"):
        return _open_unix(folder / bind.removeprefix("unix:"))
    return _open_tcp(bind)


def _open_tcp(bind: str) -> socket.socket:
    host, _, port = bind.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        number = int(port)
    except ValueError:
        raise ValueError(f'{bind!r} is not an address such as "127.0.0.1:9901"') from None
    if not address.is_loopback:
        raise ValueError(
            f"{bind} is open to other computers: the admin listener takes a loopback address or a unix socket"
        )
    opened = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((str(address), number))
        opened.listen(CONNECTIONS)
    except BaseException:
        opened.close()
        raise
    return opened


def _open_unix(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ValueError(f"{path} is there and is not a socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise ValueError(f"another process listens on {path}")
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bind_private(opened, path)
        opened.listen(CONNECTIONS)
    except BaseException:
        opened.close()
        raise
    return opened


def _text(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
