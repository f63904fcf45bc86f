"""What of a listener's plan only listeners of "forward" have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.config import texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.config.model import Listener

FORWARD_KEYS = ("allow_clients", "connect_ports", "allow_private", "origins")
"""Keys of a listener that only those of "forward" have."""


def forward(listener: Listener, timeouts: Callable[[Any], dict[str, Any]]) -> dict[str, Any] | None:
    """The part of the plan; `timeouts` makes milliseconds of durations."""
    if listener.protocol != "forward":
        return None
    return {
        "allow_clients": [texts.read_network(network) for network in listener.allow_clients],
        "connect_ports": [list(texts.read_ports(ports)) for ports in listener.connect_ports],
        "allow_private": listener.allow_private,
        "timeouts": timeouts(listener.origins.timeouts),
        "limits": dict(listener.origins.limits),
    }
