"""What a row asks of a peer, and what a peer answers."""

import re
import shutil
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from bench.certificate import Certificate

POOL = 128
"""Unused upstream connections that a peer may keep: more than any row's clients."""

FOREVER = 1_000_000_000
"""Requests on one connection: never a reason to close it."""


@dataclass(frozen=True)
class Scenario:
    """What a peer is to do with every request."""

    # With more than one, the last is the one that the bench's requests take.
    routes: int = 1
    edits: bool = False
    health_check: bool = False
    # Active health checks, affinity by cookie, and a retry policy.
    balancing: bool = False
    # `POST /orders` is what the last route asks for; with a member of its JSON body, if that is named.
    orders: bool = False
    member: str = ""
    access_log: bool = False
    # Clients speak HTTP/2, and need not be able to speak anything else.
    http2: bool = False
    # Clients speak TLS 1.3; no session is resumed where a peer can be told so.
    tls: Certificate | None = None
    # Connections are relayed, and what is said on them is not looked at.
    tcp: bool = False
    # Clients say where they go: "plain" by whole URLs, "tunnels" by CONNECT, "opened" by tunnels that are opened, and
    # what goes through them is captured; then `tls` is what the origin serves.
    forward: str = ""
    # Bodies are passed on as they come, instead of being collected first.
    streaming: bool = False
    # Open client connections that must fit.
    connections: int = 1024
    # Sent as the response header `X-Generation`, by which a new configuration is seen to be active.
    generation: str = ""


class Peer(ABC):
    """A proxy that can be measured."""

    name: str

    @abstractmethod
    def absent(self) -> str | None:
        """Why it cannot be measured here, or nothing."""

    @abstractmethod
    def version(self) -> str:
        """Its version, for the report."""

    @abstractmethod
    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        """Writes its configuration into the folder and returns the command that runs it in the foreground."""

    def access_log(self, folder: Path) -> Path:
        """Where the access log is, if the scenario asked for one."""
        return folder / "access.log"


def program(name: str) -> str | None:
    """Where an installed program is; Debian keeps servers outside of users' PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def version_in(command: list[str]) -> str:
    """The first version number that a program prints about itself."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+\.\d+(\.\d+)?([-.]\w+)*", done.stdout + done.stderr)
    return found[0] if found else "unknown"
