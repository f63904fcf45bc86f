"""An endpoint that a test plays by hand, and a client as near to the bytes."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from product import DEADLINE

if TYPE_CHECKING:
    from contextlib import ExitStack

    import penstock


class Peer:
    """An endpoint that is told what to say; it speaks on the connection accepted last."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.settimeout(DEADLINE)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> socket.socket:
        connection, _ = self.listener.accept()
        connection.settimeout(DEADLINE)
        return connection

    def close(self) -> None:
        self.listener.close()


def config(peer: str, **listener: Any) -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", **listener}},
        "upstreams": {"app": {"endpoints": [peer]}},
        "routes": [
            {"name": "here", "match": 'path == "/here"', "respond": {"status": 204}},
            {"name": "app", "upstream": "app"},
        ],
        "engine": {"workers": 1},
    }


def dial(proxy: penstock.Proxy, receive: int | None = None) -> socket.socket:
    client = socket.socket()
    if receive is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    client.settimeout(DEADLINE)
    client.connect(proxy.address("web"))
    return client


def until(connection: socket.socket, end: bytes, limit: int = 1 << 24) -> bytes:
    """What comes up to and with `end`, or up to the end of the connection."""
    got = b""
    while end not in got and len(got) < limit:
        piece = connection.recv(65536)
        if not piece:
            break
        got += piece
    return got


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def starve_the_worker(stack: ExitStack) -> None:
    """From now on the worker gets what this thread leaves it: what is done without waiting is done before it looks."""
    cores = os.sched_getaffinity(0)
    stack.callback(os.sched_setaffinity, 0, cores)
    os.sched_setaffinity(0, {min(cores)})
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text("ascii").strip() == "penstock-0":
            os.sched_setaffinity(int(task.name), {min(cores)})
            os.setpriority(os.PRIO_PROCESS, int(task.name), 19)


def unanswered(clients: list[socket.socket]) -> list[bytes]:
    """What those got that did not get the answer of `/here`."""
    lost = []
    for client in clients:
        try:
            got = until(client, b"\r\n\r\n")
        except OSError as error:
            got = repr(error).encode()
        if not got.startswith(b"HTTP/1.1 204"):
            lost.append(got)
    return lost
