"""P1, P2, P14: what one request costs, with one route, with many, and with a connection of its own."""

from bench import check
from bench.contest import Contender, contest
from bench.figures import Figure, Result
from bench.peers import ALL, HAProxy, Nginx, Peer, Penstock, Scenario
from bench.peers.penstock import prefix_of
from bench.stand import Running, Stand

MANY = (1_000, 10_000)


def one_route(stand: Stand) -> Result:
    """P1: one route, a body of 128 bytes, connections kept on both sides."""
    result = Result("P1", "HTTP/1.1 proxied request, one route")
    contest(stand, result, [Contender(peer) for peer in ALL])
    compare_with_peers(result, result.find("penstock"))
    return result


def compare_with_peers(result: Result, ours: Figure | None) -> None:
    """The targets of P1 (performance.md)."""
    for peer, target in (("nginx", 0.78), ("haproxy", 0.75), ("null relay", 1.15)):
        result.compare(ours, result.find(peer), peer, target)


def many_routes(stand: Stand) -> Result:
    """P2: the last of many routes matches, headers are edited, endpoints are probed; against its own P1."""
    result = Result("P2", "The same with many routes, header edits and health checks")
    contenders = [Contender(Penstock(), variant="1 route")]
    contenders += [late_route(Penstock(), count) for count in MANY]
    contest(stand, result, contenders)
    base = result.find("penstock", "1 route")
    for count in MANY:
        result.compare(result.find("penstock", _routes(count)), base, f"P1, {_routes(count)}", 1.08)
    return result


def churn(stand: Stand) -> Result:
    """P14: every request opens a connection and ends it."""
    result = Result("P14", "Connection churn: one request a connection")
    contest(
        stand,
        result,
        [
            # The null relay is no limit here: it opens a connection to the origin for each of the client's.
            churning(peer)
            for peer in (Penstock(), Nginx(), HAProxy())
        ],
    )
    ours = result.find("penstock")
    result.compare(ours, result.find("nginx"), "nginx", 0.9)
    result.compare(ours, result.find("haproxy"), "haproxy")
    return result


def churning(peer: Peer, scenario: Scenario | None = None, variant: str = "") -> Contender:
    """Every request on a connection of its own."""
    scenario = scenario or Scenario()
    close = ("Connection: close",)
    return Contender(peer, scenario, variant, headers=close, right=lambda running: check.churn(running.port))


def late_route(peer: Peer, count: int) -> Contender:
    """The last of many routes, with edits and probes."""
    path = prefix_of(count - 1) + "/item"

    def right(running: Running) -> None:
        check.plain(running.port, path)
        check.edits(running.port, path)

    scenario = Scenario(routes=count, edits=True, health_check=True)
    return Contender(peer, scenario, _routes(count), path, right=right)


def _routes(count: int) -> str:
    return f"{count:_} routes".replace("_", " ")
