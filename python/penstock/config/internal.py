"""`tls = "internal"`: where the local authority is kept, and which hosts its certificate is for."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.config import texts
from penstock.config.expression import compile_expression
from penstock.config.model.tls import INTERNAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.config.model import Config, Tls

_ALWAYS = ("localhost", "127.0.0.1", "::1")


def state_folder(kept: str = "internal") -> Path:
    """Where `kept` is: in `$STATE_DIRECTORY` (systemd), `/var/lib/penstock` (root) or `$XDG_STATE_HOME/penstock`
    (`~/.local/state/penstock`)."""
    if given := os.environ.get("STATE_DIRECTORY"):
        base = Path(given.partition(":")[0])
    elif os.geteuid() == 0:
        base = Path("/var/lib/penstock")
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "penstock"
    return base.absolute() / kept


def is_internal(tls: Tls | None) -> bool:
    """Whether Penstock makes the certificate itself."""
    return tls is not None and tls.certificates[0].cert == INTERNAL


def internal_tls(config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a plan says of it: how the certificate is made, and its files."""
    folder = state_folder()
    names = internal_names(config)
    # Configurations with other hosts have another file, so that they do not take turns.
    stem = folder / hashlib.sha256(" ".join(names).encode()).hexdigest()[:16]
    files = {"cert": f"{stem}.pem", "key": f"{stem}.key", "readable_key": False, "ocsp": None}
    return {"folder": str(folder), "names": names}, files


def internal_names(config: Config) -> list[str]:
    """Hosts that routes ask for by name, behind those that every machine has for itself."""
    found = dict.fromkeys(_ALWAYS)
    for route in config.routes:
        if route.match is not None:
            found |= dict.fromkeys(_hosts(compile_expression(route.match)))
    return list(found)


def _hosts(predicate: Any) -> Iterator[str]:
    """Each text that `host` or `sni` is compared with, if it is a host."""
    if isinstance(predicate, list):
        for part in predicate:
            yield from _hosts(part)
    if not isinstance(predicate, dict):
        return
    compared = predicate.get("compare", {})
    if compared.get("left") in ("host", "sni") and compared.get("operator") == "==":
        yield from _host(compared["right"])
    among = predicate.get("in", {})
    if among.get("value") in ("host", "sni"):
        for one in among["set"]:
            yield from _host(one)
    for key in ("and", "or"):
        yield from _hosts(predicate.get(key))


def _host(literal: Any) -> Iterator[str]:
    text = literal.get("text") if isinstance(literal, dict) else None
    if text and texts.wrong_host(text) is None:
        yield text.lower().removesuffix(".")
