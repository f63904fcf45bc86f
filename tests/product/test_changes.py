"""Changes of what runs: who is connected keeps its answer, who looks does not wait, and what cannot be is named."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from peer import Peer, config, dial, get, starve_the_worker, unanswered, until
from tests.safety.faults.name_server import NameServer
from waiting import wait_for

import penstock
from product import DEADLINE

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from product import Origin


def _config(*endpoints: str, servers: tuple[str, ...] = (), **listeners: str) -> dict[str, Any]:
    return {
        "listeners": {name: {"bind": bind} for name, bind in (listeners or {"web": "127.0.0.1:0"}).items()},
        "engine": {"workers": 2},
        "dns": {"servers": list(servers)},
        "upstreams": {"app": {"endpoints": list(endpoints)}},
        "routes": [{"upstream": "app"}],
    }


def test_who_looks_does_not_wait_for_names_that_a_change_asks_for(origin: Origin) -> None:
    with NameServer() as server, penstock.Proxy(_config(origin.address, servers=(server.address,))) as proxy:
        server.silent = True
        named = _config(origin.address, "app.internal:1", servers=(server.address,))
        changing = threading.Thread(target=proxy.apply, args=(named,))
        changing.start()
        wait_for(lambda: server.asked, "the change asks for the name")
        began = time.monotonic()
        stats = proxy.stats()
        took = time.monotonic() - began
        assert changing.is_alive(), "the change waits for its name"
        assert took < 1.0
        assert [len(one.endpoints) for one in stats.upstreams] == [1]
        changing.join(30)
        assert [len(one.endpoints) for one in proxy.stats().upstreams] == [2]


def test_a_port_that_another_listener_has_everywhere_is_refused_by_its_name(origin: Origin) -> None:
    with penstock.Proxy(_config(origin.address, every="0.0.0.0:0")) as proxy:
        port = proxy.address("every")[1]
        beside = _config(origin.address, every="0.0.0.0:0", web=f"127.0.0.1:{port}")
        told = rf"cannot listen on 127\.0\.0\.1:{port}: listener every has the port on 0\.0\.0\.0:{port}; give that up"
        with pytest.raises(penstock.ConfigError, match=told):
            proxy.apply(beside)
        assert [one.name for one in proxy.stats().listeners] == ["every"]


def test_who_waits_to_be_accepted_when_the_drain_begins_is_answered() -> None:
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy, ExitStack() as stack:
        starve_the_worker(stack)
        clients = []
        for _ in range(300):
            client = stack.enter_context(closing(dial(proxy)))
            client.sendall(get("/here"))
            clients.append(client)
        proxy.drain(DEADLINE)
        assert unanswered(clients) == []


def test_the_last_answer_of_a_removed_listener_says_so() -> None:
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy, closing(dial(proxy)) as client:
        client.sendall(get("/"))
        with closing(peer.accept()) as origin:
            until(origin, b"\r\n\r\n")
            plan = config(peer.address)
            plan["listeners"] = {"other": {"bind": "127.0.0.1:0"}}
            proxy.apply(plan)
            origin.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            assert b"connection: close" in until(client, b"\r\n\r\n")


def open_tunnel(
    proxy: penstock.Proxy, peer: Peer, stack: ExitStack, protocol: bytes
) -> tuple[socket.socket, socket.socket]:
    """Both ends of one."""
    tunnel = stack.enter_context(closing(dial(proxy)))
    upgrade = b"Connection: upgrade\r\nUpgrade: %s\r\n\r\n" % protocol
    tunnel.sendall(b"GET /t HTTP/1.1\r\nHost: a\r\n" + upgrade)
    far = stack.enter_context(closing(peer.accept()))
    until(far, b"\r\n\r\n")
    far.sendall(b"HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
    until(tunnel, b"\r\n\r\n")
    return tunnel, far


@pytest.mark.parametrize(("protocol", "told"), [(b"x", b""), (b"websocket", b"\x88\x02\x03\xe9")])
def test_a_tunnel_of_a_removed_listener_has_the_time_of_a_drain(protocol: bytes, told: bytes) -> None:
    with closing(Peer()) as peer, ExitStack() as stack:
        proxy = stack.enter_context(penstock.Proxy(config(peer.address)))
        tunnel, far = open_tunnel(proxy, peer, stack, protocol)
        plan = {**config(peer.address), "engine": {"workers": 1, "drain_timeout": "500ms"}}
        proxy.apply(plan)
        plan["listeners"] = {"other": {"bind": "127.0.0.1:0"}}
        proxy.apply(plan)
        # It goes on until then.
        far.sendall(b"\x81\x02hi")
        assert until(tunnel, b"hi") == b"\x81\x02hi"
        assert until(tunnel, b"the end") == told
        # One whose client does not answer is cut.
        assert until(far, b"the end") == b""


def test_a_tunnel_of_a_listener_that_stays_has_no_end() -> None:
    with closing(Peer()) as peer, ExitStack() as stack:
        plan = {**config(peer.address), "engine": {"workers": 1, "drain_timeout": "0s"}}
        proxy = stack.enter_context(penstock.Proxy(plan))
        tunnel, far = open_tunnel(proxy, peer, stack, b"x")
        for number in range(3):
            proxy.apply({**plan, "routes": [{"name": f"{number}", "upstream": "app"}]})
            far.sendall(b"%d." % number)
            assert until(tunnel, b".") == b"%d." % number


def test_connections_to_a_removed_endpoint_end_though_a_tunnel_lives_on() -> None:
    with closing(Peer()) as peer, closing(Peer()) as other, ExitStack() as stack:
        proxy = stack.enter_context(penstock.Proxy(config(peer.address)))
        open_tunnel(proxy, peer, stack, b"x")
        client = stack.enter_context(closing(dial(proxy)))
        client.sendall(get("/"))
        origin = stack.enter_context(closing(peer.accept()))
        until(origin, b"\r\n\r\n")
        proxy.apply(config(other.address))
        origin.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        until(client, b"\r\n\r\n")
        # Nobody can use it any more.
        origin.settimeout(5)
        assert origin.recv(1) == b""


def test_a_refused_plan_leaves_no_socket_file(tmp_path: Path) -> None:
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy:
        plan = config(peer.address)
        plan["listeners"]["file"] = {"bind": f"unix:{tmp_path / 's'}"}
        plan["log"] = {"access": {"format": "json", "to": str(tmp_path / "no" / "such" / "folder" / "a.log")}}
        with pytest.raises(penstock.PenstockError):
            proxy.apply(plan)
        assert not (tmp_path / "s").exists()


def test_a_removed_listener_answers_what_was_asked_before() -> None:
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy, ExitStack() as stack:
        kept = []
        for _ in range(20):
            client = stack.enter_context(closing(dial(proxy)))
            client.sendall(get("/here"))
            until(client, b"\r\n\r\n")
            kept.append(client)
        starve_the_worker(stack)
        plan = config(peer.address)
        plan["listeners"] = {"other": {"bind": "127.0.0.1:0"}}
        fresh = [stack.enter_context(closing(dial(proxy))) for _ in range(20)]
        for client in kept + fresh:
            client.sendall(get("/here"))
        proxy.apply(plan)
        assert unanswered(kept + fresh) == []
