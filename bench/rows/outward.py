"""P9: what a forward proxy costs: requests with whole URLs, tunnels, and tunnels that are opened and captured.

wrk knows no proxies. It is given whole URLs to ask for; for tunnels it speaks to a relay of ours, which asks the proxy
for one and passes bytes on from then on, on the client's core. A relay of layer 4 stands beside the tunnels, and is
reached through the same relay, which asks it for nothing: the client's core limits both alike.
"""

import http.client
import shutil
import ssl
from dataclasses import dataclass
from functools import cache

from bench import check, wrk
from bench.contest import Contender, contest
from bench.figures import Result
from bench.launch import BenchError, free_port
from bench.peers import Mitmdump, Peer, Penstock, Scenario, Squid
from bench.peers.null_relay import built
from bench.stand import Running, Stand

PLAIN, TUNNELS, OPENED, RELAY = "whole URLs", "tunnels", "opened and captured", "P7, small messages"

OPENING = 4
"""Seconds that a load of opened tunnels lasts at least."""


@dataclass(frozen=True)
class Outward(Contender):
    """A forward proxy whose clients ask for `place`."""

    stand: Stand | None = None
    place: str = ""
    """Where tunnels lead; empty: none are asked for."""

    def load(self, running: Running, connections: int, seconds: int) -> wrk.Load:
        if self.scenario.forward == "plain":
            return wrk.drive(running.url, connections, seconds, target=f"http://{self.place}/")
        # What is asked for in a tunnel is for its own host; the port of the relay is none of that.
        host = (f"Host: {self.place}",) if self.place else ()
        if self.scenario.tls is None:
            return wrk.drive(f"http://127.0.0.1:{self.entrance(running)}/", connections, seconds, host)
        # mitmdump needs more than a second for the handshakes alone.
        return wrk.drive(f"https://127.0.0.1:{self.entrance(running)}/", connections, max(seconds, OPENING), host)

    def entrance(self, running: Running) -> int:
        """The port at which a tunnel begins."""
        if self.stand is None:
            raise BenchError("a tunnel begins on a stand")
        return _entrance(self.stand, running.port, self.place)


def outward(stand: Stand) -> Result:
    """P9: a forward proxy."""
    result = Result("P9", "Forward proxy")
    origin = f"127.0.0.1:{stand.origin}"
    plain = Scenario(forward="plain")
    tunnels = Scenario(forward="tunnels")
    opened = Scenario(forward="opened", tls=stand.certificate)
    secure = f"127.0.0.1:{_secure_origin(stand)}"
    line: list[Contender] = [_contender(stand, peer, plain, PLAIN, origin) for peer in (Penstock(), Squid())]
    line += [_contender(stand, peer, tunnels, TUNNELS, origin) for peer in (Penstock(), Squid())]
    line.append(Outward(Penstock(), Scenario(tcp=True), RELAY, stand=stand))
    line += [_contender(stand, peer, opened, OPENED, secure) for peer in (Penstock(), Mitmdump())]
    contest(stand, result, line)
    for variant, peer, limit in ((PLAIN, "squid", 0.25), (TUNNELS, "squid", None), (OPENED, "mitmdump", 0.03)):
        result.compare(result.find("penstock", variant), result.find(peer, variant), f"{peer}, {variant}", limit)
    relay = result.find("penstock", RELAY)
    result.compare(result.find("penstock", TUNNELS), relay, f"its own {RELAY}", 1.0)
    return result


def _contender(stand: Stand, peer: Peer, scenario: Scenario, variant: str, place: str) -> Outward:
    def right(running: Running) -> None:
        _right(contender, running)

    contender = Outward(peer, scenario, variant, right=right, stand=stand, place=place)
    return contender


@cache
def _entrance(stand: Stand, port: int, place: str) -> int:
    entrance = free_port()
    command = [str(built("null_relay")), f"127.0.0.1:{entrance}", f"127.0.0.1:{port}", *([place] if place else [])]
    stand.start_program(command, f"tunnel-{port}", entrance)
    return entrance


@cache
def _secure_origin(stand: Stand) -> int:
    """The origin, with TLS before it, on the client's core."""
    port = free_port()
    folder = stand.folder / "secure-origin"
    folder.mkdir()
    command = Penstock().prepare(folder, port, stand.origin, Scenario(tls=stand.certificate))
    stand.start_program([shutil.which(command[0]) or command[0], *command[1:]], "secure-origin", port)
    return port


def _right(contender: Outward, running: Running) -> None:
    """Two answers on one connection, each whole; of an opened tunnel not by the origin's certificate."""
    connection: http.client.HTTPConnection
    path = "/"
    if contender.scenario.forward == "plain":
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
        path = f"http://{contender.place}/"
    elif contender.scenario.tls:
        trust = ssl.create_default_context()
        # wrk looks at no certificate either; whose it is, is looked at here.
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", contender.entrance(running), timeout=10, context=trust)
        connection.connect()
        shown = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True) or b"")
        own = contender.scenario.tls.cert.read_text()
        check.expect(shown.split() != own.split(), "the tunnel was not opened")
    else:
        connection = http.client.HTTPConnection("127.0.0.1", contender.entrance(running), timeout=10)
    try:
        for _ in range(2):
            answer = check.ask(connection, path, {"Host": contender.place})
            check.expect(answer.status == 200, f"GET {path}: status {answer.status}")
            check.expect(answer.body == check.BODY, f"GET {path}: a body that is not the origin's")
    finally:
        connection.close()
