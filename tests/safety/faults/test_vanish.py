"""Peers that vanish without a word."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

import penstock
from tests.product.test_tcp import config as sessions
from tests.safety.faults.endpoint import Endpoint, config, ok
from tests.wire.peers import Origin, connect

WITHIN = 30


@pytest.mark.safety(169)
def test_every_connection_watches_its_peer() -> None:
    with Endpoint(lambda head, body, number: ok(b"well")) as origin, penstock.Proxy(config(origin.address)) as proxy:
        client = connect(proxy.address("web"))
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_until(lambda got: got.endswith(b"well"))
        host, _, port = origin.address.rpartition(":")
        sides = {client.sock.getsockname(): "client", (host, int(port)): "endpoint"}
        watched = dict(_watched(sides))
        assert watched == {"client": (30_000, 1, 15, 5, 3), "endpoint": (30_000, 1, 15, 5, 3)}
        client.close()


@pytest.mark.safety(169)
def test_so_do_both_of_a_session(scripted: Origin) -> None:
    with penstock.Proxy(sessions(scripted.address)) as proxy:
        client = connect(proxy.address("db"))
        client.send(b"hello")
        scripted.read_until(lambda got: got == b"hello")
        host, _, port = scripted.address.rpartition(":")
        sides = {client.sock.getsockname(): "client", (host, int(port)): "endpoint"}
        watched = dict(_watched(sides))
        assert watched == {"client": (30_000, 1, 15, 5, 3), "endpoint": (30_000, 1, 15, 5, 3)}
        client.close()


def _watched(sides: dict[tuple[str, int], str]) -> list[tuple[str, tuple[int, ...]]]:
    """What is set on the sockets of this process that are connected to these peers."""
    tcp = socket.IPPROTO_TCP
    names = [(tcp, socket.TCP_USER_TIMEOUT), (socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
    names += [(tcp, socket.TCP_KEEPIDLE), (tcp, socket.TCP_KEEPINTVL), (tcp, socket.TCP_KEEPCNT)]
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                side = sides.get(sock.getpeername())
                if side:
                    found.append((side, tuple(sock.getsockopt(*option) for option in names)))
        except OSError:
            continue
    return found


def _why_not() -> str | None:
    for tool in ("unshare", "ip"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return "no right to make a network namespace" if tried.returncode else None


@pytest.mark.safety(169)
def test_a_pulled_cable_is_noticed_on_both_sides() -> None:
    if reason := _why_not():
        pytest.skip(reason)
    words = ["unshare", "-n", sys.executable, "-m", "tests.safety.faults.vanish"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # A kept connection, an answer under way, a tunnel; and a local client whose endpoint vanished.
    assert found["before"] == [4, 1]
    assert found["after"] == [0, 0, 0]
    assert found["status"] == 502
    assert found["answered"] <= WITHIN + 2
    assert found["seconds"] <= WITHIN + 4


@pytest.mark.safety(169)
def test_sessions_of_an_endpoint_that_vanished_end_and_new_ones_go_elsewhere() -> None:
    if reason := _why_not():
        pytest.skip(reason)
    words = ["unshare", "-n", sys.executable, "-m", "tests.safety.faults.vanish_sessions"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    # One that was silent (keep-alive) and one with bytes on their way (user timeout).
    assert found["silent"] <= WITHIN + 4
    assert found["busy"] <= WITHIN + 4
    assert (found["ended"], found["open"]) == (2, 0)
    # Who comes meanwhile is connected elsewhere after `timeouts.connect` (5 s), or at once when the probe knows.
    assert found["elsewhere"]
    assert found["moved"] <= 5 + 2
    assert found["down"] <= 10
    assert (found["left_at_the_lost"], found["back"]) == (0, True)
    # Of four endpoints one is taken away: at most 1/N and 2 % of the clients have another then.
    assert 0 < found["moved_by_removal"] <= 1 / 4 + 0.02
    assert found["moved_of_others"] <= 0.02
    assert found["moved_by_loss"] <= 0.02
