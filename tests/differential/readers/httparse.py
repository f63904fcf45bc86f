"""`httparse`, by way of the program in `tests/programs`."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.differential.readers import Reading, Request

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROOT = Path(__file__).parents[3]


def build() -> Path:
    """The program, built if it is not. Raises `RuntimeError`."""
    if not shutil.which("cargo"):
        raise RuntimeError("cargo is missing: httparse's reader is built with it")
    command = ["cargo", "build", "--quiet", "--release", "--locked", "-p", "penstock-test-programs"]
    built = subprocess.run(
        [*command, "--message-format", "json"], cwd=_ROOT, check=False, capture_output=True, text=True
    )
    if built.returncode:
        raise RuntimeError(f"cargo cannot build httparse's reader:\n{built.stderr[-2000:]}")
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return Path(next(found for message in messages if (found := message.get("executable"))))


class HttparseReader:
    """Reads many connections in one go."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def read(self, recordings: Sequence[bytes]) -> list[Reading]:
        """One reading for each, with the places where its requests begin."""
        framed = b"".join(struct.pack("<I", len(bytes_)) + bytes_ for bytes_ in recordings)
        said = subprocess.run([self._program], input=framed, check=True, capture_output=True).stdout
        return [self._reading(json.loads(line)) for line in said.splitlines()]

    def _reading(self, found: dict[str, Any]) -> Reading:
        rows: list[tuple[str, str, str, int]] = found["requests"]
        requests = [Request(method, target, bytes.fromhex(body)) for method, target, body, _ in rows]
        return Reading(requests, found["end"], (*(row[3] for row in rows), found["read"]))
