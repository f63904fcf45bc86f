"""P1+, P2+: what active health checks, affinity by cookie and a retry policy add to a request."""

from dataclasses import replace

from bench import check
from bench.contest import Contender, contest
from bench.figures import Result
from bench.peers import HAProxy, Nginx, NullRelay, Peer, Penstock, Scenario
from bench.rows.requests import MANY, compare_with_peers, late_route
from bench.stand import Running, Stand

PLAIN, BALANCED = "plain", "checks, affinity, retry"


def one_route(stand: Stand) -> Result:
    """P1+: one route; the clients have their cookie. The peers do what they do in P1."""
    result = Result("P1+", "P1 with health checks, affinity by cookie and a retry policy")
    others = [Contender(peer) for peer in (Nginx(), HAProxy(), NullRelay())]
    contest(stand, result, [Contender(Penstock(), variant=PLAIN), balanced(Contender(Penstock())), *others])
    ours = result.find("penstock", BALANCED)
    result.compare(ours, result.find("penstock", PLAIN), "P1")
    compare_with_peers(result, ours)
    return result


def many_routes(stand: Stand) -> Result:
    """P2+: the last of many routes, with edits; against P1 as P2 is, and against P2."""
    result = Result("P2+", "P2 with health checks, affinity by cookie and a retry policy")
    late = late_route(Penstock(), MANY[0])
    plain, with_all = replace(late, variant=PLAIN), balanced(late)
    contest(stand, result, [Contender(Penstock(), variant="1 route"), plain, with_all])
    ours = result.find("penstock", BALANCED)
    result.compare(ours, result.find("penstock", "1 route"), "P1", 1.08)
    result.compare(ours, result.find("penstock", PLAIN), "P2")
    return result


def balanced(contender: Contender) -> Contender:
    """The same with all of it, for clients that were there before."""

    def right(running: Running) -> None:
        contender.right(running)
        check.affinity(running.port, contender.path)

    def brings(running: Running) -> tuple[str, ...]:
        return (f"Cookie: {check.cookie(running.port, contender.path)}",)

    scenario = replace(contender.scenario, balancing=True)
    return replace(contender, scenario=scenario, variant=BALANCED, right=right, brings=brings)


def bound(peer: Peer) -> Contender:
    """P1+ for one peer."""
    return balanced(Contender(peer, Scenario()))
