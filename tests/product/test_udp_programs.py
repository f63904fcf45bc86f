"""Real programs through a listener of datagrams: a DNS server under load, and QUIC."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import struct
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trustme
from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from tests.ports import Reserved
from tests.product.datagrams import Client, config, ended
from tests.product.test_tcp_programs import program, running
from tests.product.waiting import wait_for

import penstock

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = b"\x07tenants\x07example\x00" + struct.pack("!HH", 1, 1)
ADDRESS = socket.inet_aton("192.0.2.7")


def _query(number: int) -> bytes:
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + QUESTION


def _ask(to: tuple[str, int], count: int, wrong: list[str]) -> None:
    """Ask from a port of its own each time, as resolvers do."""
    dice = random.Random(count)
    for _ in range(count):
        with closing(Client(to)) as client:
            number = dice.randrange(1 << 16)
            answer = client.ask(_query(number))
            if answer[:2] != struct.pack("!H", number) or not answer.endswith(ADDRESS):
                wrong.append(answer.hex())


def test_a_dns_server_under_load() -> None:
    reserved = Reserved()
    port = reserved.number
    words = [
        program("dnsmasq", "/usr/sbin"),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file",
        f"--port={port}",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--no-resolv",
        "--no-hosts",
        "--user=",
        "--cache-size=100",
        "--address=/tenants.example/192.0.2.7",
    ]
    check = {"udp": True, "send": {"hex": _query(7).hex()}, "expect": {"hex": ADDRESS.hex()}, "interval": "100ms"}
    plan = config(f"127.0.0.1:{port}", workers=2, responses=1, upstream={"health_check": check})
    with closing(reserved), running(*words), penstock.Proxy(plan) as proxy:
        health = lambda: proxy.stats().upstreams[0].endpoints[0].probe  # noqa: E731
        wait_for(lambda: (probe := health()) is not None and probe.passed, "the server answers")
        wrong: list[str] = []
        askers = [threading.Thread(target=_ask, args=(proxy.address("dns"), 500, wrong)) for _ in range(8)]
        for asker in askers:
            asker.start()
        for number in range(20):
            again = config(f"127.0.0.1:{port}", workers=2, responses=1, upstream={"health_check": check})
            again["upstreams"]["main"]["timeouts"] = {"connect": f"{number + 1}s"}
            proxy.apply(again)
        for asker in askers:
            asker.join(120)
        assert wrong == []
        wait_for(lambda: ended(proxy, "answered") == 4000, "every session has ended with its answer")
        row = proxy.stats().listeners[0]
        assert (row.datagrams_in, row.datagrams_out, row.datagrams_dropped, row.connections) == (4000, 4000, 0, 0)


class _Echo(QuicConnectionProtocol):
    """Sends back what comes on a stream, with the server's name in front."""

    name = b""

    def quic_event_received(self, event: object) -> None:
        data = getattr(event, "data", None)
        stream = getattr(event, "stream_id", None)
        if data is not None and stream is not None:
            first = not getattr(self, "_begun", set()) & {stream}
            self._begun = {*getattr(self, "_begun", set()), stream}
            last = bool(getattr(event, "end_stream", False))
            self._quic.send_stream_data(stream, (self.name if first else b"") + data, last)
            self.transmit()


@pytest.mark.parametrize("workers", [1, 2])
def test_quic_outlives_the_weights_of_its_endpoint(tmp_path: Path, workers: int) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("quic.example")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert")
    issued.private_key_pem.write_to_path(tmp_path / "key")
    authority.cert_pem.write_to_path(tmp_path / "ca")
    asyncio.run(_talk(tmp_path, workers))


async def _talk(folder: Path, workers: int) -> None:
    secured = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    secured.load_cert_chain(folder / "cert", folder / "key")
    servers, addresses = [], []
    for name in (b"a", b"b"):
        protocol = type(f"_Echo{name.decode()}", (_Echo,), {"name": name})
        server = await serve("127.0.0.1", 0, configuration=secured, create_protocol=protocol)
        servers.append(server)
        addresses.append("{}:{}".format(*server._transport.get_extra_info("sockname")))
    hashed = {"balance": {"hash": "client.ip"}}

    def weighed(first: int, second: int, turn: int) -> dict[str, object]:
        plan = config(workers=workers, upstream=hashed)
        plan["upstreams"]["main"]["endpoints"] = [
            {"address": address, "weight": weight} for address, weight in zip(addresses, (first, second), strict=True)
        ]
        plan["upstreams"]["main"]["timeouts"] = {"connect": f"{turn + 1}s"}
        return dict(plan)

    client = QuicConfiguration(alpn_protocols=["echo"], server_name="quic.example", verify_mode=ssl.CERT_REQUIRED)
    client.load_verify_locations(str(folder / "ca"))
    with penstock.Proxy(weighed(1, 1, 0)) as proxy:
        host, port = proxy.address("dns")
        async with connect(host, port, configuration=client) as connection:
            names = set()
            for turn in range(6):
                await asyncio.to_thread(proxy.apply, weighed(turn % 2, 1 - turn % 2, turn))
                said = os.urandom(200_000)
                reader, writer = await connection.create_stream()
                writer.write(said)
                writer.write_eof()
                heard = await asyncio.wait_for(reader.read(), 60)
                assert heard[1:] == said
                names.add(heard[:1])
            assert len(names) == 1, "the connection stays with its endpoint"
            assert proxy.stats().listeners[0].accepted == 1
        await asyncio.to_thread(proxy.apply, weighed(int(names == {b"b"}), int(names == {b"a"}), 9))
        async with connect(host, port, configuration=client) as connection:
            reader, writer = await connection.create_stream()
            writer.write(b"x")
            writer.write_eof()
            heard = await asyncio.wait_for(reader.read(), 60)
            assert heard[1:] == b"x"
            assert heard[:1] not in names, "the next goes where weights say"
    for server in servers:
        server.close()
