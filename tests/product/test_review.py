"""What a reading of the whole data plane found: each test is one defect."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import termios
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from peer import Peer, config, dial, get, until
from waiting import wait_for

import penstock
from product import DEADLINE, command

if TYPE_CHECKING:
    from pathlib import Path


def test_a_client_that_never_reads_is_let_go() -> None:
    with closing(Peer()) as peer, ExitStack() as stack:
        proxy = stack.enter_context(penstock.Proxy(config(peer.address, timeouts={"write": "200ms"})))
        with closing(dial(proxy, 4096)) as client:
            client.sendall(get("/large"))
            with closing(peer.accept()) as origin:
                until(origin, b"\r\n\r\n")
                # Small pieces: what the client does not take stays staged.
                origin.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                try:
                    for _ in range(20_000):
                        origin.sendall(b"400\r\n" + b"x" * 1024 + b"\r\n")
                except OSError:
                    pass  # the proxy gave up, as it should
            wait_for(
                lambda: not any(listener.connections for listener in proxy.stats().listeners),
                "the connection is closed",
                5,
            )


@pytest.mark.parametrize("behind", ["close", "speak"])
def test_a_pooled_connection_is_looked_at_however_busy_its_task_was(behind: str) -> None:
    wrong = []
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy:
        for count in range(110, 132):
            with ExitStack() as stack:
                first = stack.enter_context(closing(dial(proxy)))
                first.sendall(get("/first"))
                origin = stack.enter_context(closing(peer.accept()))
                until(origin, b"\r\n\r\n")
                origin.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                until(first, b"\r\n\r\n")
                if behind == "close":
                    origin.shutdown(socket.SHUT_WR)
                else:
                    origin.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
                # An exchange without the pool behind it: the event loop has seen what the origin did.
                other = stack.enter_context(closing(dial(proxy)))
                other.sendall(get("/here"))
                until(other, b"\r\n\r\n")
                victim = stack.enter_context(closing(dial(proxy)))
                request = b"POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                victim.sendall(get("/here") * count + request)

                def answer() -> None:
                    try:
                        peer.listener.settimeout(2)
                        fresh = stack.enter_context(closing(peer.accept()))
                        until(fresh, b"\r\n\r\n")
                        fresh.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngood")
                    except OSError:
                        pass  # the poisoned connection was used instead

                answering = threading.Thread(target=answer)
                answering.start()
                got = b""
                while not (b"good" in got or b"poison" in got or b"502" in got):
                    piece = victim.recv(65536)
                    if not piece:
                        break
                    got += piece
                if b"good" not in got:
                    wrong.append((count, got[-60:]))
                    with closing(socket.create_connection(peer.listener.getsockname())):
                        answering.join()
                answering.join()
    assert not wrong


def test_a_routes_total_holds_while_it_connects() -> None:
    with ExitStack() as stack:
        full = stack.enter_context(closing(socket.socket()))
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Fill the queue of who waits to be accepted: the next SYN is not answered.
        for _ in range(4):
            filler = stack.enter_context(closing(socket.socket()))
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        plan = config(f"127.0.0.1:{full.getsockname()[1]}")
        plan["upstreams"]["app"]["timeouts"] = {"connect": "4s"}
        plan["routes"][1]["timeouts"] = {"total": "200ms"}
        proxy = stack.enter_context(penstock.Proxy(plan))
        client = stack.enter_context(closing(dial(proxy)))
        client.settimeout(2)
        client.sendall(get("/"))
        assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 504")


def test_interim_answers_that_did_not_fit_at_once_are_sent_on() -> None:
    with closing(Peer()) as peer:
        plan = config(peer.address)
        plan["upstreams"]["app"]["limits"] = {"interim": 100}
        with penstock.Proxy(plan) as proxy, closing(dial(proxy, 4096)) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            with closing(peer.accept()) as origin:
                until(origin, b"\r\n\r\n")
                hints = b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 60_000 + b"\r\n\r\n"
                # The proxy takes no more from the origin than the client takes from it: the origin is held up, too.
                telling = threading.Thread(target=origin.sendall, args=(hints * 90 + b"HTTP/1.1 100 Continue\r\n\r\n",))
                telling.start()
                wait_for(lambda: _waiting(client) > 0, "the first of them came")
                client.settimeout(5)
                got = until(client, b"100 Continue\r\n\r\n")
                telling.join()
                assert got.endswith(b"100 Continue\r\n\r\n")


def _waiting(connection: socket.socket) -> int:
    """Bytes that came and were not read."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.FIONREAD, b"\0" * 4))[0])


def test_a_log_that_nobody_reads_does_not_stop_the_stop(tmp_path: Path, origin: Any) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(
        f"""\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{origin.address}"]
[[routes]]
respond = {{ status = 204 }}
[engine]
workers = 1
[admin]
bind = "127.0.0.1:0"
[log.access]
format = "json"
to = "stdout"
""",
        "utf-8",
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [*command(), "run", "-c", str(path), "--control", str(tmp_path / "c.sock"), "--log", "json"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    try:
        assert process.stderr is not None
        address = ""
        for line in process.stderr:
            if '"listening"' in line and '"web"' in line:
                address = json.loads(line)["address"]
            if "taking commands" in line:
                break
        host, port = address.rsplit(":", 1)
        with closing(socket.create_connection((host, int(port)), DEADLINE)) as client:
            for _ in range(40):
                client.sendall(get("/" + "z" * 1000) * 10)
                got = b""
                while got.count(b"\r\n\r\n") < 10:
                    got += client.recv(65536)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(read)


def test_a_body_that_had_to_wait_is_not_too_slow() -> None:
    with closing(Peer()) as peer, ExitStack() as stack:
        # The head that is never finished is the clock: it is answered after longer than a slow body's grace of 10 s.
        proxy = stack.enter_context(penstock.Proxy(config(peer.address, timeouts={"head": "10500ms", "body": "60s"})))
        clock = stack.enter_context(closing(dial(proxy)))
        asking = stack.enter_context(closing(dial(proxy)))
        asking.sendall(b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        first = stack.enter_context(closing(peer.accept()))
        until(first, b"\r\n\r\n")
        late = stack.enter_context(closing(dial(proxy)))
        late.sendall(b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 8000\r\n\r\n")
        second = stack.enter_context(closing(peer.accept()))
        until(second, b"\r\n\r\n")
        clock.sendall(b"GET / HTTP")
        until(clock, b"\r\n\r\n")
        first.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        until(asking, b"\r\n\r\n")
        asking.sendall(b"hello")
        # 8000 bytes in 10.5 s are more than 500 a second.
        late.sendall(b"x" * 8000)
        bad = []
        for client, origin, size in ((asking, first, 5), (late, second, 8000)):
            got = b""
            while len(got) < size and (piece := origin.recv(65536)):
                got += piece
            if len(got) == size:
                origin.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            answer = until(client, b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 204"):
                bad.append(answer[:30])
        assert not bad


@pytest.mark.parametrize("cut", [False, True])
def test_what_framing_may_cost_does_not_depend_on_how_it_is_cut(cut: bool) -> None:
    chunk = b"1;" + b"x" * 240 + b"\r\nd\r\n"
    # 18 KB of framing around 75 bytes, more than may be; made up for by what follows.
    body = chunk * 75 + b"10000\r\n" + b"y" * 65536 + b"\r\n0\r\n\r\n"
    at = len(chunk) * 75 - 10
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy, closing(dial(proxy)) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with closing(peer.accept()) as origin:
            until(origin, b"\r\n\r\n")
            if cut:
                client.sendall(body[:at])
                got = b""
                while got.count(b"d\r\n") < 74 and (piece := origin.recv(65536)):
                    got += piece
                body = body[at:]
            try:
                client.sendall(body)
                until(origin, b"0\r\n\r\n")
                origin.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            except OSError:
                pass  # refused already
            assert until(client, b"\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_a_cut_answer_without_framing_does_not_end_as_a_whole_one_does() -> None:
    with closing(Peer()) as peer, penstock.Proxy(config(peer.address)) as proxy, closing(dial(proxy)) as client:
        client.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        with closing(peer.accept()) as origin:
            until(origin, b"\r\n\r\n")
            origin.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            until(client, b"hello")
        # The end of the connection is the end of the answer: only a reset tells that it is not whole.
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_the_last_answer_allowed_is_not_lost_to_a_reset() -> None:
    with closing(Peer()) as peer, ExitStack() as stack:
        proxy = stack.enter_context(penstock.Proxy(config(peer.address, limits={"requests": 1})))
        client = stack.enter_context(closing(dial(proxy)))
        client.sendall(get("/here") * 1000)
        got = b""
        while piece := client.recv(65536):
            got += piece
        assert got.startswith(b"HTTP/1.1 204")
