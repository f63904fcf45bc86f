"""P4: what a request costs that comes over HTTP/2 and goes on over HTTP/1.1."""

from dataclasses import dataclass

from bench import check, h2load, wrk
from bench.contest import Contender, contest
from bench.figures import Result, better
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Running, Stand


@dataclass(frozen=True)
class Multiplexed(Contender):
    """A contender that is loaded over HTTP/2."""

    def load(self, running: Running, connections: int, seconds: int) -> wrk.Load:
        return h2load.drive(running.url + self.path, connections, seconds)


def clear(stand: Stand) -> Result:
    """P4: 16 connections with 4 requests at once on each, without TLS."""
    result = Result("P4", "HTTP/2 without TLS to HTTP/1.1, one route")
    contest(stand, result, [multiplexed(peer) for peer in (Penstock(), Nginx(), HAProxy())])
    ours, nginx, haproxy = (result.find(name) for name in ("penstock", "nginx", "haproxy"))
    result.compare(ours, nginx, "nginx")
    result.compare(ours, haproxy, "haproxy")
    result.compare(ours, better(nginx, haproxy), "the better of the two", 0.8)
    return result


def multiplexed(peer: Peer) -> Contender:
    """P4 for one peer."""
    return Multiplexed(peer, Scenario(http2=True), right=lambda running: check.http2(running.port))
