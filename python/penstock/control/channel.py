"""The control socket: one JSON line in, one JSON line out, over a unix socket that only its owner can open.

A thread accepts and one short-lived thread serves each connection, at most `CONNECTIONS` at a time; a line is limited
in size, and a client that sends or reads too slowly is dropped. The socket's mode is 0600 and the peer's user is
checked as well, because a directory chosen with `--control` may be open to others.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import socket
import stat
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ControlError, PenstockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LINE = 1024 * 1024
"""Bytes of a request. An answer may be longer: a plan of 10 000 routes is."""
CONNECTIONS = 16
PATIENCE = 5.0
"""Seconds for a client to send its line, and to take the answer."""


log = logging.getLogger("penstock.control")


def default_path(config: Path) -> Path:
    """Where the process that runs this configuration file listens for commands.

    The same file gives the same path, from whatever folder it is named: `$XDG_RUNTIME_DIR/penstock/NAME-HASH.sock`, or
    `penstock-UID` in the temporary folder where the system gives no runtime folder.
    """
    full = config.resolve()
    short = hashlib.sha256(os.fsencode(full)).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime) / "penstock" if runtime else Path(tempfile.gettempdir()) / f"penstock-{os.getuid()}"
    return folder / f"{full.stem[:32]}-{short}.sock"


def ask(path: Path, request: Mapping[str, Any], patience: float = 30.0) -> dict[str, Any]:
    """Send one command to the process behind `path` and return its answer, waiting up to `patience` seconds.

    Raises `ControlError` if no process listens there, if it does not answer, or with what it answers as an error.
    """
    deadline = time.monotonic() + patience
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience)
        try:
            connection.connect(str(path))
            connection.settimeout(_left(deadline))
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _line(connection, deadline, sys.maxsize)
        except (FileNotFoundError, ConnectionRefusedError):
            raise ControlError(f"no penstock listens on {path}: is it running with this configuration?") from None
        except OSError as error:
            raise ControlError(f"the control socket {path} does not answer: {error}") from None
    if line is None:
        raise ControlError(f"the process behind {path} closed the connection without an answer")
    answer: dict[str, Any] = json.loads(line)
    return answer


def bind_private(listening: socket.socket, path: Path) -> None:
    """Bind a unix socket with mode 0600. Raises `OSError`."""
    # Linux gives the socket file the mode of the descriptor, so it is never open to others, not for a moment;
    # elsewhere the second call has to do. The umask would do as well, but it belongs to the whole process, log files
    # included.
    os.fchmod(listening.fileno(), 0o600)
    listening.bind(str(path))
    path.chmod(0o600)


class ControlSocket:
    """Listens for commands and answers each with what `answer` returns; a `PenstockError` it raises becomes the
    answer."""

    def __init__(self, path: Path, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Open the socket. Raises `ControlError` if another process listens there, or if it cannot be made."""
        self.path = path
        self._answer = answer
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._closing = threading.Event()
        self._serving: set[threading.Thread] = set()
        _make_folder(path.parent)
        self._socket = _listen(path)
        self._inode = path.stat().st_ino
        self._thread = threading.Thread(target=self._accept, name="penstock-commands", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Accept nothing more, let running answers go out, and remove the socket."""
        self._closing.set()
        # A file of another process that took the place must stay.
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        for thread in list(self._serving):
            thread.join(PATIENCE)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError as error:
                if self._closing.is_set():
                    return
                log.warning("control socket: %s", error)
                self._closing.wait(0.1)  # out of file descriptors: do not spin
                continue
            if not self._places.acquire(blocking=False):
                connection.close()
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="penstock-commands", daemon=True)
            self._serving.add(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                if not _is_ours(connection):
                    return
                line = _line(connection, time.monotonic() + PATIENCE, LINE)
                if line is None:
                    return
                long = {"error": f"a command may have {LINE} bytes"}
                answer = long if len(line) > LINE else self._answer_to(line)
                connection.settimeout(PATIENCE)  # of all that is sent
                connection.sendall(json.dumps(answer, default=str).encode() + b"\n")
        except OSError as error:
            log.debug("control socket: a client went away: %s", error)
        finally:
            self._serving.discard(threading.current_thread())
            self._places.release()

    def _answer_to(self, line: bytes) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                return {"error": "a command is one JSON object on one line"}
            return self._answer(request)
        except ValueError:
            return {"error": "a command is one JSON object on one line"}
        except PenstockError as error:
            return {"error": str(error)}
        except Exception:
            # A fault of ours must neither end the thread silently nor leave the client waiting.
            log.exception("control socket: a command failed")
            return {"error": "the command failed: see the process log"}


def _line(connection: socket.socket, deadline: float, most: int) -> bytes | None:
    """A line, or the beginning of one that has more than `most` bytes; `None` for one that ends too early. Raises
    `TimeoutError` at the deadline, however much has come by then."""
    found = bytearray()
    while not found.endswith(b"\n") and len(found) <= most:
        connection.settimeout(_left(deadline))
        piece = connection.recv(65536)
        if not piece:
            return None
        found += piece
    return bytes(found)


def _left(deadline: float) -> float:
    """Seconds until then. Raises `TimeoutError` if there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _is_ours(connection: socket.socket) -> bool:
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the mode of the socket is what protects it there
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", packed)
    return user in (0, os.getuid())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        link = folder.lstat()
        found = folder.stat()
    except OSError as error:
        raise ControlError(f"cannot make the folder of the control socket: {error}") from None
    # In a folder that others own or can write to, anyone could put a socket in our place (sticky folders apart).
    loose = stat.S_IMODE(found.st_mode) & 0o022 and not found.st_mode & stat.S_ISVTX
    # Whoever owns a link can let it point elsewhere.
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.getuid()):
        raise ControlError(f"the folder of the control socket, {folder}, is a link of another user")
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (0, os.getuid()) or loose:
        raise ControlError(
            f"the folder of the control socket, {folder}, is not private: "
            "its owner must be this user, and its mode 0700"
        )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    # Two processes that start at once must not both find the socket stale; the lock ends with the descriptor and
    # leaves no file.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone(path.parent):
            if _is_live(path):
                raise ControlError(f"another penstock runs this configuration: it listens on {path}")
            path.unlink(missing_ok=True)
            bind_private(listening, path)
            listening.listen(CONNECTIONS)
    except OSError as error:
        listening.close()
        raise ControlError(f"cannot open the control socket {path}: {error}") from None
    except ControlError:
        listening.close()
        raise
    return listening


def _is_live(path: Path) -> bool:
    """Whether a process listens there. Raises `ControlError` for something there that is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlError(f"{path} is not a socket: remove it, or choose another --control path")
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True  # full or slow, but there
    return True
