"""Facts of the machine that figures depend on; nothing that names it."""

import datetime
import os
import platform
import re
from pathlib import Path

from bench.peers import ALL, Mitmdump, Squid
from bench.peers.base import version_in


def facts() -> dict[str, object]:
    """Cores, kernel, processor, versions and the date."""
    versions = {peer.name: peer.version() for peer in (*ALL, Squid(), Mitmdump()) if peer.absent() is None}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "processor": processor(Path("/proc/cpuinfo").read_text()),
        # Without what a distribution or a host adds to the number.
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "wrk": version_in(["wrk", "-v"]),
        "versions": versions,
    }


def processor(cpuinfo: str) -> str:
    """The first model name of `/proc/cpuinfo`."""
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(model[1].split()) if model else platform.machine()
