"""The relay that parses nothing: what the kernel's network path alone costs."""

import os
from pathlib import Path

from bench.peers.base import Peer, Scenario

ROOT = Path(__file__).resolve().parents[2]


def built(name: str) -> Path:
    """Where a program of the bench is once built."""
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / name


class NullRelay(Peer):
    """`bench/programs/src/bin/null_relay.rs`."""

    name = "null relay"

    def absent(self) -> str | None:
        return None if built("null_relay").exists() else "not built (cargo build --release -p penstock-bench)"

    def version(self) -> str:
        return "of this tree"

    def prepare(self, folder: Path, port: int, origin: int, scenario: Scenario) -> list[str]:
        return [str(built("null_relay")), f"127.0.0.1:{port}", f"127.0.0.1:{origin}"]
