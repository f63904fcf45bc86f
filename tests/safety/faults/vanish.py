"""A peer that vanishes without a word, in network namespaces: `unshare -n python -m tests.safety.faults.vanish`.

The proxy is on one end of a cable (a veth pair), its clients and its endpoint on the other, and the cable is pulled.
Prints what became of the connections, as JSON.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time

import penstock
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import config

HERE, THERE = "10.9.0.1", "10.9.0.2"
PATIENCE = 45.0
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def ip(*words: str) -> None:
    """Set up the network of this namespace."""
    subprocess.run(["ip", *words], check=True)


def proxy_side() -> dict[str, object]:
    """Run the proxy; pull the cable; wait until it has noticed."""
    words = ["unshare", "-n", sys.executable, "-m", "tests.safety.faults.vanish", "peer"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdin is not None
        assert peer.stdout is not None
        say = lambda text: print(text, file=peer.stdin, flush=True)  # noqa: E731
        assert peer.stdout.readline() == "there\n"
        ip("link", "set", "lo", "up")
        ip("link", "add", "v0", "type", "veth", "peer", "name", "v1", "netns", str(peer.pid))
        ip("addr", "add", f"{HERE}/24", "dev", "v0")
        ip("link", "set", "v0", "up")
        say("cable")
        plan = config(f"{THERE}:{peer.stdout.readline().strip()}")
        plan["listeners"]["web"]["bind"] = f"{HERE}:0"
        with penstock.Proxy(plan) as proxy:
            say(str(proxy.address("web")[1]))
            assert peer.stdout.readline() == "connected\n"
            local = socket.create_connection(proxy.address("web"), PATIENCE)
            local.sendall(b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 3, "all is under way")
            say("vanish")
            assert peer.stdout.readline() == "gone\n"
            found = _follow(proxy, local)
        peer.kill()
    return found


def _follow(proxy: penstock.Proxy, local: socket.socket) -> dict[str, object]:
    began = time.monotonic()
    before = proxy.stats().listeners[0]
    local.settimeout(PATIENCE)
    status = int(local.recv(65536).split()[1])
    answered = time.monotonic() - began
    local.close()
    wait_for(lambda: proxy.stats().listeners[0].connections == 0, "all connections are gone", PATIENCE)
    wait_for(lambda: _descriptors() == 0, "all descriptors are given back")
    after, row = proxy.stats().listeners[0], proxy.stats().upstreams[0].endpoints[0]
    return {
        "before": [before.connections, before.tunnels],
        "after": [after.connections, after.tunnels, row.in_flight],
        "status": status,
        "answered": answered,
        "seconds": time.monotonic() - began,
    }


def _descriptors() -> int:
    """Sockets of this process that are connected to the other side."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                count += sock.getpeername()[0] == THERE
        except OSError:
            continue
    return count


def peer_side() -> None:
    """The clients and the endpoint: answers `/pool`, begins `/long`, switches `/tunnel`, is silent otherwise."""
    print("there", flush=True)  # noqa: T201
    sys.stdin.readline()
    ip("link", "set", "lo", "up")
    ip("addr", "add", f"{THERE}/24", "dev", "v1")
    ip("link", "set", "v1", "up")
    listener = socket.create_server((THERE, 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    address = (HERE, int(sys.stdin.readline()))
    clients = [_ask(address, "/pool"), _ask(address, "/long"), _ask(address, "/tunnel")]
    print("connected", flush=True)  # noqa: T201
    sys.stdin.readline()
    ip("link", "set", "v1", "down")
    print("gone", flush=True)  # noqa: T201
    sys.stdin.readline()
    del clients


def _ask(address: tuple[str, int], path: str) -> socket.socket:
    sock = socket.create_connection(address, 10)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".encode())
    sock.recv(100)
    return sock


def _serve(listener: socket.socket) -> None:
    kept = []
    while True:
        sock, _ = listener.accept()
        kept.append(sock)
        threading.Thread(target=_answer, args=(sock,), daemon=True).start()


def _answer(sock: socket.socket) -> None:
    while asked := sock.recv(65536):
        if b" /pool " in asked:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif b" /long " in asked:
            # More than its client reads: bytes are on the way to it when it vanishes.
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 50_000_000)
        elif b" /tunnel " in asked:
            sock.sendall(SWITCH)


if __name__ == "__main__":
    if sys.argv[1:] == ["peer"]:
        peer_side()
    else:
        sys.stdout.write(json.dumps(proxy_side()))
