"""P7: a TCP relay: small messages, connections that come and go, bulk both ways, and what a silent session holds.

The messages are requests of HTTP and their answers, as in other rows; no peer reads them.
"""

from contextlib import ExitStack

from bench import bulk, usage
from bench.contest import TROUBLE, Contender, contest, say
from bench.figures import Figure, Result, Verdict, better
from bench.peers import HAProxy, Nginx, NullRelay, Peer, Penstock, Scenario
from bench.rows.idle import LIMIT_BYTES, most, waiting
from bench.rows.requests import churning
from bench.stand import Running, Stand

MB = 1_000_000
TRANSFERS = 4
TCP = Scenario(tcp=True)
WAYS = {"download": bulk.download, "upload": bulk.upload}


def relay(stand: Stand) -> Result:
    """P7: nobody looks into the bytes."""
    result = Result("P7", "TCP relay")
    peers: tuple[Peer, ...] = (Penstock(), Nginx(stream=True), HAProxy())
    contest(stand, result, [Contender(peer, TCP, "small messages") for peer in (*peers, NullRelay())])
    contest(stand, result, [churning(peer, TCP, "one connection each") for peer in peers])
    _bulk(stand, result, peers)
    _silent(stand, result, peers)
    for variant, limit in (("small messages", 1.0), ("one connection each", None)):
        ours, nginx, haproxy = (result.find(peer.name, variant) for peer in peers)
        found = better(nginx, haproxy)
        result.compare(ours, found, f"{found.peer if found else 'the better'}, {variant}", limit)
    for way in WAYS:
        ours, nginx, haproxy = (result.find(peer.name, way) for peer in peers)
        result.compare(ours, haproxy, f"haproxy with splice, {way}", 1.0)
        result.compare(ours, nginx, f"nginx, {way}")
    silent = result.find("penstock", "silent")
    result.verdicts.append(Verdict("bytes a silent session", silent.middle if silent else None, LIMIT_BYTES, "bytes"))
    return result


def _bulk(stand: Stand, result: Result, peers: tuple[Peer, ...]) -> None:
    """CPU time of large transfers, interleaved as the requests are."""
    length = stand.settings.large_bytes
    unit = f"CPU-ms/{length // MB} MB"
    with ExitStack() as stack:
        line: list[tuple[Running, dict[str, Figure]]] = []
        for peer in peers:
            if peer.absent():
                continue
            try:
                line.append((stack.enter_context(stand.serving(peer, TCP)), {}))
            except TROUBLE as error:
                result.failures[f"{peer.name}, bulk"] = str(error)
                continue
            for way in WAYS:
                line[-1][1][way] = Figure(peer.name, unit, way)
            result.figures += line[-1][1].values()
        for round_ in range(stand.settings.rounds):
            for running, figures in line[:: -1 if round_ % 2 else 1]:
                say(f"P7 round {round_ + 1}/{stand.settings.rounds}: {running.peer.name}, bulk")
                for way, figure in figures.items():
                    try:
                        figure.samples.append(_transfer(running, way, length))
                    except TROUBLE as error:
                        result.failures[figure.label] = str(error)
                        continue
                    figure.observe(mb_per_cpu_second=length / MB / (figure.samples[-1] / 1000))


def _transfer(running: Running, way: str, length: int) -> float:
    """Milliseconds of CPU that one takes."""
    before = running.usage()
    for _ in range(TRANSFERS):
        WAYS[way](running.port, length)
    return usage.spent(before, running.usage()).cpu_ns / TRANSFERS / 1e6


def _silent(stand: Stand, result: Result, peers: tuple[Peer, ...]) -> None:
    """Memory of sessions over which one message went each way, and then nothing."""
    count = most(stand)
    for peer in peers:
        if peer.absent():
            continue
        say(f"P7: {count} silent sessions: {peer.name}")
        try:
            scenario = Scenario(tcp=True, connections=count + 100)
            result.figures.append(waiting(stand, peer, count, scenario, "silent"))
        except TROUBLE as error:
            result.failures[f"{peer.name}, silent"] = str(error)
