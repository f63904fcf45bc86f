"""Squid: one process, nothing cached, nothing logged."""

from pathlib import Path

from bench.peers.base import Peer, Scenario, program, version_in

_CONFIGURATION = """http_port 127.0.0.1:{port}
visible_hostname bench
pid_filename none
coredump_dir none
cache_log /dev/null
access_log none
cache_store_log none
netdb_filename none
pinger_enable off
cache deny all
cache_mem 8 MB
memory_pools on
http_access allow all
client_idle_pconn_timeout 5 minutes
server_idle_pconn_timeout 5 minutes
request_timeout 5 minutes
shutdown_lifetime 1 second
"""


class Squid(Peer):
    """Squid, as Debian packages it."""

    name = "squid"

    def absent(self) -> str | None:
        return None if program("squid") else "not installed (Debian: apt install squid)"

    def version(self) -> str:
        return version_in([program("squid") or "squid", "-v"])

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        target = folder / "squid.conf"
        # It becomes another user when root starts it, so it is told of no file in this folder.
        target.write_text(_CONFIGURATION.format(port=port))
        # Its shared memory has the name of the service: two of one name do not run side by side.
        return [program("squid") or "squid", "-N", "-d1", "-n", f"bench{port}", "-f", str(target)]
