"""mitmdump, mitmproxy's program without a screen: what goes through its tunnels is opened, and captured in a file."""

from pathlib import Path

from bench.peers.base import Peer, Scenario, program, version_in
from bench.peers.null_relay import ROOT

OWN = ROOT / "target" / "mitmproxy" / "bin" / "mitmdump"
"""Where `make mitmproxy` puts it: its packages would not go with those of the tests."""


class Mitmdump(Peer):
    """The one of the bench's own environment, or the one that is installed."""

    name = "mitmdump"

    def absent(self) -> str | None:
        return None if _found() else "not installed (make mitmproxy)"

    def version(self) -> str:
        return version_in([_found() or "mitmdump", "--version"])

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        command = [_found() or "mitmdump", "--quiet", "--listen-host", "127.0.0.1", "--listen-port", str(port)]
        command += ["--set", f"confdir={folder}", "--save-stream-file", str(folder / "flows")]
        if scenario.tls:
            command += ["--set", f"ssl_verify_upstream_trusted_ca={scenario.tls.cert}"]
        return command


def _found() -> str | None:
    return str(OWN) if OWN.exists() else program("mitmdump")
