"""P8: datagrams that a relay carries for each second of a core, beside nginx's stream module."""

import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import check
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result
from bench.launch import BenchError, Program, free_port, wait_until
from bench.peers import Nginx, Peer, Penstock, Scenario
from bench.peers.base import program
from bench.peers.null_relay import built
from bench.stand import PATIENCE, Running, Stand
from bench.usage import spent

UNIT = "CPU-µs/datagram"
MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
CLIENTS, DEPTH, BYTES = 32, 8, 200


@dataclass(frozen=True)
class Load:
    """What clients do, and how it is called."""

    variant: str
    words: tuple[object, ...]


STEADY = Load(f"{CLIENTS} clients, {BYTES} bytes", ("load", CLIENTS, DEPTH, BYTES))
CHURN = Load("a new client each time", ("churn",))


class PenstockDatagrams(Penstock):
    """Penstock with a listener of datagrams."""

    def configuration(self, folder: Path, port: int, origin: int, scenario: Scenario) -> str:
        """One listener, one endpoint; an answer ends a session where each is of a new client."""
        responses = "responses = 1" if scenario.streaming else ""
        return f"""[engine]
workers = 1
[listeners.dns]
bind = "127.0.0.1:{port}"
protocol = "udp"
upstream = "origin"
{responses}
[upstreams.origin]
endpoints = ["127.0.0.1:{origin}"]
"""


class NginxDatagrams(Nginx):
    """nginx with its stream module, one worker."""

    def absent(self) -> str | None:
        """The module is a package of its own."""
        missing = super().absent()
        return missing or (None if MODULE.exists() else "its stream module is not installed (libnginx-mod-stream)")

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        """Its file; `streaming` asks for sessions that end with their answer."""
        responses = "proxy_responses 1;" if scenario.streaming else ""
        target = folder / "nginx.conf"
        target.write_text(f"""load_module {MODULE};
daemon off;
user root;
worker_processes 1;
pid {folder / "nginx.pid"};
events {{ worker_connections 8192; }}
stream {{
    server {{
        listen 127.0.0.1:{port} udp;
        proxy_pass 127.0.0.1:{origin};
        proxy_timeout 60s;
        {responses}
    }}
}}
""")
        return [program("nginx") or "nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(target)]


def datagrams(stand: Stand) -> Result:
    """P8: a steady exchange of small datagrams, and clients that ask once."""
    result = Result("P8", "UDP relay: datagrams that came back, each carried both ways")
    with ExitStack() as stack:
        port, program = echo(stand)
        stack.callback(program.stop)
        for load in (STEADY, CHURN):
            _contest(stand, result, load, port)
    for load in (STEADY, CHURN):
        ours, theirs = result.find("penstock", load.variant), result.find("nginx", load.variant)
        result.compare(ours, theirs, f"nginx stream, {load.variant}", 0.67 if load is STEADY else None)
    return result


def echo(stand: Stand) -> tuple[int, Program]:
    """Starts what sends datagrams back, and gives its port; the caller stops it."""
    port = free_port()
    started = Program([str(built("datagrams")), "echo", f"127.0.0.1:{port}"], stand.client_core, stand.folder, "echo")
    wait_until(partial(answers_datagrams, port), PATIENCE, "the echo answers")
    return port, started


def _contest(stand: Stand, result: Result, load: Load, echo_port: int) -> None:
    with ExitStack() as stack:
        line: list[tuple[Figure, Running]] = []
        for peer in (PenstockDatagrams(), NginxDatagrams()):
            if missing := peer.absent():
                result.absent[peer.name] = missing
                continue
            figure = Figure(peer.name, UNIT, load.variant)
            try:
                line.append((figure, _start(stand, peer, echo_port, load, stack)))
                result.figures.append(figure)
            except TROUBLE as error:
                result.failures[figure.label] = str(error)
        for round_ in range(stand.settings.rounds):
            for figure, running in line[:: -1 if round_ % 2 else 1]:
                say(f"P8 round {round_ + 1}/{stand.settings.rounds}: {figure.label}")
                try:
                    _sample(stand, load, figure, running)
                except TROUBLE as error:
                    result.failures[figure.label] = str(error)


def _start(stand: Stand, peer: Peer, echo_port: int, load: Load, stack: ExitStack) -> Running:
    stand.origin, before = echo_port, stand.origin
    try:
        running = stand.spawn(peer, Scenario(streaming=load is CHURN))
    finally:
        stand.origin = before
    stack.callback(running.program.stop)
    wait_until(partial(answers_datagrams, running.port), PATIENCE, f"{peer.name} answers")
    _drive(stand, load, running.port, 1)
    return running


def _sample(stand: Stand, load: Load, figure: Figure, running: Running) -> None:
    before, start = running.usage(), time.monotonic()
    carried = _drive(stand, load, running.port, stand.settings.seconds)
    used, wall = spent(before, running.usage()), time.monotonic() - start
    if not running.program.alive():
        raise BenchError(f"ended under load: {running.program.last_words()}")
    figure.samples.append(used.cpu_ns / carried / 1000)
    figure.observe(datagrams_per_second=carried / wall, core_share=used.cpu_ns / 1e9 / wall)


def _drive(stand: Stand, load: Load, port: int, seconds: int) -> int:
    what, *rest = load.words
    with stand.client("datagrams", what, f"127.0.0.1:{port}", *rest, seconds) as client:
        words = client.ask(None, seconds + 20).split()
    check.expect(len(words) == 2 and int(words[1]) > 0, f"nothing came back: {words}")
    return int(words[1])


def answers_datagrams(port: int) -> bool:
    """Whether a datagram comes back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(0.2)
        try:
            asking.connect(("127.0.0.1", port))
            asking.send(b"there?")
            return asking.recv(64) == b"there?"
        except OSError:
            return False
