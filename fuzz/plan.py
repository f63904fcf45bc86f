"""The plan around a predicate that is fuzzed: one listener, one route that answers by itself.

The Rust target has it as a file, which a test compares: `python -m fuzz.plan > fuzz/src/plan.json` makes it anew."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from penstock.config import Memory, compile_text, load_value

FILE = Path(__file__).parent / "src" / "plan.json"
_CONFIG = {
    "listeners": {"web": {"bind": "127.0.0.1:0"}},
    "routes": [{"name": "fuzzed", "match": 'path == "/"', "respond": {"status": 200}}],
    "engine": {"workers": 1},
}


def plan() -> dict[str, Any]:
    """The plan, compiled now."""
    compiled: dict[str, Any] = json.loads(compile_text(load_value(_CONFIG).config, Path(), 1, Memory()))
    return compiled


if __name__ == "__main__":
    sys.stdout.write(json.dumps(plan(), indent=2) + "\n")
