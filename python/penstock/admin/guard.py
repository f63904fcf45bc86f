"""Who may ask the admin listener: only programs and pages of this computer.

A page on another site can make a browser send requests to loopback, directly or by rebinding a name to 127.0.0.1.
Such a request carries the site's name in `Host` or `Origin`, or says in `Sec-Fetch-*` where it comes from; each is
refused with 403.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def refusal(method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
    """Status and reason why a request must not be answered, or `None`. Header names are lower case."""
    host = headers.get("host", "")
    if not _is_local(host):
        return 403, "the Host is not this computer"
    origin = headers.get("origin")
    if origin is not None and (urlsplit(origin).scheme != "http" or urlsplit(origin).netloc != host):
        return 403, "the Origin is another site"
    if (
        headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        or headers.get("sec-fetch-mode") == "no-cors"
    ):
        return 403, "the request comes from another site"
    if method not in ("GET", "HEAD"):
        return 405, "only GET and HEAD are answered"
    return None


def _is_local(host: str) -> bool:
    """Whether a `Host` names this computer in a way that no name server can forge."""
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    if parts.netloc != host or parts.username is not None:
        return False
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
