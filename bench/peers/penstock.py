"""Penstock itself, as it is installed beside the interpreter that runs the bench."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

from bench.builds import Build
from bench.peers.base import POOL, Peer, Scenario

# Every tenth route asks for a host, so that both kinds of tests are on the way to the last one.
_HOST_EVERY = 10

BALANCING = """affinity = { cookie = "lb" }
retry = { attempts = 2, per_try_timeout = "5s", on = [502, 503] }
"""


_RELAY = """[engine]
workers = 1
[listeners.relay]
bind = "127.0.0.1:{port}"
protocol = "tcp"
upstream = "origin"
[upstreams.origin]
endpoints = ["127.0.0.1:{origin}"]
"""

_FORWARD = """[engine]
workers = 1
[listeners.out]
bind = "127.0.0.1:{port}"
protocol = "forward"
allow_private = true
connect_ports = ["1-65535"]
timeouts = {{ idle = "300s" }}
"""
_OPENED = """rules = [{{ intercept = true }}]
interception = {{ authority = "{folder}/ca" }}
origins = {{ tls = {{ ca = "{cert}" }} }}
capture = {{ memory = "64MB" }}
"""


class Penstock(Peer):
    """The command `penstock run` of this environment."""

    name = "penstock"

    def __init__(self, build: Build | None = None, under: tuple[str, ...] = ()) -> None:
        """`build`: another than the installed one. `under`: the command that runs it, with its arguments."""
        self.name = build.name if build else Penstock.name
        self._build = build
        self._under = under

    def absent(self) -> str | None:
        if self._build:
            return None
        try:
            found = importlib.util.find_spec("penstock._native")
        except ModuleNotFoundError:
            return "not installed (make build)"
        return None if found else "its extension is not built (make build)"

    def version(self) -> str:
        try:
            return importlib.metadata.version("penstock")
        except importlib.metadata.PackageNotFoundError:
            return "of this tree"

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        target = folder / "penstock.toml"
        target.write_text(self.configuration(folder, port, origin, scenario))
        path = [f"PYTHONPATH={self._build.path}"] if self._build else []
        # Whoever installs a package has its bytecode, and an environment that writes none would not.
        clean = ["--unset=PYTHONDONTWRITEBYTECODE"]
        return ["env", *clean, *path, *self._under, sys.executable, "-m", "penstock", "run", "-c", str(target)]

    def configuration(self, folder: Path, port: int, origin: int, scenario: Scenario) -> str:
        """The file for a scenario, also for a later reload."""
        probed = scenario.health_check or scenario.balancing
        check = 'health_check = { path = "/healthz", interval = "1s" }' if probed else ""
        balancing = BALANCING if scenario.balancing else ""
        log = f'[log.access]\nformat = "json"\nto = "{self.access_log(folder)}"' if scenario.access_log else ""
        if scenario.forward:
            opened = _OPENED.format(folder=folder, cert=scenario.tls.cert) if scenario.tls else ""
            return _FORWARD.format(port=port) + opened
        if scenario.tcp:
            return _RELAY.format(port=port, origin=origin)
        return f"""[engine]
workers = 1
[listeners.web]
bind = "127.0.0.1:{port}"
timeouts = {{ idle = "300s" }}
{_speaks(scenario, knows_tickets=self._build is None)}
[upstreams.origin]
endpoints = ["127.0.0.1:{origin}"]
limits = {{ idle_connections = {POOL} }}
{check}
{balancing}
{log}
{self._routes(scenario)}
"""

    def _routes(self, scenario: Scenario) -> str:
        if scenario.orders:
            return _orders(scenario.member)
        last = scenario.routes - 1
        earlier = [f"[[routes]]\nmatch = '{match_of(number)}'\nupstream = \"origin\"\n" for number in range(last)]
        match = f"match = 'path.startswith(\"{prefix_of(last)}/\")'\n" if last else ""
        return "".join(earlier) + f'[[routes]]\n{match}upstream = "origin"\n{_filters(scenario, last)}'


def _speaks(scenario: Scenario, *, knows_tickets: bool) -> str:
    if scenario.tls is None:
        return "h2c = true" if scenario.http2 else ""
    tickets = "tickets = false, " if knows_tickets else ""
    return f'tls = {{ {tickets}certificates = [{{ cert = "{scenario.tls.cert}", key = "{scenario.tls.key}" }}] }}'


def _orders(member: str) -> str:
    test = 'method == "POST" and path == "/orders"' + (f' and {member} == "pro"' if member else "")
    return f"[[routes]]\nmatch = '{test}'\nupstream = \"origin\"\n[[routes]]\nrespond = {{ status = 404 }}\n"


def match_of(number: int) -> str:
    """The test of a route that no request of the bench meets."""
    prefix = f'path.startswith("{prefix_of(number)}/")'
    return f'host == "shop-{number}.example" and {prefix}' if number % _HOST_EVERY == 0 else prefix


def prefix_of(number: int) -> str:
    """The path of a route."""
    return f"/service-{number:05}"


def _filters(scenario: Scenario, last: int) -> str:
    filters: list[str] = []
    if scenario.edits:
        filters += [
            '{ set_request_header = { "X-Team" = "pro" } }',
            '{ remove_request_header = ["X-Secret"] }',
            '{ set_response_header = { "X-Served-By" = "penstock" } }',
            '{ remove_response_header = ["Server"] }',
        ]
    if scenario.generation:
        filters.append(f'{{ set_response_header = {{ "X-Generation" = "{scenario.generation}" }} }}')
    if last and scenario.edits:
        filters.append(f'{{ strip_prefix = "{prefix_of(last)}" }}')
    return f"filters = [{', '.join(filters)}]" if filters else ""
