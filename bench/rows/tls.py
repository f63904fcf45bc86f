"""P5: what TLS costs: requests on connections that stay, and a whole handshake for each request."""

from dataclasses import dataclass

from bench import check, s_time, wrk
from bench.contest import Contender, contest
from bench.figures import Result, better
from bench.launch import BenchError
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Running, Stand

KEPT, HANDSHAKE = "connections kept", "full handshake"


@dataclass(frozen=True)
class Handshaking(Contender):
    """A contender whose every request comes on a connection of its own, without a session to resume."""

    def load(self, running: Running, connections: int, seconds: int) -> wrk.Load:
        return s_time.drive(running.port, seconds)


def http1(stand: Stand) -> Result:
    """P5: HTTP/1.1 over TLS."""
    if not s_time.found():
        raise BenchError("openssl is not installed (Debian: apt install openssl)")
    result = Result("P5", "HTTP/1.1 over TLS 1.3 (P-256) to HTTP/1.1, one route")
    peers: tuple[Peer, ...] = (Penstock(), Nginx(), HAProxy())
    contest(stand, result, [kept(stand, peer) for peer in peers] + [handshaking(stand, peer) for peer in peers])
    for variant, limit in ((KEPT, 0.8), (HANDSHAKE, 0.6)):
        ours, nginx, haproxy = (result.find(name, variant) for name in ("penstock", "nginx", "haproxy"))
        result.compare(ours, nginx, f"nginx, {variant}")
        result.compare(ours, haproxy, f"haproxy, {variant}")
        result.compare(ours, better(nginx, haproxy), f"the better of the two, {variant}", limit)
    return result


def kept(stand: Stand, peer: Peer) -> Contender:
    """Requests on connections that stay."""
    return Contender(peer, Scenario(tls=stand.certificate), KEPT)


def handshaking(stand: Stand, peer: Peer) -> Contender:
    """A handshake for each request."""
    return Handshaking(peer, Scenario(tls=stand.certificate), HANDSHAKE, right=_right)


def _right(running: Running) -> None:
    check.plain(running.port, certificate=running.certificate)
    check.churn(running.port, running.certificate)
