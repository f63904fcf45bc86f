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
    import uvicorn

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
        self._place: str | None = None
        self._serving: _Serving | None = None

    @property
    def address(self) -> str | None:
        """Where it really listens (port 0 became a number), if it does."""
        return self._serving.address if self._serving else None

    def prepare(self, loaded: Loaded) -> AdminChange:
        """Open what `admin.bind` names, unless it is open. Raises `ConfigError`."""
        bind = loaded.config.admin.bind if loaded.config.admin else None
        if bind is None:
            return AdminChange(self, None, None)
        try:
            place = _place(bind, loaded.folder)
            if place == self._place:
                return AdminChange(self, place, None)
            opened = _Serving(self._controller, self._version, _open(place))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConfigError([loaded.fault("admin.bind", f"cannot listen on {bind}: {reason}")]) from None
        except ValueError as error:
            raise ConfigError([loaded.fault("admin.bind", str(error))]) from None
        # Before the data plane may serve clients that would go there.
        self.withhold(opened)
        return AdminChange(self, place, opened)

    def take(self, place: str | None, opened: _Serving | None) -> None:
        """Serve what was opened at `place`, and no longer at another."""
        if place == self._place:
            return
        if opened:
            opened.start()
        old, self._serving, self._place = self._serving, opened, place
        if old:
            old.close()
        self.withhold()

    def withhold(self, opened: _Serving | None = None) -> None:
        """Have no client of a forward proxy taken to where it listens, nor to what is opened for the next change."""
        addresses = [serving.address for serving in (self._serving, opened) if serving]
        self._controller.withhold([address for address in addresses if not address.startswith("unix:")])

    def close(self) -> None:
        """Listen no more."""
        self.take(None, None)


class AdminChange:
    """A server that is ready and does not answer yet."""

    name = "admin listener"

    def __init__(self, listener: AdminListener, place: str | None, opened: _Serving | None) -> None:
        """Keep it for `listener`."""
        self._listener = listener
        self._place = place
        self._opened = opened

    def commit(self) -> None:
        """Serve there."""
        self._listener.take(self._place, self._opened)

    def abort(self) -> None:
        """Close it again."""
        if self._opened:
            self._opened.close()
            self._listener.withhold()


class _Serving:
    """uvicorn on one socket, in a thread of its own."""

    def __init__(self, controller: Controller, version: str, opened: socket.socket) -> None:
        """Take the socket, which is closed if that fails."""
        name = opened.getsockname()
        self._path = Path(name) if isinstance(name, str) else None
        self._inode = self._path.stat().st_ino if self._path else None
        self._opened = opened
        self.address = f"unix:{name}" if self._path else _text(name)
        try:
            self._server = _server(controller, version)
        except BaseException:
            self._close_socket()
            raise
        self._thread = threading.Thread(target=self._server.run, args=([opened],), name="penstock-admin", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        try:
            self._thread.start()
        except BaseException:
            self._close_socket()
            raise

    def close(self) -> None:
        """Let the last answers go out, and close the socket."""
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)
        self._close_socket()

    def _close_socket(self) -> None:
        self._opened.close()
        # A file of another process that took the place must stay.
        with contextlib.suppress(OSError):
            if self._path and self._path.stat().st_ino == self._inode:
                self._path.unlink()


def _server(controller: Controller, version: str) -> uvicorn.Server:
    # A fifth of all that the process imports.
    import uvicorn  # noqa: PLC0415

    from penstock.admin.app import build_app  # noqa: PLC0415

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
    return uvicorn.Server(settings)


def _place(bind: str, folder: Path) -> str:
    """The one text for a place, however it is written. Raises `ValueError` for what is none."""
    if bind.startswith("unix:"):
        path = folder / bind.removeprefix("unix:")
        return f"unix:{path.parent.resolve() / path.name}"
    host, _, port = bind.rpartition(":")
    try:
        return _text((str(ipaddress.ip_address(host.strip("[]"))), int(port)))
    except ValueError:
        raise ValueError(f'{bind!r} is not an address such as "127.0.0.1:9901"') from None


def _open(place: str) -> socket.socket:
    """Raises `OSError`, or `ValueError` for what must not be opened."""
    if place.startswith("unix:"):
        return _open_unix(Path(place.removeprefix("unix:")))
    return _open_tcp(place)


def _open_tcp(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    address, number = ipaddress.ip_address(host.strip("[]")), int(port)
    if not address.is_loopback:
        raise ValueError(
            f"{place} is open to other computers: the admin listener takes a loopback address or a unix socket"
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
