"""Small HTTP servers to put Penstock in front of: each says who it is and what it was asked."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHOWN = ("host", "x-demo", "x-team", "x-forwarded-for")
"""Request fields that an origin repeats in its answer."""


class Origin:
    """One HTTP/1.1 server on a loopback port of its own, answering until `stop`."""

    def __init__(self, name: str) -> None:
        """Listen."""
        self.name = name
        self._server = _Server(name)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name=f"origin-{name}", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """What an endpoint of the configuration says."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Close the port and every connection, as a crashed server would. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Answer)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was cut is not worth a traceback on the terminal."""

    def cut(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one piece
    server: _Server

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        fields = {name: self.headers[name] for name in SHOWN if name in self.headers}
        asked = {"origin": self.server.name, "method": self.command, "target": self.path, "headers": fields}
        body = json.dumps(asked).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Origin", self.server.name)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the tour says what is worth saying."""
