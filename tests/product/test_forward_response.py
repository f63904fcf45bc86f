"""Rules of a forward proxy that ask for the answer: judged with its head, before the client gets any of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from intercepting import NAME, intercepting, secured, trusting, whole_answer
from secured import SecuredOrigin
from tests.certificates import context, write
from tests.product.forwarding import config, status, whole
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path

NO_PROGRAMS = {"name": "no-programs", "match": 'response.content_type == "application/x-msdownload"', "deny": 403}
PROGRAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: Application/X-MSDownload; x=y\r\nX-Secret: 1\r\nContent-Length: 9\r\n\r\nMZ"
)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"


def asks(client: Connection, origin: Origin, number: int, answer: bytes, request: str = "GET {} HTTP/1.1") -> bytes:
    """What the client gets for a request that is answered so on this connection of the server."""
    client.received.clear()
    line, _, rest = request.partition("\r\n")
    client.send(f"{line.format(f'http://{origin.address}/')}\r\nHost: a\r\n{rest}\r\n".encode())
    server = origin.connection(number)
    server.read_until(lambda got: b"\r\n\r\n" in got)
    server.received.clear()
    server.send(answer)
    client.read_until(lambda got: whole(final(got)))
    return final(bytes(client.received))


def final(got: bytes) -> bytes:
    """What follows interim answers, if it is there."""
    last = got[got.rfind(b"HTTP/1.1 ") :]
    return b"" if last.startswith(b"HTTP/1.1 1") else last


def test_what_is_refused_does_not_reach_the_client(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    settings = config(rules=[NO_PROGRAMS]) | {"log": {"access": {"to": str(log)}}}
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        assert asks(client, scripted, 1, PAGE).endswith(b"hi")
        refused = asks(client, scripted, 1, PROGRAM)
        assert (status(refused), b"rule: no-programs\n" in refused) == (403, True)
        assert not any(part in refused.lower() for part in (b"x-secret", b"msdownload", b"mz"))
        # The rest of it is not waited for.
        scripted.connection(1).read_until(lambda _: False)
        assert scripted.connection(1).ended
        # The client's own connection goes on.
        assert asks(client, scripted, 2, PAGE).endswith(b"hi")
        assert proxy.stats().listeners[0].rules == {"no-programs": 1}
        assert proxy.stats().rejected["rule_denied"] == 1
        wait_for(lambda: len(log.read_text().splitlines()) == 3, "three records")
    row = json.loads(log.read_text().splitlines()[1])
    assert [row[key] for key in ("status", "rule", "cause", "outcome", "retries")] == [
        403, "no-programs", "rule_denied", "client_error", 0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 304),
        (b"HTTP/1.1 200 OK\r\nContent-Type:\r\nContent-Length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 404 No\r\nContent-Type: application/x-msdownload\r\nContent-Length: 0\r\n\r\n", 403),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-msdownload\r\nTransfer-Encoding: chunked\r\n\r\n", 403),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + PROGRAM, 403),
    ],
)
def test_the_type_alone_decides(scripted: Origin, answer: bytes, expected: int) -> None:
    with penstock.Proxy(config(rules=[NO_PROGRAMS])) as proxy:
        assert status(asks(connect(proxy.address("out")), scripted, 1, answer)) == expected


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x.exe>\r\nX-Secret: 1\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\nX-Secret: 1\r\n\r\n"


@pytest.mark.parametrize("answer", [PROGRAM, PAGE])
def test_nothing_of_an_answer_comes_before_it_is_judged(scripted: Origin, answer: bytes) -> None:
    with penstock.Proxy(config(rules=[NO_PROGRAMS])) as proxy:
        client = connect(proxy.address("out"))
        request = "POST {} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"
        asks(client, scripted, 1, EARLY + GO_ON + EARLY + answer, request)
        went, _, rest = bytes(client.received).partition(b"\r\n\r\n")
        # What its client waits for with the body comes, and says nothing more.
        assert went == b"HTTP/1.1 100 Continue"
        assert status(rest) == (403 if answer is PROGRAM else 200)
        assert not any(part in rest.lower() for part in (b" 103 ", b"x-secret", b"x.exe", b"msdownload"))


def test_where_no_rule_waits_for_the_answer_what_comes_before_it_goes_on(scripted: Origin) -> None:
    first = {"match": 'method == "GET"', "allow": True}
    with penstock.Proxy(config(rules=[first, NO_PROGRAMS])) as proxy:
        client = connect(proxy.address("out"))
        asks(client, scripted, 1, EARLY + PROGRAM + b"1234567")
        assert bytes(client.received).startswith(b"HTTP/1.1 103 ")
        assert b"x.exe" in client.received


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([{"match": 'dest.port > 0', "allow": True}, NO_PROGRAMS], 200),
        ([NO_PROGRAMS, {"match": 'dest.port > 0', "allow": True}], 403),
        ([{"match": 'response.content_type.startswith("application/") and method == "GET"', "allow": True},
          NO_PROGRAMS], 200),
        ([{"match": 'response.content_type.endswith("html")', "allow": True}, NO_PROGRAMS], 403),
        ([{"match": 'response.content_type in ["text/html", "Text/Plain"]', "allow": True},
          {"match": 'not response.content_type == "text/html"', "deny": 451}], 451),
        ([NO_PROGRAMS, {"match": 'method == "GET"', "deny": 451}], 451),
    ],
)  # fmt: skip
def test_the_first_that_matches_decides(scripted: Origin, rules: list[dict[str, Any]], expected: int) -> None:
    with penstock.Proxy(config(rules=rules)) as proxy:
        client = connect(proxy.address("out"))
        if expected == 451 and rules[0] is NO_PROGRAMS:
            # What is refused anyway is not asked for.
            client.send(f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            client.read_until(whole)
            assert scripted.accept_all() == []
            assert status(bytes(client.received)) == 451
        else:
            assert status(asks(client, scripted, 1, PROGRAM + b"1234567")) == expected


def test_a_refusal_can_be_without_a_word_and_comes_before_the_body_is_sent(scripted: Origin) -> None:
    rules = [{"match": 'response.content_type == "text/html"', "deny": "close"}, NO_PROGRAMS]
    with penstock.Proxy(config(rules=rules)) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        server = scripted.connection(1)
        server.read_until(lambda got: b"\r\n\r\n" in got)
        server.send(PAGE)
        client.read_until(lambda _: False)
        assert client.received == b""
        client = connect(proxy.address("out"))
        request = "POST {} HTTP/1.1\r\nContent-Length: 1000\r\n"
        refused = asks(client, scripted, 2, PROGRAM, request)
        assert (status(refused), b"connection: close" in refused.lower()) == (403, True)


def test_in_an_opened_tunnel_it_is_the_same_and_a_closed_one_has_no_answer(tmp_path: Path) -> None:
    with SecuredOrigin(write(tmp_path / "keys", "shop", NAME), reply=PROGRAM + b"1234567") as origin:
        origin.context.set_alpn_protocols(["http/1.1"])
        for rules, expected in (((NO_PROGRAMS, {"intercept": True}), 403), ((NO_PROGRAMS, {"tunnel": True}), 200)):
            with intercepting(tmp_path, *rules) as proxy:
                trust = trusting(tmp_path) if expected == 403 else context()
                with secured(proxy, origin.port, trust) as sock:
                    assert whole_answer(sock, host=f"{NAME}:{origin.port}")[0] == expected


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"match": 'response.content_type == "text/html"', "intercept": True}, "comes too late"),
        ({"match": 'response.content_type == "text/html"', "tunnel": True}, "comes too late"),
        ({"match": 'response.content_type == "text/html" and dest.ip == "10.0.0.1"', "deny": 403}, "write two rules"),
        ({"match": 'response.content_type == "html"', "deny": 403}, "never"),
        ({"match": 'response.content_type == "text/html; charset=utf-8"', "deny": 403}, "never"),
        ({"match": "response.status == 200", "deny": 403}, "response.content_type"),
    ],
)
def test_what_comes_too_late_is_refused(rule: dict[str, Any], told: str) -> None:
    with pytest.raises(penstock.ConfigError, match=told), penstock.Proxy(config(rules=[rule])):
        pass
