"""gRPC with its own library on both sides: every kind of call, what ends one, and what we say by ourselves."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from calls import PIECE, Shop, call, dial
from terminal import ROOT
from tests.certificates import authority, write
from tests.product.waiting import wait_for
from tests.safety.base_line import resident

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODE = grpc.StatusCode
MEBIBYTE = 1 << 20


def configuration(*shops: Shop, routes: list[Any] | None = None, **upstream: Any) -> dict[str, Any]:
    return {
        "listeners": {"calls": {"bind": "127.0.0.1:0", "h2c": True}},
        "upstreams": {"shop": {"endpoints": [shop.address for shop in shops], "protocol": "h2c", **upstream}},
        "routes": routes or [{"upstream": "shop"}],
        "engine": {"workers": 1, "drain_timeout": "10s"},
    }


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as running:
        yield running


@pytest.fixture
def proxy(shop: Shop) -> Iterator[penstock.Proxy]:
    with penstock.Proxy(configuration(shop)) as running:
        yield running


@pytest.fixture
def channel(proxy: penstock.Proxy) -> Iterator[grpc.Channel]:
    with dial(proxy.address()) as open_channel:
        yield open_channel


def all_kinds(channel: grpc.Channel) -> None:
    """One call of each kind, with what must come of it."""
    said, done = call(channel, "Get").with_call(
        b"it", metadata=(("x-token", "t"), ("x-raw-bin", b"\0\x01")), timeout=10
    )
    assert said == b"got it"
    assert ("x-first", "1") in done.initial_metadata()
    assert ("x-last", "2") in done.trailing_metadata()
    assert list(call(channel, "List")(b"100", timeout=10)) == [b"%d" % number for number in range(100)]
    assert call(channel, "Sum")(iter([b"a", b"bc", b""]), timeout=10) == b"3"
    waiting: Queue[bytes | None] = Queue()
    talk = call(channel, "Chat")(iter(waiting.get, None), timeout=10)
    for word in (b"one", b"two", PIECE):
        waiting.put(word)
        assert next(talk) == b"re: " + word
    waiting.put(None)
    assert list(talk) == []


def test_every_kind_of_call_passes(shop: Shop, channel: grpc.Channel) -> None:
    all_kinds(channel)
    assert [method for method, *_ in shop.seen] == ["Get", "List", "Sum", "Chat"]
    assert shop.seen[0][1]["x-token"] == "t"


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_every_kind_of_call_passes_with_tls(tmp_path: Path, protocol: str) -> None:
    pair = write(tmp_path, "shop", "shop.example")
    ca = authority().cert_pem.bytes()
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    key, cert = ((tmp_path / f"shop.{kind}").read_bytes() for kind in ("key", "pem"))
    with Shop(grpc.ssl_server_credentials([(key, cert)])) as shop:
        config = configuration(
            shop,
            protocol=protocol,
            tls={"ca": str(tmp_path / "ca.pem"), "name": "shop.example"},
            health_check={"grpc": ""},
        )
        config["listeners"]["calls"] = {"bind": "127.0.0.1:0", "tls": {"certificates": [pair]}}
        with penstock.Proxy(config) as proxy, dial(proxy.address(), ca) as channel:
            all_kinds(channel)


def test_failures_of_a_server_pass_as_they_are(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        call(channel, "Get")(b"fail", timeout=10)
    error: Any = failure.value
    assert (error.code(), error.details()) == (CODE.FAILED_PRECONDITION, "nicht möglich: 100 %\n")
    assert {("x-why", "because"), ("x-why-bin", b"\0\xff")} <= set(error.trailing_metadata())
    with pytest.raises(grpc.RpcError) as failure:
        channel.unary_unary("/shop.Cart/Unknown")(b"", timeout=10)
    assert failure.value.code() == CODE.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_cancellation_and_deadlines_reach_the_server(shop: Shop, channel: grpc.Channel) -> None:
    talk = call(channel, "Hang")(b"hello", timeout=30)
    assert next(talk) == b"hello"
    # What is left of the time that the client gives.
    assert 20 < (shop.seen[0][2] or 0) <= 30
    talk.cancel()
    assert shop.cancelled.wait(10)
    shop.cancelled.clear()
    with pytest.raises(grpc.RpcError) as failure:
        next(call(channel, "Hang")(b"", timeout=0.3))
    assert failure.value.code() == CODE.DEADLINE_EXCEEDED  # type: ignore[attr-defined]
    assert shop.cancelled.wait(10)


def test_large_streams_take_little_memory(channel: grpc.Channel) -> None:
    """100 MB each way, and a client that reads slowly holds the server back."""
    count = 1600
    assert call(channel, "Sum")(iter([PIECE] * 16), timeout=60) == b"%d" % (16 * len(PIECE))
    before = resident()
    sent = call(channel, "Sum")((PIECE for _ in range(count)), timeout=120)
    assert sent == b"%d" % (count * len(PIECE))
    assert sum(len(piece) for piece in call(channel, "Flood")(b"%d" % count, timeout=120)) == count * len(PIECE)
    # Both ends are in this process, too.
    assert resident() - before < 48 * MEBIBYTE


def test_a_server_that_dies_in_a_stream_is_an_error(proxy: penstock.Proxy, channel: grpc.Channel, shop: Shop) -> None:
    talk = call(channel, "Hang")(b"hello", timeout=30)
    assert next(talk) == b"hello"
    shop.server.stop(0)
    with pytest.raises(grpc.RpcError) as failure:
        list(talk)
    assert failure.value.code() != CODE.OK  # type: ignore[attr-defined]
    with pytest.raises(grpc.RpcError) as failure:
        call(channel, "Get")(b"", timeout=10)
    assert failure.value.code() == CODE.UNAVAILABLE  # type: ignore[attr-defined]


def test_a_stream_outlives_a_reload_and_ends_before_a_drain(proxy: penstock.Proxy, shop: Shop) -> None:
    waiting: Queue[bytes | None] = Queue()
    with dial(proxy.address()) as channel, ThreadPoolExecutor() as pool:
        talk = call(channel, "Chat")(iter(waiting.get, None), timeout=30)
        waiting.put(b"one")
        assert next(talk) == b"re: one"
        proxy.apply(configuration(shop, limits={"streams": 5}))
        waiting.put(b"two")
        assert next(talk) == b"re: two"
        draining = pool.submit(proxy.drain, 10.0)
        waiting.put(b"three")
        assert next(talk) == b"re: three"
        waiting.put(None)
        assert list(talk) == []
        assert draining.result()


OWN = {
    "/s/401": (401, CODE.UNAUTHENTICATED),
    "/s/403": (403, CODE.PERMISSION_DENIED),
    "/s/404": (404, CODE.UNIMPLEMENTED),
    "/s/429": (429, CODE.RESOURCE_EXHAUSTED),
    "/s/400": (400, CODE.INTERNAL),
    "/s/500": (500, CODE.INTERNAL),
    "/s/503": (503, CODE.UNAVAILABLE),
    "/s/504": (504, CODE.DEADLINE_EXCEEDED),
}


def test_what_we_answer_ourselves_is_told_in_grpcs_way(shop: Shop, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    own = [
        {"match": f'path == "{path}"', "respond": {"status": status, "body": "no"}} for path, (status, _) in OWN.items()
    ]
    slow = {"match": 'path == "/shop.Cart/Hang"', "upstream": "shop", "timeouts": {"total": "300ms"}}
    closed = {"match": 'path == "/m/m"', "upstream": "shop", "maintenance": {"on": True}}
    config = configuration(shop, routes=[*own, slow, closed, {"match": 'path == "/gone/x"', "upstream": "gone"}])
    config["upstreams"]["gone"] = {"endpoints": ["127.0.0.1:1"], "protocol": "h2c"}
    config["log"] = {"access": {"format": "json", "to": str(log)}}
    with penstock.Proxy(config) as proxy, dial(proxy.address()) as channel:
        others = {
            "/gone/x": CODE.UNAVAILABLE,
            "/m/m": CODE.UNAVAILABLE,
            "/no/route": CODE.UNIMPLEMENTED,
            "/shop.Cart/Hang": CODE.DEADLINE_EXCEEDED,
        }
        for path, code in {**{path: code for path, (_, code) in OWN.items()}, **others}.items():
            with pytest.raises(grpc.RpcError) as failure:
                channel.unary_unary(path)(b"", timeout=10)
            error: Any = failure.value
            assert error.code() == code, path
            # It is ours, not what the library makes of a status of HTTP.
            assert "Received http2" not in error.details(), path
            assert "HTTP" not in error.details(), path
        wait_for(lambda: len(log.read_text("utf-8").splitlines()) == len(OWN) + 4, "all are recorded")
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert [record["status"] for record in records] == [*(status for status, _ in OWN.values()), 502, 503, 404, 504]


def test_a_call_beyond_a_limit_ends_on_both_sides(shop: Shop) -> None:
    config = configuration(shop)
    config["listeners"]["calls"]["limits"] = {"body": "1MB"}
    with penstock.Proxy(config) as proxy, dial(proxy.address()) as channel:
        with pytest.raises(grpc.RpcError) as failure:
            call(channel, "Sum")((PIECE for _ in range(100)), timeout=20)
        assert failure.value.code() == CODE.RESOURCE_EXHAUSTED  # type: ignore[attr-defined]
        # With an answer under way there is nothing left to say but that it is over.
        with pytest.raises(grpc.RpcError) as failure:
            list(call(channel, "Chat")((PIECE for _ in range(100)), timeout=20))
        assert failure.value.code() == CODE.INTERNAL  # type: ignore[attr-defined]


def test_a_server_that_does_not_serve_gets_no_calls(shop: Shop) -> None:
    with Shop() as other:
        check = {"grpc": "", "interval": "100ms", "timeout": "1s", "fall": 1, "rise": 1}
        with penstock.Proxy(configuration(shop, other, health_check=check)) as proxy, dial(proxy.address()) as channel:
            other.serves(False)
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[1].state == "down", "it is down")
            before = len(other.seen)
            for _ in range(20):
                assert call(channel, "Get")(b"it", timeout=10) == b"got it"
            assert len(other.seen) == before
            other.serves(True)
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[1].state == "up", "it is up")


def test_the_example_serves_calls(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "grpc.toml"
    with Shop() as other:
        text = (ROOT / "examples" / "grpc.toml").read_text("utf-8").replace('":8080"', '"127.0.0.1:0"')
        path.write_text(text.replace("127.0.0.1:9000", shop.address).replace("127.0.0.1:9001", other.address), "utf-8")
        with penstock.Proxy(path) as proxy, dial(proxy.address()) as channel:
            all_kinds(channel)
            with pytest.raises(grpc.RpcError) as failure:
                channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)
            assert failure.value.code() == CODE.PERMISSION_DENIED  # type: ignore[attr-defined]


def test_calls_of_one_connection_are_balanced(shop: Shop) -> None:
    with Shop() as other, penstock.Proxy(configuration(shop, other, balance="round_robin")) as proxy:
        with dial(proxy.address()) as channel:
            for _ in range(10):
                call(channel, "Get")(b"it", timeout=10)
        assert (len(shop.seen), len(other.seen)) == (5, 5)
        assert [endpoint.connects for endpoint in proxy.stats().upstreams[0].endpoints] == [1, 1]
