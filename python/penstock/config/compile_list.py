"""Lists of a plan: every source is a file for the data plane; what has an address is fetched into one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from penstock.config.internal import state_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.config.model import List


def fetched_file(url: str) -> Path:
    """The file that keeps what was fetched from this address."""
    return state_folder("lists") / hashlib.sha256(url.encode()).hexdigest()[:32]


def compile_list(name: str, model: List, absolute: Callable[[str], str], refresh: int) -> dict[str, Any]:
    """A list in the shape of `crates/plan/src/list.rs`; `refresh` in milliseconds."""
    files: list[dict[str, Any]] = [{"path": absolute(path), "url": None} for path in model.file]
    fetched = [{"path": str(fetched_file(url)), "url": url} for url in model.url]
    sources = files + fetched
    return {
        "name": name,
        "kind": model.kind,
        "sources": sources,
        "refresh": refresh,
        "max_size": model.max_size,
    }
