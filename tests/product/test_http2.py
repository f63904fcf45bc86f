"""HTTP/2 as clients meet it: with TLS and without, bodies and trailers both ways, what is given up, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame
from tests.certificates import authority, context, write
from tests.http2 import GET, POST, WHERE, Client, data, reset, room, serving
from tests.load.origin import EchoOrigins
from tests.product.waiting import wait_for
from tests.wire.peers import Connection, Origin, TimedOutError, connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OWN = ((":method", "GET"), *WHERE, (":path", "/own"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LARGE = 3_000_000


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    with serving(scripted) as running:
        yield running


@pytest.fixture
def client(proxy: penstock.Proxy) -> Iterator[Client]:
    with Client(proxy.address()) as talking:
        yield talking


def head_of(origin: Origin, end: bytes = b"\r\n\r\n") -> tuple[Connection, list[str]]:
    """The connection on which a request comes, and the lines of its head."""
    connection = origin.read_until(lambda received: end in received)
    head, _, rest = bytes(connection.received).partition(b"\r\n\r\n")
    connection.received[:] = rest
    return connection, head.decode().split("\r\n")


def curl(*arguments: str) -> bytes:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if b"HTTP2" not in subprocess.run(["curl", "--version"], capture_output=True, check=True).stdout:
        pytest.skip("this curl speaks no HTTP/2")
    command = ["curl", "--silent", "--show-error", "--max-time", "10", *arguments]
    return subprocess.run(command, capture_output=True, timeout=20, check=True).stdout


def test_curl_without_tls_speaks_either(tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(range(256)) * 4000)
    with EchoOrigins("echo") as origins:
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0", "h2c": True}},
            "upstreams": {"echo": {"endpoints": [origins.address]}},
            "routes": [{"upstream": "echo"}],
        }
        with penstock.Proxy(config) as running:
            # To a question in 1.0 the answer is one in 1.1 (RFC 9110 §6.2).
            for version, said in (("--http2-prior-knowledge", b"2"), ("--http1.1", b"1.1"), ("--http1.0", b"1.1")):
                told = curl(version, running.url() + "/a?b=c", "-H", "X-Token: t", "-w", "%{http_version}")
                assert told.endswith(b"\n" + said), told
                assert told.startswith(b"GET /a?b=c t - echo\n")
            sent = curl("--http2-prior-knowledge", running.url() + "/", "--data-binary", f"@{upload}")
            assert sent.startswith(b"POST / "), sent[:200]


def test_a_tls_listener_speaks_what_the_client_asks_for(tmp_path: Path) -> None:
    certificate = write(tmp_path, "shop", "shop.example")
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    routes = [
        {"match": f'alpn == "{name}" and scheme == "https" and host == "shop.example"', "respond": {"body": name}}
        for name in ("h2", "http/1.1")
    ]
    for alpn, asked, spoken in (
        (None, "--http2", b"h2 2"),
        (None, "--http1.1", b"http/1.1 1.1"),
        (["http/1.1"], "--http2", b"http/1.1 1.1"),
    ):
        tls = {"certificates": [certificate], **({"alpn": alpn} if alpn else {})}
        config = {"listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}}, "routes": routes}
        with penstock.Proxy(config) as running:
            port = running.address()[1]
            place = ("--resolve", f"shop.example:{port}:127.0.0.1", "--cacert", str(tmp_path / "ca.pem"))
            assert curl(asked, f"https://shop.example:{port}/", *place, "-w", " %{http_version}") == spoken


def test_httpx_asks_many_things_at_once_over_one_connection(tmp_path: Path) -> None:
    certificate = write(tmp_path, "shop", "localhost")
    with EchoOrigins("echo") as origins:
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0", "tls": {"certificates": [certificate]}}},
            "upstreams": {"echo": {"endpoints": [origins.address]}},
            "routes": [{"upstream": "echo"}],
            "engine": {"workers": 1},
        }
        trust = ssl.create_default_context()
        authority().configure_trust(trust)
        with penstock.Proxy(config) as running:
            port = running.address()[1]

            async def ask(http: httpx.AsyncClient, number: int) -> None:
                answer = await http.post(f"https://localhost:{port}/{number}", content=b"x" * number * 1000)
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                assert answer.text.startswith(f"POST /{number} ")

            async def ask_all() -> None:
                async with httpx.AsyncClient(http2=True, verify=trust, timeout=20) as http:
                    await ask(http, 1)
                    await asyncio.gather(*(ask(http, number) for number in range(2, 30)))

            asyncio.run(ask_all())
            stats = running.stats()
            assert (stats.listeners[0].accepted, stats.routes[0].requests) == (1, 29)


def test_a_request_and_its_answer_in_the_form_of_http_1(client: Client, scripted: Origin) -> None:
    fields = (
        (":method", "GET"), (":scheme", "http"), (":authority", "Shop.Example:81"), (":path", "/a/../b?c"),
        ("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("te", "trailers"), ("x-forwarded-for", "6.6.6.6"),
    )  # fmt: skip
    client.send(client.headers(1, fields))
    connection, lines = head_of(scripted)
    assert lines[:2] == ["GET /b?c HTTP/1.1", "host: shop.example:81"]
    assert {"cookie: a=1; b=2", "x-a: 1", "via: 2.0 penstock", "te: trailers"} < set(lines)
    assert "x-forwarded-for: 127.0.0.1" in lines
    assert not [line for line in lines if "6.6.6.6" in line or line.startswith(("content-length", "transfer-encoding"))]
    connection.send(
        b"HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nX-Kept: 2\r\n"
        b"Content-Length: 2\r\n\r\nok"
    )
    seen = client.outcome(1)
    assert (seen.status, seen.body, seen.reset) == (200, b"ok", None)
    head = {name: value for name, value in seen.heads[0].items() if name != "date"}
    assert head == {":status": "200", "x-kept": "2", "content-length": "2", "via": "1.1 penstock"}


def test_answers_without_a_body(client: Client, scripted: Origin) -> None:
    for number, (method, answer, length) in enumerate(
        (
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", "7"),
            ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
            ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "7"),
            ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
            ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", None),
        )
    ):
        client.send(client.headers(2 * number + 1, ((":method", method), *GET[1:])))
        head_of(scripted)[0].send(answer)
        seen = client.outcome(2 * number + 1)
        assert (seen.body, seen.reset, seen.heads[0].get("content-length")) == (b"", None, length), answer


def test_a_body_without_a_length_goes_on_in_chunks(client: Client, scripted: Origin) -> None:
    client.send(client.headers(1, POST, ends=False), data(1, b"hello", ends=False))
    connection, lines = head_of(scripted)
    assert "transfer-encoding: chunked" in lines
    scripted.read_until(lambda received: received == b"5\r\nhello\r\n")
    client.send(data(1, b" world"))
    scripted.read_until(lambda received: received == b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    connection.send(OK)
    assert client.outcome(1).body == b"ok"


def test_a_body_with_a_length_keeps_it(client: Client, scripted: Origin) -> None:
    client.send(client.headers(1, (*POST, ("content-length", "11")), ends=False), data(1, b"hello world"))
    connection, lines = head_of(scripted)
    assert "content-length: 11" in lines
    scripted.read_until(lambda received: received == b"hello world")
    connection.send(OK)
    assert client.outcome(1).status == 200
    client.send(client.headers(3, POST))
    assert "content-length: 0" in head_of(scripted)[1]


def test_trailers_of_an_answer_arrive_and_those_of_a_request_do_not(client: Client, scripted: Origin) -> None:
    trailer = HeadersFrame(
        1, client.pack((("x-sum", "9"), ("authorization", "z"))), flags=["END_HEADERS", "END_STREAM"]
    )
    client.send(client.headers(1, POST, ends=False), data(1, b"hello", ends=False), trailer)
    connection = scripted.read_until(lambda received: received.endswith(b"0\r\n\r\n"))
    assert b"x-sum" not in connection.received
    connection.send(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
        b"grpc-status: 0\r\nSet-Cookie: a=b\r\n\r\n"
    )
    seen = client.outcome(1)
    assert (seen.body, seen.heads[1:], seen.ended) == (b"ok", [{"grpc-status": "0"}], True)


def test_messages_go_both_ways_on_one_stream_before_either_ends(client: Client, scripted: Origin) -> None:
    client.send(client.headers(1, POST, ends=False), data(1, b"one", ends=False))
    connection, _ = head_of(scripted)
    scripted.read_until(lambda received: received == b"3\r\none\r\n")
    connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nuno\r\n")
    client.read_until(lambda: client.streams[1].body == b"uno")
    client.send(data(1, b"two"))
    scripted.read_until(lambda received: received.endswith(b"3\r\ntwo\r\n0\r\n\r\n"))
    connection.send(b"3\r\ndos\r\n0\r\n\r\n")
    assert client.outcome(1).body == b"unodos"


def test_interim_answers_pass(client: Client, scripted: Origin) -> None:
    client.send(client.headers(1, (*POST, ("expect", "100-continue"), ("content-length", "5")), ends=False))
    connection, lines = head_of(scripted)
    assert "expect: 100-continue" in lines
    connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    client.read_until(lambda: client.streams[1].status == 100)
    client.send(data(1, b"hello"))
    scripted.read_until(lambda received: received == b"hello")
    connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    seen = client.outcome(1)
    assert [head[":status"] for head in seen.heads] == ["100", "103", "200"]


def test_a_stream_that_is_given_up_ends_its_request_alone(
    proxy: penstock.Proxy, client: Client, scripted: Origin
) -> None:
    client.send(client.headers(1))
    connection, _ = head_of(scripted)
    client.send(reset(1))
    connection.read_until(lambda _: False)
    wait_for(lambda: proxy.stats().rejected["client_closed"] == 1, "the request that was given up is counted")
    assert client.ask(3, OWN).body == b"own"


def test_an_answer_that_breaks_off_is_no_whole_one(client: Client, scripted: Origin) -> None:
    for number, head in ((1, b"Content-Length: 9"), (3, b"Transfer-Encoding: chunked")):
        client.send(client.headers(number))
        connection, _ = head_of(scripted)
        connection.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n")
        client.read_until(lambda number=number: client.streams[number].status == 200)
        connection.reset()
        seen = client.outcome(number)
        assert (seen.ended, seen.reset) == (False, 2), head
    assert client.ask(5, OWN).status == 200


def test_an_answer_before_the_body_was_sent_ends_the_stream_alone(client: Client, scripted: Origin) -> None:
    client.send(client.headers(1, POST, ends=False), data(1, b"hello", ends=False))
    connection, _ = head_of(scripted)
    connection.send(OK)
    seen = client.outcome(1)
    client.read_until(lambda: seen.reset is not None)
    assert (seen.body, seen.reset) == (b"ok", 0)
    connection.read_until(lambda _: False)
    assert client.ask(3, OWN).status == 200


def test_nobody_is_sent_more_than_its_window_and_the_endpoint_waits(proxy: penstock.Proxy, scripted: Origin) -> None:
    with Client(proxy.address(), window=1000) as client:
        client.send(client.headers(1), client.headers(3, OWN))
        connection, _ = head_of(scripted)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE, b"x" * LARGE)
        assert client.outcome(3).body == b"own"
        client.read_until(lambda: len(client.streams[1].body) == 1000)
        client.send(room(1, LARGE), room(0, LARGE))
        seen = client.outcome(1)
        assert (len(seen.body), seen.ended) == (LARGE, True)


def test_a_client_may_send_on_only_as_the_endpoint_takes_it(proxy: penstock.Proxy, scripted: Origin) -> None:
    piece, most = 16_384, 64 << 20
    with Client(proxy.address()) as client:
        client.send(client.headers(1, (*POST, ("content-length", str(most))), ends=False))
        connection, _ = head_of(scripted)
        client.read_until(lambda: client.settings)
        window, sent = client.settings[SettingsFrame.INITIAL_WINDOW_SIZE], 0
        assert window == 262_143
        with contextlib.suppress(TimedOutError):
            # What the systems between keep is much, but not all of it.
            while sent < most:
                needed = sent + piece
                client.read_until(lambda needed=needed: window + client.credit[1] >= needed, 1.0)
                client.send(data(1, b"x" * piece, ends=False))
                sent = needed
        assert piece < sent < most
        taken = len(connection.received)
        while taken < sent:
            connection.received.clear()
            connection.read_some()
            taken += len(connection.received)
        assert taken == sent
        client.read_until(lambda: window + client.credit[1] >= sent + piece)
        # The connection's window was given back as far as the stream's.
        assert client.credit[0] >= client.credit[1]


def test_draining_lets_streams_end_and_refuses_none_that_was_sent(scripted: Origin) -> None:
    with serving(scripted) as running, Client(running.address()) as client:
        client.send(client.headers(1))
        connection, _ = head_of(scripted)
        draining = threading.Thread(target=running.drain)
        draining.start()
        client.read_until(lambda: client.goaways)
        assert client.goaways[0] == (2**31 - 1, 0)
        client.read_until(lambda: len(client.goaways) == 2)
        assert client.goaways[1] == (1, 0)
        connection.send(OK)
        assert client.outcome(1).body == b"ok"
        assert client.end() == 0
        draining.join(10)
        assert not draining.is_alive()


def test_a_listener_that_is_gone_says_goodbye(scripted: Origin) -> None:
    with serving(scripted) as running, Client(running.address()) as client:
        assert client.ask(1, OWN).status == 200
        running.apply({"listeners": {"other": {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {"body": "x"}}]})
        assert client.end() == 0


def test_requests_of_one_connection_can_be_limited(scripted: Origin) -> None:
    with serving(scripted, limits={"requests": 2}) as running, Client(running.address()) as client:
        assert [client.ask(number, OWN).status for number in (1, 3)] == [200, 200]
        assert client.end() == 0


def test_streams_at_once_are_limited(scripted: Origin) -> None:
    with serving(scripted, limits={"streams": 2}) as running, Client(running.address()) as client:
        client.read_until(lambda: client.settings)
        assert client.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 2
        client.send(client.headers(1), client.headers(3), client.headers(5))
        # REFUSED_STREAM: it may be sent again as it is.
        assert client.outcome(5).reset == 7
        for number in (1, 2):
            scripted.connection(number).send(OK)
        assert [client.outcome(number).body for number in (1, 3)] == [b"ok", b"ok"]
        assert client.ask(7, OWN).status == 200


def test_heads_beyond_the_limits_are_answered(scripted: Origin) -> None:
    with (
        serving(scripted, limits={"head": "2KB", "fields": 10, "uri": "256B"}) as running,
        Client(running.address()) as client,
    ):
        path = {":path": "/" + "x" * 300}
        for number, (fields, status) in enumerate(
            (
                ((*GET, *((f"x-{at}", "1") for at in range(11))), 431),
                ((*GET, ("x", "1" * 2048)), 431),
                (tuple({**dict(GET), **path}.items()), 414),
                (((":method", "TRACE"), *GET[1:]), 405),
                ((*GET, ("expect", "magic")), 417),
            )
        ):
            assert client.ask(2 * number + 1, fields).status == status, fields
        assert client.ask(21, OWN).status == 200
    assert scripted.accept_all() == []


def test_an_idle_connection_ends(scripted: Origin) -> None:
    with serving(scripted, timeouts={"idle": "100ms", "head": "100ms"}) as running:
        with Client(running.address()) as client:
            assert client.ask(1, OWN).status == 200
            assert client.end() == 0
        with Client(running.address()) as client:
            assert client.end() == 0
        silent = connect(running.address())
        silent.send(b"PRI * HTTP/2.0\r\n\r\nSM")
        silent.read_until(lambda _: False)
        assert silent.ended


def test_the_log_says_what_was_spoken(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    config = {
        "listeners": {"web": {"bind": "127.0.0.1:0", "h2c": True}},
        "routes": [{"respond": {"body": "own"}}],
        "log": {"access": {"format": "json", "to": str(log)}},
    }
    with penstock.Proxy(config) as running, Client(running.address()) as client:
        assert client.ask(1, OWN).status == 200
        assert client.ask(3, (*OWN, ("host", "other.example"))).reset == 1
        wait_for(lambda: log.exists() and log.read_text().count("\n") == 2, "both are logged")
    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(record["status"], record["cause"]) for record in records] == [(200, ""), (400, "bad_host")]
    assert records[0]["version"] == "2.0"


def test_the_preface_is_no_request_where_it_is_not_asked_for(scripted: Origin) -> None:
    with serving(scripted, h2c=False) as running:
        silent = connect(running.address())
        silent.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        silent.read_until(lambda _: False)
        assert silent.received.startswith(b"HTTP/1.1 505 ")


def test_a_reload_takes_h2_from_new_connections_alone(tmp_path: Path) -> None:
    certificate = write(tmp_path, "shop", "shop.example")
    tls = {"certificates": [certificate]}
    config = {"listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}}, "routes": [{"respond": {"body": "own"}}]}
    trust = context()
    trust.set_alpn_protocols(["h2"])
    with penstock.Proxy(config) as running, Client(running.address(), trust=trust) as client:
        assert client.ask(1, OWN).body == b"own"
        changed = {
            **config,
            "listeners": {"web": {"bind": "127.0.0.1:0", "tls": {**tls, "alpn": ["http/1.1"]}}},
        }
        running.apply(changed)
        assert client.ask(3, OWN).body == b"own"
        with pytest.raises(ssl.SSLError):
            Client(running.address(), trust=trust)


def test_a_stream_outlives_the_listener_that_it_came_by(scripted: Origin) -> None:
    with serving(scripted) as running, Client(running.address()) as client:
        client.send(client.headers(1))
        connection, _ = head_of(scripted)
        # Two reloads: the configuration that the stream began with is not even the one before the running one.
        for name in ("other", "third"):
            running.apply({"listeners": {name: {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {"body": "x"}}]})
        client.read_until(lambda: len(client.goaways) == 2)
        connection.send(OK)
        assert client.outcome(1).body == b"ok"
        assert client.end() == 0
