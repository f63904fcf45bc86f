"""P10: what an idle connection holds."""

from bench import check
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, Verdict
from bench.launch import wait_settled
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Stand

# The bench's own descriptors, the listener, the pool, logs.
SPARE_FILES = 500
LIMIT_BYTES = 1536
# Seconds: buffers are given back after a few idle ones.
QUIET, LEAST, LONGEST = 3.0, 6.0, 30.0
# Less than this is the allocator at work, not a trend.
SLACK = 64 * 1024


def idle_connections(stand: Stand) -> Result:
    """P10: process memory for each open connection that has done one request and waits."""
    # Penstock takes in as many clients as two fifths of its descriptors (docs/operations.md, Descriptors).
    count = min(stand.settings.idle_connections, (stand.files - SPARE_FILES) * 2 // 5)
    result = Result("P10", f"Idle keep-alive connection, plain ({count:_} of them)".replace("_", " "))
    if count < stand.settings.idle_connections:
        result.notes.append(f"{count} connections: the limit of open files allows no more")
    peers: tuple[Peer, ...] = (Penstock(), Nginx(), HAProxy())
    for peer in peers:
        if missing := peer.absent():
            result.absent[peer.name] = missing
            continue
        say(f"P10: {peer.name}")
        try:
            result.figures.append(_measure(stand, peer, count))
        except TROUBLE as error:
            result.failures[peer.name] = str(error)
    ours = result.find("penstock")
    result.verdicts.append(Verdict("bytes a connection", ours.middle if ours else None, LIMIT_BYTES, "bytes"))
    return result


def _measure(stand: Stand, peer: Peer, count: int) -> Figure:
    with stand.serving(peer, Scenario(connections=count + 100)) as running:
        check.plain(running.port)
        before = wait_settled(running.memory, SLACK, 1.0, 1.0, LONGEST)
        with stand.client("idle_client", f"127.0.0.1:{running.port}", count, "/") as client:
            opened = client.ask(None, 60)
            check.expect(opened == f"open {count}", f"{opened}, not {count}")
            busy = running.memory()
            after = wait_settled(running.memory, SLACK, QUIET, LEAST, LONGEST)
            # Memory of connections that were dropped would be cheap: all of them must still serve.
            served = client.ask("again", 60)
            check.expect(served == f"served {count}", f"{served} of {count} idle connections")
        figure = Figure(peer.name, "bytes", samples=[(after - before) / count])
        figure.observe(bytes_when_just_opened=(busy - before) / count, bytes_of_the_program=before)
        return figure
