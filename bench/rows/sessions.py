"""SESSIONS: what 10 000 silent sessions of layer 4 hold, half of them of TCP and half of UDP."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench import check
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, Verdict
from bench.launch import Program, wait_until
from bench.peers import Penstock, Scenario
from bench.rows.datagrams import answers_datagrams, echo
from bench.rows.idle import LIMIT_BYTES, SPARE_FILES, hold
from bench.stand import PATIENCE, Stand

# Descriptors of a session of TCP and one of UDP.
BOTH = 3
OF_EACH = 5_000


class PenstockSessions(Penstock):
    """Penstock with a listener of each kind on one port."""

    def __init__(self, echo: int) -> None:
        """`echo`: where datagrams go."""
        super().__init__()
        self._echo = echo

    def configuration(self, folder: Path, port: int, origin: int, scenario: Scenario) -> str:
        """Silence ends no session here."""
        return f"""[engine]
workers = 1
[listeners.tcp]
bind = "127.0.0.1:{port}"
protocol = "tcp"
upstream = "origin"
timeouts = {{ idle = "10m" }}
[listeners.udp]
bind = "127.0.0.1:{port}"
protocol = "udp"
upstream = "echo"
timeouts = {{ idle = "10m" }}
[upstreams.origin]
endpoints = ["127.0.0.1:{origin}"]
[upstreams.echo]
endpoints = ["127.0.0.1:{self._echo}"]
"""


def sessions(stand: Stand) -> Result:
    """Process memory for each session over which something went both ways, and then nothing."""
    each = min(OF_EACH, stand.settings.idle_connections, (stand.files - SPARE_FILES) // BOTH)
    result = Result("SESSIONS", f"Silent sessions of layer 4 ({each:_} of TCP, {each:_} of UDP)".replace("_", " "))
    if missing := Penstock().absent():
        result.absent["penstock"] = missing
        return result
    say(f"SESSIONS: {each} of each")
    try:
        result.figures.append(_waiting(stand, each))
    except TROUBLE as error:
        result.failures["penstock"] = str(error)
    found = result.find("penstock")
    result.verdicts.append(Verdict("bytes a silent session", found.middle if found else None, LIMIT_BYTES, "bytes"))
    return result


def _waiting(stand: Stand, each: int) -> Figure:
    figure = Figure("penstock", "bytes")
    port, program = echo(stand)
    try:
        with stand.serving(PenstockSessions(port), Scenario(tcp=True)) as running:
            wait_until(partial(answers_datagrams, running.port), PATIENCE, "datagrams come back")
            check.plain(running.port)
            hold(figure, running, _clients(stand, f"127.0.0.1:{running.port}", each), each)
    finally:
        program.stop()
    return figure


@contextmanager
def _clients(stand: Stand, address: str, each: int) -> Iterator[Sequence[Program]]:
    with (
        stand.client("idle_client", address, each, "/") as tcp,
        stand.client("datagrams", "hold", address, each) as udp,
    ):
        yield (tcp, udp)
