"""The proxies side by side: one module each, which knows its program and writes its configuration.

What is equal: one worker thread, HTTP/1.1 with keep-alive on both sides, a pool of upstream connections shared by all
clients, the client's `Host` sent on, no access log unless the row asks for it. A new peer is one module and one line.
"""

from bench.peers.base import Peer, Scenario
from bench.peers.haproxy import HAProxy
from bench.peers.mitmdump import Mitmdump
from bench.peers.nginx import Nginx
from bench.peers.null_relay import NullRelay
from bench.peers.penstock import Penstock
from bench.peers.squid import Squid

ALL: tuple[Peer, ...] = (Penstock(), Nginx(), HAProxy(), NullRelay())

__all__ = ["ALL", "HAProxy", "Mitmdump", "Nginx", "NullRelay", "Peer", "Penstock", "Scenario", "Squid"]
