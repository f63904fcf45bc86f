"""P11: the latency that a proxy adds, at a rate that leaves it idle half of the time."""

import json
from contextlib import ExitStack

from bench import check, wrk
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, better
from bench.launch import BenchError
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Running, Stand

PERCENTILES = ("p50", "p99")
DIRECT = "direct"
UNIT = "µs added"


def added_latency(stand: Stand) -> Result:
    """P11: p50 and p99 through a proxy less those of the origin alone, at half of nginx's highest rate."""
    result = Result("P11", "Latency added at half of nginx's highest rate")
    peers: tuple[Peer, ...] = (Penstock(), Nginx(), HAProxy())
    with ExitStack() as stack:
        running = _start(stand, result, peers, stack)
        if not running:
            raise BenchError("no proxy is here")
        pace = _half_rate(stand, running)
        result.notes.append(f"{pace} requests a second on {stand.settings.connections} connections, open loop")
        for name in running:
            result.figures += [Figure(name, UNIT, percentile) for percentile in PERCENTILES]
        result.figures += [Figure(DIRECT, "µs", percentile) for percentile in PERCENTILES]
        for round_ in range(stand.settings.rounds):
            say(f"P11 round {round_ + 1}/{stand.settings.rounds}")
            _round(stand, result, running, pace)
    _subtract_direct(result)
    for percentile in PERCENTILES:
        best = better(result.find("nginx", percentile), result.find("haproxy", percentile))
        name = f"{best.peer}, {percentile}" if best else f"the better, {percentile}"
        result.compare(result.find("penstock", percentile), best, name, 1.0)
    return result


def paced(stand: Stand, port: int, pace: int, seconds: float, path: str = "/") -> dict[str, float]:
    """One run of the paced client against a port."""
    arguments = (f"127.0.0.1:{port}", pace, seconds, stand.settings.connections, path)
    with stand.client("paced_client", *arguments) as client:
        client.ask(None, seconds + 10)
        return report_of(client.ask(None, seconds + 10))


def report_of(line: str) -> dict[str, float]:
    """The paced client's report; refused when a request failed."""
    report: dict[str, float] = json.loads(line)
    check.expect(report["failed"] == 0, f"{report['failed']} of {report['requests']} paced requests failed")
    return report


def _start(stand: Stand, result: Result, peers: tuple[Peer, ...], stack: ExitStack) -> dict[str, Running]:
    running = {}
    for peer in peers:
        if missing := peer.absent():
            result.absent[peer.name] = missing
            continue
        try:
            one = stack.enter_context(stand.serving(peer, Scenario()))
            check.plain(one.port)
            running[peer.name] = one
        except TROUBLE as error:
            result.failures[peer.name] = str(error)
    return running


def _half_rate(stand: Stand, running: dict[str, Running]) -> int:
    # Without nginx, half of what is here: the row then says less, but it stands.
    fastest = running.get("nginx") or next(iter(running.values()))
    wrk.drive(fastest.url, stand.settings.connections, 1)
    return int(wrk.drive(fastest.url, stand.settings.connections, stand.settings.seconds).rate / 2)


def _round(stand: Stand, result: Result, running: dict[str, Running], pace: int) -> None:
    direct = paced(stand, stand.origin, pace, stand.settings.seconds)
    for name, one in running.items():
        if name in result.failures:
            continue
        try:
            through = paced(stand, one.port, pace, stand.settings.seconds)
        except TROUBLE as error:
            result.failures[name] = str(error)
            continue
        for percentile in PERCENTILES:
            _add(result, name, percentile, through[f"{percentile}_us"])
    for percentile in PERCENTILES:
        _add(result, DIRECT, percentile, direct[f"{percentile}_us"])


def _subtract_direct(result: Result) -> None:
    """Takes the origin's own latency off, as the median of its rounds: its rounds are as noisy as any."""
    for percentile in PERCENTILES:
        direct = result.find(DIRECT, percentile)
        for figure in result.figures:
            if direct and figure.peer != DIRECT and figure.variant == percentile:
                figure.samples = [sample - (direct.middle or 0.0) for sample in figure.samples]


def _add(result: Result, name: str, percentile: str, value: float) -> None:
    figure = next(one for one in result.figures if (one.peer, one.variant) == (name, percentile))
    figure.samples.append(value)
