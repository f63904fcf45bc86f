"""P10: what an idle connection holds."""

from contextlib import AbstractContextManager

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
    with stand.serving(peer, scenario) as running:
        check.plain(running.port, certificate=scenario.tls)
        before = wait_settled(running.memory, SLACK, 1.0, 1.0, LONGEST)
        with _clients(stand, running, count) as client:
            opened = client.ask(None, 120)
            check.expect(opened == f"open {count}", f"{opened}, not {count}")
            busy = running.memory()
            after = wait_settled(running.memory, SLACK, QUIET, LEAST, LONGEST)
            # Memory of connections that were dropped would be cheap: all of them must still serve.
            served = client.ask("again", 120)
            check.expect(served == f"served {count}", f"{served} of {count} idle connections")
        figure = Figure(peer.name, "bytes", variant, samples=[(after - before) / count])
        figure.observe(bytes_when_just_opened=(busy - before) / count, bytes_of_the_program=before)
        return figure


def _clients(stand: Stand, running: Running, count: int) -> AbstractContextManager[Program]:
    if running.certificate is None:
        return stand.client("idle_client", f"127.0.0.1:{running.port}", count, "/")
    return stand.client("idle_tls.py", running.port, count, running.certificate.cert)
