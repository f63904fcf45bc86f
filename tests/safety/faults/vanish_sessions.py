"""An endpoint of layer 4 that vanishes without a word: `unshare -n python -m tests.safety.faults.vanish_sessions`.

The proxy and its clients are in this network namespace, each endpoint in one of its own at the other end of a cable (a
veth pair), and one cable is pulled. Prints what became of the sessions, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import penstock
from tests.product.waiting import wait_for
from tests.safety.faults.vanish import ip

ENDPOINTS = 4
CLIENTS = 400
PORT = 5432
PATIENCE = 45.0


def place(number: int) -> str:
    """Where an endpoint is."""
    return f"10.9.{number}.2"


def configuration(endpoints: list[int]) -> dict[str, Any]:
    """Clients are bound to their endpoints by address; probes look for those that are gone."""
    check = {"tcp": True, "interval": "1s", "timeout": "1s", "fall": 2, "rise": 1}
    return {
        "listeners": {"db": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "main"}},
        "upstreams": {
            "main": {
                "endpoints": [f"{place(number)}:{PORT}" for number in endpoints],
                "balance": {"hash": "client.ip"},
                "health_check": check,
            }
        },
        "engine": {"workers": 1},
    }


def ask(address: tuple[str, int], client: int) -> tuple[socket.socket, int]:
    """A session of this client, and the endpoint that has it, which says so."""
    sock = socket.create_connection(address, PATIENCE, source_address=(f"127.0.{client // 250}.{client % 250 + 1}", 0))
    sock.settimeout(PATIENCE)
    sock.sendall(b"who")
    return sock, int(sock.recv(16))


def places(address: tuple[str, int]) -> dict[int, int]:
    """Which endpoint each client gets."""
    found = {}
    for client in range(CLIENTS):
        sock, found[client] = ask(address, client)
        sock.close()
    return found


def ended_after(sock: socket.socket, began: float) -> float:
    """Seconds until a session ends, however that is; `PATIENCE` if it does not."""
    with contextlib.suppress(ConnectionError):
        while sock.recv(65_536):
            pass
    return time.monotonic() - began


def proxy_side() -> dict[str, object]:
    """Run the proxy; pull one cable; see what becomes of sessions, of new connections, and of everybody's endpoint."""
    ip("link", "set", "lo", "up")
    with ExitStack() as stack:
        peers = [stack.enter_context(endpoint(number)) for number in range(ENDPOINTS)]
        proxy = stack.enter_context(penstock.Proxy(configuration(list(range(ENDPOINTS)))))
        address = proxy.address("db")
        before = places(address)
        found: dict[str, Any] = {}
        lost = before[0]
        # A configuration without another endpoint: its clients move, and hardly anybody else.
        gone = next(number for number in range(ENDPOINTS) if number != lost)
        proxy.apply(configuration([number for number in range(ENDPOINTS) if number != gone]))
        without = places(address)
        found["moved_by_removal"] = sum(before[client] != without[client] for client in before) / CLIENTS
        found["moved_of_others"] = sum(before[client] not in (gone, without[client]) for client in before) / CLIENTS
        proxy.apply(configuration(list(range(ENDPOINTS))))
        found["back"] = places(address) == before
        silent, _ = ask(address, 0)
        # Bytes on the way to an endpoint that will not take them.
        busy, _ = ask(address, 0)
        say(peers[lost], "vanish")
        began = time.monotonic()
        busy.sendall(b"x" * 1000)
        waits = [
            threading.Thread(target=lambda name=name, sock=sock: found.update({name: ended_after(sock, began)}))
            for name, sock in (("silent", silent), ("busy", busy))
        ]
        for wait in waits:
            wait.start()
        moved, instead = ask(address, 0)
        found["moved"], found["elsewhere"] = time.monotonic() - began, instead != lost
        moved.close()
        wait_for(lambda: proxy.stats().upstreams[0].endpoints[lost].state == "down", "its probe fails", PATIENCE)
        found["down"] = time.monotonic() - began
        after = places(address)
        found["moved_by_loss"] = sum(before[client] not in (lost, after[client]) for client in before) / CLIENTS
        found["left_at_the_lost"] = sum(place == lost for place in after.values())
        for wait in waits:
            wait.join(PATIENCE)
        # The last of those that asked may be about to end.
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "all sessions have ended", PATIENCE)
        row = proxy.stats().listeners[0]
        found["ended"], found["open"] = row.sessions["endpoint_reset"], row.connections
    return found


def say(peer: subprocess.Popen[str], word: str) -> None:
    """Tell an endpoint something, and wait until it has done it."""
    assert peer.stdin is not None
    assert peer.stdout is not None
    print(word, file=peer.stdin, flush=True)
    assert peer.stdout.readline() == "done\n"


@contextlib.contextmanager
def endpoint(number: int) -> Any:
    """An endpoint in a namespace of its own, with a cable to it."""
    words = ["unshare", "-n", sys.executable, "-m", "tests.safety.faults.vanish_sessions", str(number)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        try:
            assert peer.stdout.readline() == "there\n"
            ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "there", "netns", str(peer.pid))
            ip("addr", "add", f"10.9.{number}.1/24", "dev", f"v{number}")
            ip("link", "set", f"v{number}", "up")
            say(peer, "cable")
            yield peer
        finally:
            peer.kill()


def endpoint_side(number: int) -> None:
    """Say who it is to whoever asks, until the cable is pulled."""
    print("there", flush=True)  # noqa: T201
    sys.stdin.readline()
    ip("addr", "add", f"{place(number)}/24", "dev", "there")
    ip("link", "set", "there", "up")
    ip("route", "add", "default", "via", f"10.9.{number}.1")
    listener = socket.create_server((place(number), PORT), backlog=512)
    threading.Thread(target=_serve, args=(listener, number), daemon=True).start()
    print("done", flush=True)  # noqa: T201
    sys.stdin.readline()
    ip("link", "set", "there", "down")
    print("done", flush=True)  # noqa: T201
    sys.stdin.readline()


def _serve(listener: socket.socket, number: int) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, number), daemon=True).start()


def _answer(sock: socket.socket, number: int) -> None:
    with sock, contextlib.suppress(OSError):
        while sock.recv(65_536):
            sock.sendall(b"%d" % number)


if __name__ == "__main__":
    if sys.argv[1:]:
        endpoint_side(int(sys.argv[1]))
    else:
        sys.stdout.write(json.dumps(proxy_side()))
