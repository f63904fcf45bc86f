"""Real programs through a listener of connections: databases under their own benchmarks, bulk in both directions."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.ports import Reserved
from tests.product.test_tcp import config, ended
from tests.product.waiting import wait_for
from tests.wire.peers import ShortFolder

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 120
PLACES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))


def program(name: str, *places: str) -> str:
    """Where a program is; the test is skipped where it is not installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *places])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed: make debian")
    return found


@contextlib.contextmanager
def running(*words: str, **more: object) -> Iterator[subprocess.Popen[bytes]]:
    """A server, until the block ends."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()


def run(*words: str, env: dict[str, str] | None = None) -> str:
    """What a client says; its failure is the test's."""
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=PATIENCE, check=False, env={**os.environ, **(env or {})}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return path.exists() and sock.connect_ex(str(path)) == 0


@contextlib.contextmanager
def redis(*more: str) -> Iterator[Path]:
    """A Redis server with these options, and its socket."""
    server = program("redis-server")
    with ShortFolder() as folder:
        place = folder.path / "redis.sock"
        words = (server, "--port", "0", "--unixsocket", str(place), "--save", "", "--dir", str(folder.path))
        with running(*words, *more):
            wait_for(lambda: _answers(place), "redis answers")
            yield place


def test_redis_under_its_benchmark() -> None:
    benchmark = program("redis-benchmark")
    with redis() as place, penstock.Proxy(config(f"unix:{place}", workers=2)) as proxy:
        host, port = proxy.address("db")
        said = run(benchmark, "-h", host, "-p", str(port), "-n", "4000", "-c", "50", "-P", "4", "-t", "set,get,lrange")
        assert len(re.findall(r"4000 requests completed", said)) >= 3, said
        assert "rror" not in said
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "all sessions have ended")
        assert ended(proxy, "client_closed") + ended(proxy, "client_reset") == proxy.stats().listeners[0].accepted


@contextlib.contextmanager
def postgresql() -> Iterator[Path]:
    """A PostgreSQL server that trusts everybody, and its socket."""
    initdb, server = (program(name, *PLACES) for name in ("initdb", "postgres"))
    user: str | None = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("postgres does not run as root, and there is no user postgres")
    with ShortFolder() as folder:
        if user:
            shutil.chown(folder.path, user)
        data = str(folder.path / "data")
        words = (initdb, "-D", data, "-U", "postgres", "--auth", "trust", "--no-sync", "--no-locale", "-E", "UTF8")
        subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE, user=user, cwd=folder.path)
        place = folder.path / ".s.PGSQL.5432"
        words = (server, "-D", data, "-k", str(folder.path), "-p", "5432", "-c", "listen_addresses=", "-F")
        with running(*words, user=user, cwd=folder.path):
            wait_for(lambda: _answers(place), "postgres answers", PATIENCE)
            yield place


def test_postgresql_under_pgbench() -> None:
    pgbench = program("pgbench", *PLACES)
    with postgresql() as place, penstock.Proxy(config(f"unix:{place}")) as proxy:
        host, port = proxy.address("db")
        to = ("-h", host, "-p", str(port), "-U", "postgres", "postgres")
        wait_for(lambda: _initialised(pgbench, *to), "the tables are made", PATIENCE)
        said = run(pgbench, "-c", "4", "-t", "50", *to)
        assert "transactions actually processed: 200/200" in said
        # A connection for each transaction.
        said = run(pgbench, "-C", "-S", "-c", "4", "-t", "25", *to)
        assert "transactions actually processed: 100/100" in said
        assert proxy.stats().listeners[0].accepted >= 105


def _initialised(pgbench: str, *to: str) -> bool:
    # A server that has just begun to listen may still say that it starts.
    return (
        subprocess.run((pgbench, "-i", "-q", *to), capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    )


@pytest.mark.parametrize("direction", [[], ["-R"]], ids=["up", "down"])
def test_iperf_in_both_directions(direction: list[str]) -> None:
    iperf = program("iperf3")
    reserved = Reserved()
    port = reserved.number
    server = running(iperf, "-s", "-B", "127.0.0.1", "-p", str(port))
    with contextlib.closing(reserved), server, penstock.Proxy(config(f"127.0.0.1:{port}")) as proxy:
        wait_for(lambda: _listens(port), "iperf3 listens")
        address, through = proxy.address("db")
        said = run(iperf, "-c", address, "-p", str(through), "-n", "64M", "-P", "2", "--json", *direction)
        assert json.loads(said)["end"]["sum_sent"]["bytes"] >= 64 << 20
        moved = proxy.stats().listeners[0]
        # The last of it is dropped by the receiver, which closes as soon as the sender says that it is done.
        assert (moved.bytes_out if direction else moved.bytes_in) >= 32 << 20


def _listens(port: int) -> bool:
    # Not by a connection: iperf3 takes the first for its client.
    return f":{port:04X} " in Path("/proc/net/tcp").read_text("ascii")
