"""A forward proxy whose clients have names and passwords."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from tests.product.forwarding import config

if TYPE_CHECKING:
    from pathlib import Path

CHEAP = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm"
"""`password`, by bcrypt at its cheapest."""


def users(folder: Path, text: str = f"ada:{CHEAP}\nbob:{CHEAP}\n", **more: Any) -> dict[str, Any]:
    """The key of a listener, with the file that it names."""
    path = folder / "htpasswd"
    path.write_text(text, "utf-8")
    return {"htpasswd": str(path), **more}


def named(folder: Path, **listener: Any) -> dict[str, Any]:
    """A forward proxy for ada and bob."""
    if "users" not in listener:
        listener["users"] = users(folder)
    return config(**{"connect_ports": ["1024-65535"], **listener})


def basic(user: str = "ada", password: str = "password") -> str:
    """The field that says so."""
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
