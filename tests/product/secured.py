"""Origins that speak TLS, as they are met: well, badly, and with certificates that are good for nothing."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

import trustme
from tests.certificates import authority

import penstock
from product import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class SecuredOrigin:
    """Answers each request with `reply`, and keeps what it learned of each handshake.

    `talk` takes the place of that conversation."""

    def __init__(
        self,
        certificate: dict[str, Any],
        *,
        reply: bytes = REPLY,
        path: str | None = None,
        protocols: tuple[str, ...] = ("h2", "http/1.1"),
        talk: Callable[[ssl.SSLSocket], None] | None = None,
        **options: Any,
    ) -> None:
        self.reply, self._talk = reply, talk or self._converse
        self.names: list[str | None] = []
        self.sessions: list[bool] = []
        self.clients: list[str | None] = []
        self.requests: list[bytes] = []
        self.errors: list[str] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate["cert"], certificate["key"])
        for name, value in options.items():
            setattr(self.context, name, value)
        self.context.set_alpn_protocols(protocols)
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        if self.context.verify_mode != ssl.CERT_NONE:
            authority().configure_trust(self.context)
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.port = self._listener.getsockname()[1]
            self.address = f"127.0.0.1:{self.port}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen()
            self.address = f"unix:{path}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def hang_up(self) -> None:
        """End all connections.

        Each is closed by its own thread: one that still reads would read from whoever has the descriptor next."""
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(DEADLINE)
        try:
            sock = self.context.wrap_socket(raw, server_side=True)
        except OSError as error:
            self.errors.append(str(error))
            raw.close()
            return
        self._open.append(sock)
        self.sessions.append(bool(sock.session_reused))
        found = sock.getpeercert()
        self.clients.append(str(found["subjectAltName"][0][1]) if found else None)
        with sock, suppress(OSError):
            self._talk(sock)

    def _converse(self, sock: ssl.SSLSocket) -> None:
        while head := self.read_head(sock):
            self.requests.append(head)
            sock.sendall(self.reply)

    @staticmethod
    def read_head(sock: ssl.SSLSocket) -> bytes:
        """The next request's head; nothing at the end."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (more := sock.recv(1)):
                return b""
            head += more
        return head


class PlainOrigin(threading.Thread):
    """Says `said` to each connection, before or behind the first bytes that it hears, and ends it; or stays silent."""

    def __init__(self, said: bytes, *, first: bool = False, silent: bool = False) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listener.getsockname())
        self.heard: list[bytes] = []
        self._said, self._first, self._silent = said, first, silent
        self._open: list[socket.socket] = []
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.shutdown(socket.SHUT_RDWR)
        self.join(DEADLINE)
        self._listener.close()
        for sock in self._open:
            sock.close()

    def run(self) -> None:
        """Serve one connection after the other."""
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._open.append(sock)
                with suppress(OSError):
                    if self._first:
                        sock.sendall(self._said)
                    self.heard.append(sock.recv(65_536))
                    if self._silent:
                        continue
                    if not self._first:
                        sock.sendall(self._said)
                    sock.shutdown(socket.SHUT_WR)
                    # What still comes is read, so that the end is no reset.
                    sock.settimeout(DEADLINE)
                    while sock.recv(65_536):
                        pass
                sock.close()


def configuration(*origins: Any, tls: Any, log: Path | None = None, **upstream: Any) -> dict[str, Any]:
    """One route to these origins or addresses, with TLS; a log tells of each request in JSON."""
    endpoints = [origin if isinstance(origin, str) else origin.address for origin in origins]
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "upstreams": {"app": {"endpoints": endpoints, "tls": tls, **upstream}},
        "routes": [{"upstream": "app"}],
        "engine": {"workers": 1},
        **({"log": {"access": {"to": str(log), "format": "json"}}} if log else {}),
    }


@contextmanager
def in_front_of(*origins: Any, tls: Any, **upstream: Any) -> Iterator[penstock.Proxy]:
    """A proxy in front of these origins or addresses."""
    with penstock.Proxy(configuration(*origins, tls=tls, **upstream)) as proxy:
        yield proxy


def get(proxy: penstock.Proxy, path: str = "/", method: str = "GET") -> tuple[int, bytes]:
    """One request over a connection of its own: status and body."""
    connection = http.client.HTTPConnection(*proxy.address(), timeout=DEADLINE)
    connection.request(method, path)
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def unknown(folder: Path) -> dict[str, Any]:
    """A certificate of an authority that nobody knows."""
    trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "bad.pem")
    return {"cert": str(folder / "bad.pem"), "key": str(folder / "bad.pem")}
