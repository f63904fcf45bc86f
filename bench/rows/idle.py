"""P10: what an idle connection holds."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from bench import check
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, Verdict
from bench.launch import Program, wait_settled
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Running, Stand

# The bench's own descriptors, the listener, the pool, logs.
SPARE_FILES = 500
LIMIT_BYTES, TLS_LIMIT_BYTES = 1536, 8192
PLAIN, TLS = "in clear", "TLS"
# One in so many of the connections: a handshake takes a client of the bench a millisecond.
TLS_SHARE = 4
# Seconds: buffers are given back after a few idle ones.
QUIET, LEAST, LONGEST = 3.0, 6.0, 30.0
# Less than this is the allocator at work, not a trend.
SLACK = 64 * 1024


def idle_connections(stand: Stand) -> Result:
    """P10: process memory for each open connection that has done one request and waits."""
    count = most(stand)
    result = Result("P10", f"Idle keep-alive connection ({count:_} of them)".replace("_", " "))
    if count < stand.settings.idle_connections:
        result.notes.append(f"{count} connections: the limit of open files allows no more")
    peers: tuple[Peer, ...] = (Penstock(), Nginx(), HAProxy())
    for peer in peers:
        if missing := peer.absent():
            result.absent[peer.name] = missing
            continue
        for variant, clients in ((PLAIN, count), (TLS, count // TLS_SHARE)):
            say(f"P10: {peer.name}, {variant}")
            tls = stand.certificate if variant == TLS else None
            try:
                scenario = Scenario(connections=clients + 100, tls=tls)
                result.figures.append(waiting(stand, peer, clients, scenario, variant))
            except TROUBLE as error:
                result.failures[f"{peer.name}, {variant}"] = str(error)
    for variant, limit in ((PLAIN, LIMIT_BYTES), (TLS, TLS_LIMIT_BYTES)):
        ours = result.find("penstock", variant)
        result.verdicts.append(Verdict(f"bytes a connection, {variant}", ours.middle if ours else None, limit, "bytes"))
    return result


def most(stand: Stand) -> int:
    """How many connections there are to be: Penstock takes in as many clients as two fifths of its descriptors
    (docs/operations.md, Descriptors)."""
    return min(stand.settings.idle_connections, (stand.files - SPARE_FILES) * 2 // 5)


def waiting(stand: Stand, peer: Peer, count: int, scenario: Scenario, variant: str = "") -> Figure:
    """The memory of so many connections that have had one answer and wait."""
    figure = Figure(peer.name, "bytes", variant)
    with stand.serving(peer, scenario) as running:
        check.plain(running.port, certificate=scenario.tls)
        hold(figure, running, _clients(stand, running, count), count)
    return figure


def hold(figure: Figure, running: Running, clients: AbstractContextManager[Sequence[Program]], each: int) -> None:
    """Measures the memory of connections at rest: each client opens so many, has one answer on each, and waits."""
    before = wait_settled(running.memory, SLACK, 1.0, 1.0, LONGEST)
    with clients as opened:
        _expect(opened, None, f"open {each}")
        busy = running.memory()
        after = wait_settled(running.memory, SLACK, QUIET, LEAST, LONGEST)
        # Memory of connections that were dropped would be cheap: all of them must still serve.
        _expect(opened, "again", f"served {each}")
    count = each * len(opened)
    figure.samples.append((after - before) / count)
    figure.observe(bytes_when_just_opened=(busy - before) / count, bytes_of_the_program=before)


def _expect(clients: Sequence[Program], question: str | None, answer: str) -> None:
    for client in clients:
        said = client.ask(question, 120)
        check.expect(said == answer, f"{said}, not {answer}")


@contextmanager
def _clients(stand: Stand, running: Running, count: int) -> Iterator[Sequence[Program]]:
    if running.certificate is None:
        client = stand.client("idle_client", f"127.0.0.1:{running.port}", count, "/")
    else:
        client = stand.client("idle_tls.py", running.port, count, running.certificate.cert)
    with client as opened:
        yield (opened,)
