"""Copies of requests to a further upstream: what they are, and that the first never waits for them."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from penstock.engine.stats import MirrorStats
    from product import Running

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FITS = 64 * 1024


@dataclass
class Shadow:
    """Keeps what it is sent, byte for byte, and answers as it is told."""

    answer: bytes | None = ANSWER
    """What each whole request is answered with; `None`: nothing, ever."""
    ends: str = ""
    """What comes behind the answer: `close` or `reset`; otherwise the connection stays."""
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._listening.getsockname())
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def heads(self) -> list[bytes]:
        """Of the requests so far."""
        return [request.partition(b"\r\n\r\n")[0] for request in self.requests]

    def close(self) -> None:
        """Refuse from now on."""
        for one in (self._listening, *self._open):
            # Closing alone would leave it to the thread that waits on it.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        kept = b""
        try:
            while piece := connection.recv(1 << 16):
                kept += piece
                while (end := whole(kept)) is not None:
                    self.requests.append(kept[:end])
                    kept = kept[end:]
                    if self.answer is not None:
                        connection.sendall(self.answer)
                    if self.ends == "reset":
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                    if self.ends:
                        connection.close()
                        return
        except OSError:
            """Whoever copies may go away."""


def whole(kept: bytes) -> int | None:
    """Where the first request ends."""
    head, blank, body = kept.partition(b"\r\n\r\n")
    if not blank:
        return None
    if b"transfer-encoding: chunked" in head.lower():
        end = body.find(b"0\r\n\r\n")
        return None if end < 0 else len(head) + 4 + end + 5
    length = re.search(rb"content-length: (\d+)", head.lower())
    need = int(length[1]) if length else 0
    return len(head) + 4 + need if len(body) >= need else None


@pytest.fixture
def first() -> Iterator[Shadow]:
    """Where the requests themselves go."""
    one = Shadow()
    yield one
    one.close()


@pytest.fixture
def shadow() -> Iterator[Shadow]:
    """Where copies go."""
    one = Shadow()
    yield one
    one.close()


def mirrored(first: Shadow, shadow: Shadow, upstream: dict[str, Any] | None = None, **mirror: Any) -> dict[str, Any]:
    """A route that copies, on one worker."""
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 1},
        "upstreams": {
            "app": {"endpoints": [first.address]},
            "shadow": {"endpoints": [shadow.address], **(upstream or {})},
        },
        "routes": [
            {
                "upstream": "app",
                "filters": [{"set_request_header": {"X-Set": "1"}}, {"strip_prefix": "/api"}],
                "mirror": {"upstream": "shadow", **mirror},
            }
        ],
    }


def ask(proxy: penstock.Proxy, method: str = "GET", body: Any = None, **headers: str) -> bytes:
    """One request that the first upstream answers, on a connection of its own."""
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
    connection.request(method, "/api/x?q=1", body=body, headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    text = answer.read()
    connection.close()
    return text


def copies(proxy: penstock.Proxy) -> MirrorStats:
    """How copies fared."""
    found = next(one.mirror for one in proxy.stats().upstreams if one.name == "shadow")
    assert found is not None
    return found


def ended(proxy: penstock.Proxy, **counts: int) -> None:
    """Wait until copies have ended so."""
    wanted = {"in_flight": 0, "answered": 0, "failed": 0, "dropped": 0, "unfit": 0, **counts}
    wait_for(lambda: {name: getattr(copies(proxy), name) for name in wanted} == wanted, f"copies ended: {counts}")


def test_a_copy_is_what_the_first_gets_and_says_that_it_is_one(first: Shadow, shadow: Shadow) -> None:
    with penstock.Proxy(mirrored(first, shadow)) as proxy:
        assert ask(proxy, **{"X-Mirrored": "mine", "X-A": "b"}) == b"ok"
        ended(proxy, answered=1)
    (one,), (copy,) = first.heads(), shadow.heads()
    assert one.startswith(b"GET /x?q=1 HTTP/1.1\r\n")
    assert b"x-set: 1" in one.lower()
    lines = set(copy.lower().split(b"\r\n")) - set(one.lower().split(b"\r\n"))
    assert lines == {b"x-mirrored: 1"}, "nothing else differs, the request id included"
    assert b"mirrored" not in one.lower(), "whoever is asked does not take a client's word for it"


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("length", [1, 100, FITS])
def test_a_body_is_copied_byte_for_byte(first: Shadow, shadow: Shadow, method: str, length: int) -> None:
    body = bytes(at * 7919 % 256 for at in range(length))
    with penstock.Proxy(mirrored(first, shadow)) as proxy:
        for number in (1, 2):
            assert ask(proxy, method, body) == b"ok"
            ended(proxy, answered=number)
        assert shadow.connections == 1, "its connections are kept, too"
    for request in (*first.requests, *shadow.requests):
        assert request.partition(b"\r\n\r\n")[2] == body


def test_a_chunked_body_is_copied(first: Shadow, shadow: Shadow) -> None:
    with penstock.Proxy(mirrored(first, shadow)) as proxy:
        assert ask(proxy, "POST", iter([b"abc", b"defg"])) == b"ok"
        ended(proxy, answered=1)
    chunks = shadow.requests[0].partition(b"\r\n\r\n")[2]
    assert b"".join(re.findall(rb"[0-9a-f]+\r\n([a-g]+)\r\n", chunks)) == b"abcdefg"


def test_a_client_that_asks_before_it_sends_is_copied_without_asking(first: Shadow, shadow: Shadow) -> None:
    first.answer = b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER
    with penstock.Proxy(mirrored(first, shadow)) as proxy:
        with socket.create_connection(proxy.address("web"), 10) as client:
            client.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            received = b""
            while not received.endswith(b"ok"):
                received += client.recv(4096)
        ended(proxy, answered=1)
    assert b"expect" not in shadow.heads()[0].lower()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_long_streams_to_the_first_alone(first: Shadow, shadow: Shadow, announced: bool) -> None:
    body = b"x" * (FITS + 1)
    with penstock.Proxy(mirrored(first, shadow)) as proxy:
        assert ask(proxy, "POST", body if announced else iter([body[:9], body[9:]])) == b"ok"
        ended(proxy, unfit=1)
        assert ask(proxy, "POST", b"y") == b"ok"
        ended(proxy, unfit=1, answered=1)
    assert len(shadow.requests) == 1


def test_the_share_is_kept(first: Shadow, shadow: Shadow) -> None:
    with penstock.Proxy(mirrored(first, shadow, percent=0)) as proxy:
        for _ in range(20):
            ask(proxy)
        ended(proxy)
        proxy.apply(mirrored(first, shadow, percent=50, when='header["X-A"] == "1"'))
        for _ in range(100):
            ask(proxy)
            ask(proxy, **{"X-A": "1"})
        wait_for(lambda: copies(proxy).in_flight == 0, "all copies ended")
        # A half of a hundred: outside of 15 to 85 once in 10^12 runs.
        assert 15 < copies(proxy).answered < 85
    assert all(b"x-a: 1" in head.lower() for head in shadow.heads())


def hang(shadow: Shadow) -> None:
    """Take requests and say nothing."""
    shadow.answer = None


def refuse(shadow: Shadow) -> None:
    """Take no connection."""
    shadow.close()


def reset(shadow: Shadow) -> None:
    """Break the connection instead of an answer."""
    shadow.answer, shadow.ends = b"", "reset"


def chatter(shadow: Shadow) -> None:
    """Answer with what is no HTTP."""
    shadow.answer, shadow.ends = b"\x15\x03\x01 is this it?\r\n\r\n", "close"


@pytest.mark.parametrize("fault", [hang, refuse, reset, chatter])
def test_the_client_notices_nothing_of_a_shadow_that_fails(
    first: Shadow, shadow: Shadow, fault: Callable[[Shadow], None]
) -> None:
    fault(shadow)
    config = mirrored(first, shadow, {"timeouts": {"head": "1s", "connect": "1s"}, "outlier": False})
    with penstock.Proxy(config) as proxy:
        slowest = 0.0
        for number in range(50):
            began = time.monotonic()
            assert ask(proxy, "POST" if number % 2 else "GET", b"hello" if number % 2 else None) == b"ok"
            slowest = max(slowest, time.monotonic() - began)
        # A hanging shadow would cost a second.
        assert slowest < 0.9
        wait_for(lambda: proxy.stats().routes[0].statuses["2xx"] == 50, "all were recorded")
        assert sum(row.failures for row in proxy.stats().upstreams[0].endpoints) == 0
        ended(proxy, failed=50)


def test_what_is_beyond_the_limit_is_dropped_and_counted(first: Shadow, shadow: Shadow) -> None:
    shadow.answer = None
    with penstock.Proxy(mirrored(first, shadow, {"timeouts": {"head": "1h"}})) as proxy:
        for _ in range(260):
            ask(proxy)
        assert (copies(proxy).in_flight, copies(proxy).dropped) == (256, 4)
        shadow.close()
        ended(proxy, failed=256, dropped=4)


def test_an_endless_answer_is_not_read_to_its_end(first: Shadow, shadow: Shadow) -> None:
    shadow.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (4 << 20)
    with penstock.Proxy(mirrored(first, shadow)) as proxy:
        ask(proxy)
        ended(proxy, answered=1)


def test_reloads_and_drains_do_not_wait_for_a_shadow(first: Shadow, shadow: Shadow) -> None:
    shadow.answer = None
    config = mirrored(first, shadow, {"timeouts": {"head": "1h"}})
    with penstock.Proxy(config) as proxy:
        ask(proxy)
        wait_for(lambda: shadow.requests, "the copy hangs")
        began = time.monotonic()
        proxy.apply(config)
        assert copies(proxy).in_flight == 1, "a reload keeps the counts"
        without = mirrored(first, shadow)
        del without["routes"][0]["mirror"], without["upstreams"]["shadow"]
        proxy.apply(without)
        assert ask(proxy) == b"ok"
        assert proxy.drain(60.0)
        assert time.monotonic() - began < 30


def test_the_limits_of_the_shadow_hold_for_copies(first: Shadow, shadow: Shadow) -> None:
    shadow.answer = None
    config = mirrored(first, shadow, {"limits": {"requests": 2}, "timeouts": {"head": "1h"}})
    with penstock.Proxy(config) as proxy:
        for _ in range(5):
            ask(proxy)
        wait_for(lambda: copies(proxy).failed == 3, "what is beyond is refused")
        assert copies(proxy).in_flight == 2
        shadow.close()
        ended(proxy, failed=5)


def test_the_tests_of_a_file_know_who_is_copied(first: Shadow, shadow: Shadow) -> None:
    config = mirrored(first, shadow, when='header["X-A"] == "1"')
    url = "http://shop.example/api/x"
    config["tests"] = [{"url": url, "headers": {"X-A": "1"}, "mirror": "shadow"}, {"url": url, "mirror": ""}]
    with penstock.Proxy(config):
        pass
    config["tests"][1]["mirror"], config["tests"][0]["mirror"] = "shadow", ""
    with pytest.raises(penstock.ConfigError) as refused, penstock.Proxy(config):
        pass
    told = [str(fault) for fault in refused.value.faults]
    assert 'expected a copy to none, but one goes to "shadow"' in told[0]
    assert 'expected a copy to "shadow", but one goes to none' in told[1]


def test_log_metrics_status_and_explain_say_so(start: Callable[..., Running], config: Path, shadow: Shadow) -> None:
    text = config.read_text("utf-8").replace(
        'name = "app"\n', 'name = "app"\nmirror = { upstream = "shadow", percent = 100, when = \'method == "GET"\' }\n'
    )
    config.write_text(f'{text}[upstreams.shadow]\nendpoints = ["{shadow.address}"]\n', "utf-8")
    shadow.close()
    running = start()
    assert running.get("/x") == (200, "origin")

    def failed() -> bool:
        return (
            running.get("/metrics", running.admin)[1].count('copies_total{upstream="shadow",outcome="failed"} 1') == 1
        )

    wait_for(failed, "the copy failed")
    wait_for(lambda: any("mirrored request failed" in line for line in running.messages()), "it is told of")
    (line,) = (line for line in running.lines if "mirrored request failed" in line["message"])
    assert (line["upstream"], line["cause"], line["level"]) == ("shadow", "connect_refused", "warning")
    found = next(row for row in running.status()["upstreams"] if row["name"] == "shadow")["mirror"]
    assert found == {"in_flight": 0, "answered": 0, "failed": 1, "dropped": 0, "unfit": 0}
    assert re.search(r"copies +0 in flight +0 answered +1 failed", running.command("status").stdout)
    assert "mirror     100 % to shadow\n" in running.command("explain", "GET", "http://a/x", "--running").stdout
    assert (
        "mirror     shadow, but not this request\n"
        in running.command("explain", "PUT", "http://a/x", "--running").stdout
    )
    running.command("drain")
    (record,) = map(json.loads, (config.parent / "access.log").read_text("utf-8").splitlines())
    assert (record["upstream"], record["mirror"], record["mirror_copy"]) == ("app", "shadow", "sent")
