"""Clients that stop sending, vanish, or give up while an endpoint works for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import penstock
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import config
from tests.wire.peers import Origin, connect
from tests.wire.tunnels import open_tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    """In front of it."""
    with penstock.Proxy(config(scripted.address)) as running:
        yield running


def _open(proxy: penstock.Proxy) -> int:
    return proxy.stats().listeners[0].connections


@pytest.mark.safety(170)
def test_an_answer_reaches_a_client_that_stopped_sending(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("web"))
    client.send(REQUEST)
    client.half_close()
    behind = scripted.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
    client.read_until(lambda got: got.count(b"x") == 200_000)
    client.read_until(lambda _: False)
    assert not client.was_reset
    wait_for(lambda: _open(proxy) == 0, "the connection is gone")
    client.close()


@pytest.mark.safety(170)
@pytest.mark.parametrize("first", ["client", "origin"])
def test_an_end_in_a_tunnel_goes_its_own_way_only(proxy: penstock.Proxy, scripted: Origin, first: str) -> None:
    client, behind = open_tunnel(proxy.address("web"), scripted)
    one, other = (client, behind) if first == "client" else (behind, client)
    one.send(b"last")
    one.half_close()
    other.read_until(lambda _: False)
    assert bytes(other.received) == b"last"
    assert not other.was_reset
    # The other way lives on, for as long as it likes.
    for word in (b"still", b"here"):
        other.send(word)
        one.received.clear()
        one.read_until(lambda got, word=word: got == word)
    assert proxy.stats().listeners[0].tunnels == 1
    other.half_close()
    one.received.clear()
    one.read_until(lambda _: False)
    wait_for(lambda: (_open(proxy), proxy.stats().listeners[0].tunnels) == (0, 0), "the tunnel is gone")


@pytest.mark.safety(171)
@pytest.mark.parametrize("when", ["before the head", "in the body"])
def test_a_client_that_gives_up_ends_the_work_for_it(proxy: penstock.Proxy, scripted: Origin, when: str) -> None:
    client = connect(proxy.address("web"))
    client.send(REQUEST)
    behind = scripted.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    if when == "in the body":
        behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        client.read_until(lambda got: got.endswith(b"abc"))
    client.reset()
    behind.read_until(lambda _: False)
    assert behind.ended
    wait_for(lambda: _open(proxy) == 0, "the connection is gone")
    row = proxy.stats().upstreams[0].endpoints[0]
    assert (row.in_flight, row.idle) == (0, 0)


@pytest.mark.safety(171)
def test_a_client_that_closed_is_noticed_with_the_first_bytes_for_it(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("web"))
    client.send(REQUEST)
    behind = scripted.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    client.close()
    behind.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    piece = b"x" * 100_000

    def ended() -> bool:
        behind.send(piece)
        behind.sock.setblocking(False)
        try:
            return behind.sock.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            behind.sock.setblocking(True)

    wait_for(ended, "the endpoint is told")
    row = proxy.stats().upstreams[0].endpoints[0]
    assert (row.in_flight, row.idle) == (0, 0)


@pytest.mark.safety(171)
def test_a_thousand_that_give_up_leave_nothing_behind(proxy: penstock.Proxy, scripted: Origin) -> None:
    for _ in range(1000):
        client = connect(proxy.address("web"))
        client.send(REQUEST[: 1 + _ % len(REQUEST)])
        client.reset()
        if _ % 50 == 0:
            scripted.hang_up()
    wait_for(lambda: _open(proxy) == 0, "all are gone")
    wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].in_flight == 0, "no request is under way")
