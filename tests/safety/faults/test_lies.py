"""Answers of a name server that lie or are none: they change nothing."""

from __future__ import annotations

import socket
import struct
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from tests.ports import Reserved
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ELSEWHERE = "127.0.0.2"
_HEAD = struct.Struct(">HHHHHH")


def _record(name: bytes, address: str = ELSEWHERE, kind: int = 1) -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 0, 4) + socket.inet_aton(address)


def _answer(question: bytes, *records: bytes, number: int | None = None, asked: bytes | None = None) -> bytes:
    """An answer with these records; to another question or with another number where that is given."""
    (own,) = struct.unpack_from(">H", question)
    head = _HEAD.pack(own if number is None else number, 0x8180, 1, len(records), 0, 0)
    end = question.index(b"\0", 12) + 5
    return head + (question[12:end] if asked is None else asked) + b"".join(records)


OURS = b"\xc0\x0c"
LIES: dict[str, Callable[[bytes], bytes]] = {
    "another id": lambda question: _answer(question, _record(OURS), number=struct.unpack_from(">H", question)[0] ^ 1),
    "another question": lambda question: _answer(question, _record(OURS), asked=b"\x03bad\x04test\0\0\x01\0\x01"),
    "another name": lambda question: _answer(question, _record(b"\x03bad\x04test\0")),
    "a loop": lambda question: _answer(question, _record(b"\xc0" + bytes([len(_answer(question))]))),
    "a name too long": lambda question: _answer(question, _record((b"\x3f" + b"a" * 63) * 5 + b"\0")),
    "NUL in a name": lambda question: _answer(question, _record(b"\x03app\x05te\0st\0")),
    "half a record": lambda question: _answer(question, _record(OURS)[:-3]),
    "a length beyond": lambda question: _answer(question, OURS + struct.pack(">HHIH", 1, 1, 0, 400) + b"\x7f\0\0\2"),
    "no answer at all": lambda question: b"\xff" * 3,
    "a thousand addresses": lambda question: _answer(question, *[_record(OURS)] * 1000),
}


class Liar(NameServer):
    """Answers as told, once it is told so."""

    lie: Callable[[bytes], bytes] | None = None

    def _answer(self, question: bytes) -> bytes | None:
        told = super()._answer(question)
        return told if self.lie is None else self.lie(question)


@pytest.fixture
def listening() -> Iterator[tuple[dict[str, socket.socket], int]]:
    """Endpoints on one port: the right one, and the one that a lie names."""
    with (
        closing(Reserved()) as port,
        socket.create_server(("127.0.0.1", port.number)) as first,
        socket.create_server((ELSEWHERE, port.number)) as second,
    ):
        yield {"right": first, "lie": second}, port.number


@pytest.mark.safety(121)
@pytest.mark.parametrize("lie", LIES)
def test_what_a_name_server_makes_up_changes_nothing(lie: str, listening: tuple[Any, int]) -> None:
    socks, port = listening
    with Liar("127.0.0.1") as server:
        plan = {
            "listeners": {"db": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "main"}},
            "upstreams": {"main": {"endpoints": [f"app.test:{port}"]}},
            "dns": {"servers": [server.address]},
            "engine": {"workers": 1},
        }
        with penstock.Proxy(plan) as proxy:
            _arrives(proxy, socks["right"])
            server.lie = LIES[lie]
            asked = server.asked
            wait_for(lambda: server.asked >= asked + 3, "the name is asked for, in vain", 30)
            assert proxy.stats().upstreams[0].endpoints[0].resolved == (f"127.0.0.1:{port}",)
            _arrives(proxy, socks["right"])
            server.lie = None
            asked = server.asked
            wait_for(lambda: server.asked >= asked + 2, "it is asked for again", 30)
            _arrives(proxy, socks["right"])
    socks["lie"].settimeout(0)
    with pytest.raises(BlockingIOError):
        socks["lie"].accept()


def _arrives(proxy: penstock.Proxy, sock: socket.socket) -> None:
    client = connect(proxy.address("db"))
    sock.settimeout(5)
    behind, _ = sock.accept()
    with behind:
        client.send(b"hello")
        assert behind.recv(5) == b"hello"
    client.close()
