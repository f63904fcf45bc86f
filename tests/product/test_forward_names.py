"""Which addresses of a name a forward proxy tries, and in which order."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from intercepting import NAME, asking
from tests.product.forwarding import ask, config, status
from tests.safety.faults.name_server import NameServer

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

FOUR, SIX = socket.AF_INET, socket.AF_INET6
HOSTS = {FOUR: "127.0.0.1", SIX: "::1"}


def has_ipv6() -> bool:
    """Whether this machine has a loopback address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=SIX).close()
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


@contextmanager
def listening(*families: int) -> Iterator[dict[int, socket.socket]]:
    """Sockets of these families on one port."""
    with ExitStack() as stack:
        port, made = 0, {}
        for family in families:
            made[family] = stack.enter_context(socket.create_server((HOSTS[family], port), family=family))  # type: ignore[arg-type]
            port = made[family].getsockname()[1]
        yield made


@pytest.mark.parametrize(("prefer", "first"), [(None, FOUR), ("ipv4", FOUR), ("ipv6", SIX)])
@pytest.mark.parametrize("alone", [False, True])
def test_one_kind_comes_first_and_the_other_is_tried_too(prefer: str | None, first: int, alone: bool) -> None:
    other = SIX if first == FOUR else FOUR
    families = (other,) if alone else (first, other)
    with NameServer("127.0.0.1", "::1") as names, listening(*families) as sockets:
        settings = asking(names, config(connect_ports=["1-65535"]))
        settings["dns"] |= {} if prefer is None else {"prefer": prefer}
        port = sockets[families[0]].getsockname()[1]
        with penstock.Proxy(settings) as proxy:
            assert status(ask(proxy, f"CONNECT {NAME}:{port}")) == 200
            reached = select.select(list(sockets.values()), [], [], 5)[0]
            assert reached == [sockets[families[0]]]


def test_an_address_that_leads_nowhere_costs_a_moment() -> None:
    # Nobody is there at any address of IPv4, and no more are tried than these: that of IPv6 is not behind all of them.
    silent = [f"192.0.2.{number}" for number in range(1, 10)]
    with NameServer(*silent, "::1") as names, listening(SIX) as sockets:
        settings = asking(names, config(connect_ports=["1-65535"], origins={"timeouts": {"connect": "5s"}}))
        with penstock.Proxy(settings) as proxy:
            assert status(ask(proxy, f"CONNECT {NAME}:{sockets[SIX].getsockname()[1]}")) == 200


def test_what_is_no_kind_is_a_fault() -> None:
    with pytest.raises(penstock.ConfigError, match=r"dns\.prefer"), penstock.Proxy(config() | {"dns": {"prefer": "6"}}):
        pass
