"""Probes of servers with a protocol of their own, against scripted ones and the real, and over TLS where clients are
the ones who shake hands."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from secured import SecuredOrigin
from test_probes import peer, verdict
from tests.product.test_tcp_programs import postgresql, redis
from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST = 8_000_000
GREETING = b"\x4a\0\0\0\x0a8.0.36-0debian\0\x08\0\0\0abcdefgh\0\xff\xf7\x08\x02\0\xff\xc1\x15" + b"\0" * 40
REPLIED, OTHERWISE, BUSY = (
    ("up", "replied as expected"),
    ("down", "the reply is not as expected"),
    "not ready for clients",
)


def _refused(code: bytes) -> bytes:
    fields = b"SFATAL\0VFATAL\0C" + code + b"\0Mno\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        ("redis", b"+PONG\r\n", REPLIED),
        ("redis", b"-NOAUTH Authentication required.\r\n", REPLIED),
        ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", ("down", BUSY)),
        ("redis", b"-ERR max number of clients reached\r\n", OTHERWISE),
        ("redis", b"\xff" * MOST, OTHERWISE),
        ("redis", b"", ("down", "no valid response")),
        ("postgres", b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", REPLIED),
        ("postgres", _refused(b"28000"), REPLIED),
        ("postgres", _refused(b"57P03"), ("down", BUSY)),
        ("postgres", _refused(b"53300"), ("down", BUSY)),
        ("postgres", b"HTTP/1.1 400 Bad Request\r\n\r\n", OTHERWISE),
        ("postgres", b"E\0\0\xff\xff" + b"x" * MOST, OTHERWISE),
        ("postgres", b"R", ("down", "the reply is not as expected")),
    ],
)
def test_servers_are_judged_by_what_they_say(kind: str, answer: bytes, expected: tuple[str, str]) -> None:
    with peer(answer) as endpoint:
        assert verdict(endpoint.address, **{kind: True}) == expected
        said = endpoint.heard[0]
    asked = {"redis": b"*1\r\n$4\r\nPING\r\n", "postgres": b"\0\0\0\x37\0\x03\0\0user\0penstock\0"}[kind]
    assert said.startswith(asked)


@contextmanager
def greeting(words: bytes) -> Iterator[str]:
    """A server that speaks first."""
    listening = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    connection.sendall(words)
                    connection.recv(1)
                except OSError:
                    continue

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(5)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (GREETING, REPLIED),
        (b"\x17\0\0\0\xff\x10\x04Too many connections", ("down", BUSY)),
        (b"220 mail.example ESMTP\r\n", OTHERWISE),
        (b"\xff\xff\xff\0" + b"y" * MOST, OTHERWISE),
        (b"", ("down", "no answer in time")),
    ],
)
def test_a_mysql_server_greets(words: bytes, expected: tuple[str, str]) -> None:
    with greeting(words) as address:
        assert verdict(address, mysql=True, timeout="500ms") == expected


@pytest.mark.parametrize("options", [(), ("--requirepass", "hunter2")], ids=["open", "with a password"])
def test_a_real_redis_is_up(options: tuple[str, ...]) -> None:
    with redis(*options) as place:
        assert verdict(f"unix:{place}", redis=True) == REPLIED
        assert verdict(f"unix:{place}", mysql=True, timeout="300ms") == ("down", "no answer in time")


def test_a_real_postgresql_is_up_whoever_we_are() -> None:
    with postgresql() as place:
        # One that has just begun to listen may still say that it starts.
        for user in ("postgres", "nobody"):
            check = {"postgres": True, "user": user, "fall": 1, "rise": 1}
            wait_for(lambda check=check: verdict(f"unix:{place}", **check) == REPLIED, "it is up", 30)
        assert verdict(f"unix:{place}", redis=True)[0] == "down"


def _passed_on(address: str, **check: Any) -> dict[str, Any]:
    """TLS that clients and endpoints speak with each other."""
    return {
        "listeners": {"tls": {"bind": "127.0.0.1:0", "protocol": "tcp", "upstream": "app"}},
        "engine": {"workers": 1},
        "upstreams": {
            "app": {"endpoints": [address], "health_check": {"interval": "30ms", "fall": 2, "rise": 2, **check}}
        },
    }


def _state(proxy: penstock.Proxy) -> tuple[str, str]:
    def said() -> bool:
        row = proxy.stats().upstreams[0].endpoints[0]
        return row.probe is not None and (row.state == "down" or row.probe.passed)

    wait_for(said, "probes say something")
    row = proxy.stats().upstreams[0].endpoints[0]
    return row.state, row.probe.outcome if row.probe else ""


def test_probes_shake_hands_where_clients_do(ca: str, leaf: dict[str, Any]) -> None:
    with SecuredOrigin(leaf) as origin:
        for check, expected in (
            ({"tcp": True, "tls": {"ca": ca}}, ("up", "connected")),
            ({"tls": {"ca": ca, "name": "app.internal"}}, ("up", "probe answered 200")),
            ({"tcp": True, "tls": {"insecure": True}}, ("up", "connected")),
            ({"tcp": True, "tls": {"ca": ca, "name": "other.example"}}, ("down", "certificate not valid")),
        ):
            with penstock.Proxy(_passed_on(origin.address, **check)) as proxy:
                assert _state(proxy) == expected
    with peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as clear:
        check = {"tcp": True, "tls": {"insecure": True}}
        with penstock.Proxy(_passed_on(clear.address, **check)) as proxy:
            assert _state(proxy) == ("down", "TLS handshake failed")
            # A reload that asks otherwise is followed.
            proxy.apply(_passed_on(clear.address, tcp=True))
            wait_for(lambda: _state(proxy) == ("up", "connected"), "it is up")
