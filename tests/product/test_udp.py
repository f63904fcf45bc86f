"""Listeners that pass datagrams on: whole, from the address that a client used, to one endpoint for each client."""

from __future__ import annotations

import json
import os
import socket
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
from tests.ports import Reserved
from tests.product.datagrams import LONGEST, Client, Endpoint, config, ended
from tests.product.waiting import wait_for

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def test_each_client_has_one_endpoint_and_hears_what_it_says() -> None:
    with ExitStack() as stack:
        endpoints = [stack.enter_context(Endpoint(name)) for name in "ab"]
        proxy = stack.enter_context(penstock.Proxy(config(*(one.address for one in endpoints), workers=2)))
        clients = [Client(proxy.address("dns")) for _ in range(20)]
        for turn in range(3):
            for number, client in enumerate(clients):
                word = b"%d.%d" % (number, turn)
                assert client.ask(word)[1:] == word
        assert sorted(len(one.peers) for one in endpoints) != [0, 20]
        assert sum(len(one.peers) for one in endpoints) == 20, "a session for each client, and no more"
        wait_for(lambda: proxy.stats().listeners[0].datagrams_out == 60, "the last is counted behind its answer")
        row = proxy.stats().listeners[0]
        assert (row.protocol, row.connections, row.accepted) == ("udp", 20, 20)
        assert (row.datagrams_in, row.datagrams_out, row.datagrams_dropped) == (60, 60, 0)
        assert row.bytes_out == row.bytes_in + 60


@pytest.mark.parametrize("size", [0, 1, 1472, 9000, LONGEST])
def test_datagrams_of_every_size_go_whole(size: int) -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address)) as proxy:
        said = os.urandom(size)
        client = Client(proxy.address("dns"))
        assert client.ask(said) == said
        assert endpoint.got == [said]


def test_many_at_once_keep_their_order() -> None:
    only_last = Endpoint(answer=lambda said: [said] if said == b"end" else [])
    with only_last as endpoint, penstock.Proxy(config(endpoint.address)) as proxy:
        client = Client(proxy.address("dns"))
        sent = [b"%d" % number * (number % 7) for number in range(100)]
        for said in sent:
            client.send(said)
        assert client.ask(b"end") == b"end"
        assert endpoint.got == [*sent, b"end"]


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::]:0"])
def test_bursts_of_one_length_stay_apart_both_ways(bind: str) -> None:
    # What comes together and is as long goes on as one to the system, which parts it again.
    lengths = [200] * 40 + [7] + [1452] * 20 + [1453] * 5 + [0, 0] + [200] * 3
    answers = [os.urandom(length) for length in lengths]
    endpoint = Endpoint(answer=lambda said: answers if said == b"end" else [])
    with endpoint, penstock.Proxy(config(endpoint.address, bind=bind)) as proxy:
        clients = [Client(("127.0.0.1", proxy.address("dns")[1])) for _ in range(2)]
        for client in clients:
            sent = [os.urandom(length) for length in lengths]
            before = len(endpoint.got)
            for said in [*sent, b"end"]:
                client.send(said)
            assert [client.hear() for _ in answers] == answers
            assert endpoint.got[before:] == [*sent, b"end"]
        wait_for(lambda: proxy.stats().listeners[0].datagrams_out == 2 * len(answers), "each is counted")
        row = proxy.stats().listeners[0]
        assert (row.datagrams_in, row.bytes_in) == (2 * len(answers) + 2, 2 * sum(lengths) + 2 * len(b"end"))
        assert row.datagrams_dropped == 0


def test_answers_come_from_the_address_that_was_asked() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address, bind="0.0.0.0:0")) as proxy:
        port = proxy.address("dns")[1]
        for host in ("127.0.0.1", "127.0.0.5", "127.9.9.9"):
            assert Client((host, port)).ask(host.encode()) == host.encode()
        # The same client to another of our addresses is another session.
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(20)
            for host in ("127.0.0.1", "127.0.0.5"):
                sock.sendto(b"who", (host, port))
                assert sock.recvfrom(99) == (b"who", (host, port))
        assert proxy.stats().listeners[0].connections == 5


def test_both_families_come_to_one_port_and_go_to_either(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Endpoint(at=("::1", 0)) as endpoint:
        plan = config(endpoint.address, bind=":0", responses=1) | {"log": {"access": {"to": str(log)}}}
        with penstock.Proxy(plan) as proxy:
            port = proxy.address("dns")[1]
            for host in ("127.0.0.1", "127.0.0.3", "::1"):
                assert Client((host, port)).ask(b"x") == b"x"
            wait_for(lambda: log.exists() and log.read_text().count("\n") == 3, "all are logged")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [record["client"] for record in records] == ["127.0.0.1", "127.0.0.1", "::1"]


def test_a_session_ends_with_the_answers_that_are_expected(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Endpoint(answer=lambda said: [said, said + b"!"]) as endpoint:
        plan = config(endpoint.address, responses=2) | {"log": {"access": {"to": str(log)}}}
        with penstock.Proxy(plan) as proxy:
            client = Client(proxy.address("dns"))
            assert [client.ask(b"one"), client.hear()] == [b"one", b"one!"]
            wait_for(lambda: ended(proxy, "answered") == 1, "it has ended")
            assert [client.ask(b"two"), client.hear()] == [b"two", b"two!"]
            wait_for(lambda: ended(proxy, "answered") == 2, "so has the next")
            assert len(endpoint.peers) == 2
            assert proxy.stats().listeners[0].connections == 0
            wait_for(lambda: log.exists() and log.read_text().count("\n") == 2, "both are logged")
    record = json.loads(log.read_text().splitlines()[0])
    names = ("protocol", "listener", "upstream", "endpoint", "outcome", "ended")
    assert [record[name] for name in names] == ["udp", "dns", "main", endpoint.address, "ok", "answered"]
    assert [record[f"{what}_{way}"] for what in ("bytes", "datagrams") for way in ("in", "out")] == [3, 7, 1, 2]


def test_a_silent_session_ends_and_that_is_no_failure(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Endpoint() as endpoint:
        plan = config(endpoint.address, timeouts={"idle": "200ms"}) | {"log": {"access": {"to": str(log)}}}
        with penstock.Proxy(plan) as proxy:
            client = Client(proxy.address("dns"))
            assert client.ask(b"x") == b"x"
            wait_for(lambda: ended(proxy, "idle") == 1, "it has ended")
            wait_for(lambda: log.exists() and log.read_text(), "it is logged")
            assert client.ask(b"y") == b"y"
            assert len(endpoint.peers) == 2
    record = json.loads(log.read_text().splitlines()[0])
    assert (record["outcome"], record["ended"]) == ("ok", "idle")
    assert record["total_ms"] >= 200


def test_an_endpoint_where_nobody_listens_is_noticed_and_the_session_moves() -> None:
    with Endpoint("b") as alive, Endpoint("a") as dead:
        plan = config(dead.address, alive.address, upstream={"balance": "first", "outlier": {"failures": 1}})
        with penstock.Proxy(plan) as proxy:
            client = Client(proxy.address("dns"))
            assert client.ask(b"1") == b"a1"
            dead.close()
            # The first says that nobody listens there; the system tells us so, and no one the client.
            client.send(b"lost")
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].failures == 1, "it is noticed")
            assert client.ask(b"2") == b"b2"
            first, second = proxy.stats().upstreams[0].endpoints
            assert (first.state, first.in_flight, second.in_flight) == ("ejected", 0, 1)
            assert proxy.stats().failures["connect_refused"] == 1
            assert ended(proxy, "endpoint_reset") == 0


def test_without_another_endpoint_the_session_ends_and_the_next_datagram_tries_anew() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address)) as proxy:
        client = Client(proxy.address("dns"))
        assert client.ask(b"1") == b"1"
        place = endpoint.sock.getsockname()
        endpoint.close()
        client.send(b"lost")
        wait_for(lambda: ended(proxy, "endpoint_reset") == 1, "it has ended")
        with Endpoint(at=place):
            assert client.ask(b"2") == b"2"


def test_sessions_leave_an_endpoint_whose_probes_fail() -> None:
    check = {"udp": True, "send": {"hex": "00ff"}, "expect": "ok", "interval": "50ms", "timeout": "5s", "fall": 1}
    words = {"a": b"ok", "b": b"ok"}
    with ExitStack() as stack:
        answers = {
            name: lambda said, name=name: [words[name] if said == b"\x00\xff" else name.encode()] for name in "ab"
        }
        one, other = (stack.enter_context(Endpoint(answer=answers[name])) for name in "ab")
        plan = config(one.address, other.address, upstream={"balance": "first", "health_check": check})
        proxy = stack.enter_context(penstock.Proxy(plan))
        client = Client(proxy.address("dns"))
        endpoint = lambda: proxy.stats().upstreams[0].endpoints[0]  # noqa: E731
        wait_for(lambda: endpoint().probe is not None, "it is probed")
        assert (endpoint().state, endpoint().reason, client.ask(b"x")) == ("up", "replied as expected", b"a")
        words["a"] = b"no"
        wait_for(lambda: endpoint().state == "down", "it is down")
        assert (endpoint().reason, client.ask(b"x")) == ("the reply is not as expected", b"b")


def test_a_session_outlives_reloads_and_the_weights_of_its_endpoint() -> None:
    with Endpoint("a") as one, Endpoint("b") as other:
        hashed = {"balance": {"hash": "client.ip"}}
        with penstock.Proxy(config(one.address, other.address, upstream=hashed)) as proxy:
            client = Client(proxy.address("dns"))
            first = client.ask(b"0")[:1]
            address = proxy.address("dns")
            weights = {"a": 0, "b": 1} if first == b"a" else {"a": 1, "b": 0}
            for number in range(50):
                plan = config(upstream=hashed)
                plan["upstreams"]["main"]["endpoints"] = [
                    {"address": one.address, "weight": weights["a"]},
                    {"address": other.address, "weight": weights["b"]},
                ]
                plan["listeners"][f"web{number % 2}"] = {"bind": "127.0.0.1:0"}
                plan["routes"] = [{"respond": {"body": str(number)}}]
                proxy.apply(plan)
                assert client.ask(b"%d" % number) == first + b"%d" % number
            assert proxy.address("dns") == address
            assert Client(address).ask(b"x")[:1] != first, "whoever is new goes where weights say"
            assert len(one.peers) + len(other.peers) == 2


def _is_refused(client: Client) -> bool:
    """Whether a datagram comes back as one that nobody takes; workers close their sockets a moment after the change."""
    client.sock.settimeout(0.1)
    try:
        client.send(b"y")
        client.hear()
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        pass
    return False


def test_sessions_end_with_their_listener() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address)) as proxy:
        client = Client(proxy.address("dns"))
        assert client.ask(b"x") == b"x"
        web = {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [{"respond": {}}], "engine": {"workers": 1}}
        proxy.apply(web)
        wait_for(lambda: _is_refused(client), "the system says that nobody is there")
        assert proxy.stats().upstreams == ()


def test_a_drain_lets_sessions_finish_and_takes_no_new_ones() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address, timeouts={"idle": "2s"})) as proxy:
        client, late = Client(proxy.address("dns")), Client(proxy.address("dns"))
        assert client.ask(b"x") == b"x"
        drained: list[bool] = []
        draining = threading.Thread(target=lambda: drained.append(proxy.drain(10)))
        draining.start()
        wait_for(lambda: proxy.stats().draining, "it drains")
        assert client.ask(b"y") == b"y"
        assert not late.is_answered(b"z")
        draining.join(20)
        assert (drained, ended(proxy, "idle")) == ([True], 1)


def test_what_does_not_finish_in_time_is_ended() -> None:
    with Endpoint() as endpoint, penstock.Proxy(config(endpoint.address)) as proxy:
        client = Client(proxy.address("dns"))
        assert client.ask(b"x") == b"x"
        proxy.drain(0.2)
        wait_for(lambda: ended(proxy, "shutdown") == 1, "it is ended")


def test_connections_and_datagrams_share_a_port() -> None:
    with closing(Reserved()) as port, Endpoint() as endpoint:
        bind = f"127.0.0.1:{port.number}"
        plan = config(endpoint.address, bind=bind)
        with penstock.Proxy(plan) as proxy:
            plan["listeners"]["web"] = {"bind": bind}
            plan["routes"] = [{"respond": {}}]
            proxy.apply(plan)
            assert Client(proxy.address("dns")).ask(b"x") == b"x"
            with closing(socket.create_connection(proxy.address("web"), 10)) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert sock.recv(99).startswith(b"HTTP/1.1 200")


def test_what_is_sent_as_one_comes_as_many() -> None:
    # UDP_SEGMENT of udp(7): the system sends each kilobyte as a datagram, and may hand all of them over together.
    said = os.urandom(10_300)
    pieces = [said[at : at + 1000] for at in range(0, len(said), 1000)]
    asked = Endpoint(answer=lambda one: [said] if one == b"answer" else [])
    with asked as endpoint, penstock.Proxy(config(endpoint.address)) as proxy:
        client = Client(proxy.address("dns"))
        try:
            for sock in (client.sock, endpoint.sock):
                sock.setsockopt(socket.IPPROTO_UDP, 103, 1000)
        except OSError:
            pytest.skip("the system does not send several datagrams as one")
        for _ in range(20):
            client.send(said)
            client.send(b"answer")
            assert [client.hear() for _ in pieces] == pieces
        assert [one for one in endpoint.got if one != b"answer"] == pieces * 20
        wait_for(lambda: proxy.stats().listeners[0].datagrams_out == 20 * len(pieces), "each is counted")
        assert proxy.stats().listeners[0].datagrams_in == 20 * (len(pieces) + 1)
