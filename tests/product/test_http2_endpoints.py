"""HTTP/2 to endpoints: what they are asked, what becomes of their answers, and how many connections that takes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hyperframe.frame import GoAwayFrame, SettingsFrame
from tests.http2 import GET, POST, Client, Endpoint, configuration, data, in_front_of, reset, room
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, Refusal, TimedOutError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import penstock
    from penstock.engine import EndpointStats

CANCEL, REFUSED_STREAM, INTERNAL_ERROR, NO_ERROR = 8, 7, 2, 0
STREAMS = {SettingsFrame.MAX_CONCURRENT_STREAMS: 1}


@pytest.fixture
def proxy(scripted: Origin) -> Iterator[penstock.Proxy]:
    with in_front_of(scripted) as running:
        yield running


@pytest.fixture
def client(proxy: penstock.Proxy) -> Iterator[Client]:
    with Client(proxy.address()) as talking:
        yield talking


def of(proxy: penstock.Proxy) -> EndpointStats:
    """What is counted of the first endpoint."""
    return proxy.stats().upstreams[0].endpoints[0]


def test_a_request_has_one_form_for_endpoints(scripted: Origin, client: Client) -> None:
    fields = (*POST[:3], (":path", "/a?b=c"), ("x-token", "t"), ("te", "trailers"), ("x-forwarded-for", "6.6.6.6"))
    client.send(client.headers(1, fields, ends=False), data(1, b"hello"))
    endpoint = Endpoint(scripted)
    asked = endpoint.request()
    assert asked.ended
    assert asked.body == b"hello"
    head = asked.heads[0]
    expected = {":method": "POST", ":scheme": "http", ":authority": "shop.example", ":path": "/a?b=c"}
    assert {name: head.pop(name) for name in expected} == expected
    assert len(head.pop("x-request-id")) == 32
    port = head.pop("x-forwarded-port")
    assert port.isdigit()
    assert head == {
        "x-token": "t",
        "te": "trailers",
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "shop.example",
        "via": "2.0 penstock",
    }
    endpoint.answer(1, b"one", b"two", fields=(("x-answer", "yes"),), trailers=(("x-sum", "6"), ("set-cookie", "a")))
    answered = client.outcome(1)
    assert (answered.status, answered.body) == (200, b"onetwo")
    assert answered.heads[0]["x-answer"] == "yes"
    assert answered.heads[0]["via"] == "2.0 penstock"
    # What would set state or route is no trailer (safety.md R1).
    assert answered.heads[-1] == {"x-sum": "6"}


def test_trailers_of_a_request_reach_the_endpoint(scripted: Origin, client: Client) -> None:
    trailers = client.headers(1, (("x-sum", "5"), ("authorization", "Basic x")))
    client.send(client.headers(1, POST, ends=False), data(1, b"hello", ends=False), trailers)
    endpoint = Endpoint(scripted)
    asked = endpoint.request()
    assert (asked.body, asked.heads[-1], asked.ended) == (b"hello", {"x-sum": "5"}, True)
    endpoint.answer(1)
    assert client.outcome(1).status == 200


def test_clients_of_http_1_are_served(scripted: Origin, proxy: penstock.Proxy) -> None:
    with ThreadPoolExecutor() as pool, httpx.Client() as client:
        asking = pool.submit(client.post, proxy.url() + "/`x`?y=`", content=iter([b"hel", b"lo"]))
        endpoint = Endpoint(scripted)
        asked = endpoint.request()
        assert (asked.body, asked.heads[0][":path"]) == (b"hello", "/%60x%60?y=%60")
        assert "transfer-encoding" not in asked.heads[0]
        endpoint.answer(1, b"hello", b" there")
        answered = asking.result()
        assert (answered.status_code, answered.text, answered.headers["via"]) == (200, "hello there", "2.0 penstock")
        asking = pool.submit(client.get, proxy.url() + "/")
        assert endpoint.request(3).ended
        endpoint.answer(3, b"12345", fields=(("content-length", "5"),))
        assert asking.result().headers["content-length"] == "5"
        for number, (method, status) in enumerate([("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 404)]):
            asking = pool.submit(client.request, method, proxy.url() + "/")
            stream = 5 + 2 * number
            endpoint.request(stream)
            endpoint.answer(stream, status=status)
            assert (asking.result().status_code, asking.result().content) == (status, b"")


def test_interim_answers_and_expectations_pass(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1, (*POST, ("expect", "100-continue"), ("content-length", "5")), ends=False))
    endpoint = Endpoint(scripted)
    assert endpoint.head()["expect"] == "100-continue"
    endpoint.send(
        endpoint.headers(1, ((":status", "103"), ("link", "</a>")), ends=False),
        endpoint.headers(1, ((":status", "100"),), ends=False),
    )
    client.read_until(lambda: len(client.streams[1].heads) == 2)
    assert [head[":status"] for head in client.streams[1].heads] == ["103", "100"]
    client.send(data(1, b"hello"))
    assert endpoint.request().body == b"hello"
    endpoint.answer(1)
    assert client.outcome(1).status == 200


def test_requests_share_a_connection_up_to_the_limit(scripted: Origin) -> None:
    with in_front_of(scripted, limits={"streams": 2}) as proxy, Client(proxy.address()) as client:
        for stream in (1, 3, 5):
            client.send(client.headers(stream))
        first, second = Endpoint(scripted), Endpoint(scripted, 2)
        for endpoint, stream in ((first, 1), (first, 3), (second, 1)):
            endpoint.request(stream)
            endpoint.answer(stream, b"ok")
        assert [client.outcome(stream).body for stream in (1, 3, 5)] == [b"ok"] * 3
        # The next goes where there is room, the oldest first.
        client.send(client.headers(7))
        first.request(5)
        first.answer(5, b"more")
        assert client.outcome(7).body == b"more"
        assert of(proxy).connects == 2


def test_the_limit_of_an_endpoint_is_kept(scripted: Origin, proxy: penstock.Proxy, client: Client) -> None:
    client.send(client.headers(1), client.headers(3))
    first = Endpoint(scripted, settings=STREAMS)
    second = Endpoint(scripted, 2, settings=STREAMS)
    for endpoint in (first, second):
        endpoint.request()
        endpoint.answer(1, b"ok")
    assert [client.outcome(stream).body for stream in (1, 3)] == [b"ok"] * 2


def test_a_burst_waits_for_what_is_being_opened(scripted: Origin, proxy: penstock.Proxy) -> None:
    with Client(proxy.address()) as one, Client(proxy.address()) as other:
        for client in (one, other):
            client.send(*(client.headers(stream) for stream in range(1, 121, 2)))
        first, second = Endpoint(scripted), Endpoint(scripted, 2)
        first.read_until(lambda: len(first.streams) == 100)
        second.read_until(lambda: len(second.streams) == 20)
        for endpoint in (first, second):
            for stream in list(endpoint.streams):
                endpoint.answer(stream, b"ok")
        for client in (one, other):
            assert {client.outcome(stream).body for stream in range(1, 121, 2)} == {b"ok"}
        assert (of(proxy).connects, of(proxy).requests) == (2, 120)


def test_a_client_that_gives_up_is_passed_on(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1, POST, ends=False))
    endpoint = Endpoint(scripted)
    endpoint.head(1)
    client.send(client.headers(3))
    endpoint.request(3)
    client.send(reset(1))
    assert endpoint.request(1).reset == CANCEL
    endpoint.answer(3, b"ok")
    assert client.outcome(3).body == b"ok"


def test_an_answer_that_breaks_off_is_no_whole_one(scripted: Origin, proxy: penstock.Proxy, client: Client) -> None:
    client.send(client.headers(1))
    endpoint = Endpoint(scripted)
    endpoint.request(1)
    client.send(client.headers(3))
    endpoint.request(3)
    endpoint.send(endpoint.headers(1, ((":status", "200"),), ends=False), data(1, b"half", ends=False))
    client.read_until(lambda: client.streams[1].body)
    endpoint.send(reset(1))
    assert (client.outcome(1).reset, client.streams[1].body) == (INTERNAL_ERROR, b"half")
    endpoint.send(endpoint.headers(3, ((":status", "200"),), ends=False), data(3, b"half", ends=False))
    client.read_until(lambda: client.streams[3].body)
    endpoint.close()
    assert client.outcome(3).reset == INTERNAL_ERROR
    # Neither was asked for again (safety.md 164).
    assert of(proxy).connects == 1


def test_an_answer_may_come_before_the_request_is_whole(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1, POST, ends=False))
    endpoint = Endpoint(scripted)
    endpoint.head()
    endpoint.answer(1, b"enough", status=413)
    endpoint.send(reset(1, NO_ERROR))
    answered = client.outcome(1)
    assert (answered.status, answered.body, answered.ended) == (413, b"enough", True)


@pytest.mark.parametrize("fields", [GET, POST])
def test_what_an_endpoint_refuses_is_asked_elsewhere(scripted: Origin, fields: Any) -> None:
    with (
        closing(Origin()) as other,
        in_front_of(scripted, other, balance="first") as proxy,
        Client(proxy.address()) as client,
    ):
        body = None if fields is GET else b"hello"
        client.send(client.headers(1, fields, ends=body is None), *([data(1, body)] if body else []))
        first = Endpoint(scripted)
        first.request()
        first.send(reset(1, REFUSED_STREAM))
        second = Endpoint(other)
        assert second.request().body == (body or b"")
        second.answer(1, b"ok")
        assert client.outcome(1).body == b"ok"


def test_the_only_endpoint_is_asked_again_and_not_for_ever(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1, POST, ends=False), data(1, b"x"))
    endpoint = Endpoint(scripted)
    for stream in (1, 3, 5):
        assert endpoint.request(stream).ended
        endpoint.send(reset(stream, REFUSED_STREAM))
    assert client.outcome(1).status == 503
    with pytest.raises(TimedOutError):
        endpoint.read_until(lambda: endpoint.streams[7].heads, 0.3)


def test_a_post_that_may_have_been_done_is_not_repeated(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1, POST, ends=False), data(1, b"x"))
    endpoint = Endpoint(scripted)
    endpoint.request()
    endpoint.send(reset(1, INTERNAL_ERROR))
    assert client.outcome(1).status == 502


def test_a_get_may_be_repeated_elsewhere(scripted: Origin) -> None:
    with (
        closing(Origin()) as other,
        in_front_of(scripted, other, balance="first") as proxy,
        Client(proxy.address()) as client,
    ):
        client.send(client.headers(1))
        first = Endpoint(scripted)
        first.request()
        first.send(reset(1, INTERNAL_ERROR))
        second = Endpoint(other)
        second.request()
        second.answer(1, b"ok")
        assert client.outcome(1).body == b"ok"


def test_what_goaway_leaves_out_goes_over_a_new_connection(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1))
    old = Endpoint(scripted)
    old.request(1)
    client.send(client.headers(3, POST, ends=False), data(3, b"x"))
    old.request(3)
    old.send(GoAwayFrame(0, last_stream_id=1))
    new = Endpoint(scripted, 2)
    assert new.request(1).body == b"x"
    new.answer(1, b"new")
    assert client.outcome(3).body == b"new"
    # What the old one has taken it answers; nothing more is asked of it.
    client.send(client.headers(5))
    new.request(3)
    new.answer(3, b"newer")
    old.answer(1, b"old")
    assert [client.outcome(stream).body for stream in (1, 5)] == [b"old", b"newer"]


def test_a_connection_that_ended_unused_costs_no_request(scripted: Origin, proxy: penstock.Proxy) -> None:
    with Client(proxy.address()) as client:
        for stream in (1, 3, 5):
            client.send(client.headers(stream, POST, ends=False), data(stream, b"x"))
            endpoint = Endpoint(scripted, (stream + 1) // 2)
            endpoint.request()
            endpoint.answer(1, b"ok")
            assert client.outcome(stream).body == b"ok"
            endpoint.send(GoAwayFrame(0, last_stream_id=1))
            endpoint.close()


def test_a_new_connection_is_used_whatever_else_it_has_to_say(scripted: Origin, proxy: penstock.Proxy) -> None:
    """It was taken for one that is about to end, and another was made beside it."""
    with Client(proxy.address()) as client:
        client.send(client.headers(1))
        # More than is read before the request is sent: frames of a kind that nobody knows (RFC 9113 §4.1).
        unknown = b"\x00\x40\x00\xfa\x00\x00\x00\x00\x00" + bytes(16_384)
        endpoint = Endpoint(scripted, behind=20 * unknown)
        endpoint.request()
        endpoint.answer(1, b"ok")
        assert client.outcome(1).body == b"ok"
    assert len(scripted.accept_all()) == 1


def test_without_idle_connections_each_is_closed_with_its_last_request(scripted: Origin) -> None:
    limits = {"idle_connections": 0}
    with in_front_of(scripted, limits=limits) as proxy, Client(proxy.address()) as client:
        # One by one: of two that come together either may be the endpoint's first.
        client.send(client.headers(1))
        shared = Endpoint(scripted)
        shared.request(1)
        client.send(client.headers(3))
        shared.request(3)
        shared.answer(1, b"ok")
        assert client.outcome(1).body == b"ok"
        client.send(client.headers(5))
        shared.request(5)
        for stream in (3, 5):
            shared.answer(stream, b"ok")
            assert client.outcome(stream).body == b"ok"
        # A look once a second would let the next have it, or the one behind that.
        for number in (2, 3, 4):
            client.send(client.headers(3 + 2 * number))
            endpoint = Endpoint(scripted, number)
            endpoint.request()
            endpoint.answer(1, b"ok")
            assert client.outcome(3 + 2 * number).body == b"ok"
        assert shared.end() == NO_ERROR


def test_bodies_wait_for_who_takes_them(scripted: Origin, client: Client) -> None:
    client.send(client.headers(1, POST, ends=False))
    endpoint = Endpoint(scripted, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0})
    endpoint.head()
    client.read_until(lambda: client.settings)
    for _ in range(16):
        client.send(data(1, bytes(16_000), ends=False))
    # Of 256 KB that the client may send nothing was taken, so it may send no more.
    with pytest.raises(TimedOutError):
        client.read_until(lambda: client.credit[1] > 0, 0.3)
    endpoint.send(room(1, 1 << 20), room(0, 1 << 20))
    client.read_until(lambda: client.credit[1] >= 240_000)
    client.send(data(1, b"end"))
    assert len(endpoint.request().body) == 256_003
    # Nobody reads the answer: the endpoint is told to wait.
    endpoint.send(endpoint.headers(1, ((":status", "200"),), ends=False))
    for _ in range(8):
        endpoint.send(data(1, bytes(16_000), ends=False))
    client.read_until(lambda: len(client.streams[1].body) >= 60_000)
    with pytest.raises(TimedOutError):
        endpoint.read_until(lambda: endpoint.credit[1] >= 2 * 65_536, 0.3)
    client.send(room(1, 1 << 20), room(0, 1 << 20))
    endpoint.send(data(1, b"end"))
    assert len(client.outcome(1).body) == 128_003


def test_records_and_metrics_are_of_requests(scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with (
        in_front_of(scripted, log=str(log), limits={"requests": 2}) as proxy,
        Client(proxy.address()) as client,
    ):
        client.send(client.headers(1))
        endpoint = Endpoint(scripted)
        endpoint.request(1)
        client.send(client.headers(3))
        endpoint.request(3)
        wait_for(lambda: of(proxy).in_flight == 2, "both are counted")
        assert client.ask(5).status == 503
        endpoint.answer(1)
        endpoint.send(reset(3, INTERNAL_ERROR))
        assert (client.outcome(1).status, client.outcome(3).status) == (200, 502)
        wait_for(lambda: of(proxy).in_flight == 0, "nothing is left")
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [record.get("cause") for record in records] == ["upstream_full", "", "upstream_reset"]


def test_an_endpoint_without_http_2_says_so(scripted: Origin, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    refusal = Refusal()
    with in_front_of(scripted, log=str(log)) as proxy, Client(proxy.address()) as client:
        client.send(client.headers(1))
        connection = scripted.connection(1)
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        assert client.outcome(1).status == 502
    with in_front_of(refusal.address) as proxy, Client(proxy.address()) as client:
        assert client.ask(1).status == 502
    refusal.close()
    record = json.loads(log.read_text("utf-8").splitlines()[0])
    assert (record["cause"], record["reason"]) == ("connect_failed", "the endpoint does not speak HTTP/2")


def test_what_is_under_way_outlives_a_reload_and_a_drain(scripted: Origin) -> None:
    proxy = in_front_of(scripted)
    with proxy, Client(proxy.address()) as client, ThreadPoolExecutor() as pool:
        client.send(client.headers(1))
        endpoint = Endpoint(scripted)
        endpoint.request()
        endpoint.send(endpoint.headers(1, ((":status", "200"),), ends=False), data(1, b"a", ends=False))
        client.read_until(lambda: client.streams[1].body == b"a")
        proxy.apply({**configuration(scripted), "dns": {"servers": ["127.0.0.1"]}})
        client.send(client.headers(3))
        endpoint.request(3)
        endpoint.answer(3, b"ok")
        assert client.outcome(3).body == b"ok"
        # Another protocol is another connection, and the one that there is ends with what is under way.
        proxy.apply(configuration(scripted, protocol="http1"))
        endpoint.send(data(1, b"b", ends=False))
        client.read_until(lambda: client.streams[1].body == b"ab")
        draining = pool.submit(proxy.drain, 5.0)
        client.read_until(lambda: client.goaways)
        endpoint.send(data(1, b"c"))
        assert client.outcome(1).body == b"abc"
        assert draining.result()
        assert endpoint.end() == NO_ERROR
