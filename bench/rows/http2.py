"""P4: what a request costs that comes over HTTP/2 and goes on over HTTP/1.1."""

from dataclasses import dataclass

from bench import check, h2load, wrk
from bench.contest import Contender, contest
from bench.figures import Result, better
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Running, Stand

CLEAR, TLS = "in clear", "TLS"


@dataclass(frozen=True)
class Multiplexed(Contender):
    """A contender that is loaded over HTTP/2."""

    def load(self, running: Running, connections: int, seconds: int) -> wrk.Load:
        return h2load.drive(running.url + self.path, connections, seconds)


def to_http1(stand: Stand) -> Result:
    """P4: 16 connections with 4 requests at once on each, without TLS and with it."""
    result = Result("P4", "HTTP/2 to HTTP/1.1, one route")
    peers: tuple[Peer, ...] = (Penstock(), Nginx(), HAProxy())
    contest(stand, result, [multiplexed(peer) for peer in peers] + [encrypted(stand, peer) for peer in peers])
    for variant in (CLEAR, TLS):
        ours, nginx, haproxy = (result.find(name, variant) for name in ("penstock", "nginx", "haproxy"))
        result.compare(ours, nginx, f"nginx, {variant}")
        result.compare(ours, haproxy, f"haproxy, {variant}")
        result.compare(ours, better(nginx, haproxy), f"the better of the two, {variant}", 0.8)
    return result


def multiplexed(peer: Peer) -> Contender:
    """P4 for one peer, without TLS."""
    return Multiplexed(peer, Scenario(http2=True), CLEAR, right=_right)


def encrypted(stand: Stand, peer: Peer) -> Contender:
    """P4 for one peer, with TLS."""
    return Multiplexed(peer, Scenario(http2=True, tls=stand.certificate), TLS, right=_right)


def _right(running: Running) -> None:
    check.http2(running.port, running.certificate)
