"""A request that nobody sent, for `explain` and for route tests: from what people write to what the data plane reads."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from penstock.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SOMEBODY = "192.0.2.1"
"""The client where none is given: an address for documentation (RFC 5737)."""


def build_request(
    method: str,
    url: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    client: str = SOMEBODY,
    listener: str | None = None,
) -> dict[str, Any]:
    """The request as `explain` wants it. Raises `UsageError` for a URL or a client that is none."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an absolute URL such as http://shop.example/path")
    if any(not 0x21 <= ord(character) <= 0x7E for character in url):
        raise UsageError(f"{url!r} has characters that a URL must escape")
    target = (parts.path or "/") + (f"?{parts.query}" if "?" in url.partition("#")[0] else "")
    pairs = headers.items() if hasattr(headers, "items") else headers
    fields = [[name.lower(), value] for name, value in pairs]
    named = next((value for name, value in fields if name == "host"), None)
    return {
        "listener": listener,
        "method": method,
        "scheme": parts.scheme,
        "host": named if named is not None else parts.netloc.rpartition("@")[2],
        "target": target,
        "headers": [pair for pair in fields if pair[0] != "host"],
        "client": _client(client),
    }


def _client(text: str) -> str:
    """`ADDRESS` or `ADDRESS:PORT` as an address with a port."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        host, colon, port = text.rpartition(":")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
            if not colon or not 0 <= int(port) <= 65535:
                raise ValueError
        except ValueError:
            raise UsageError(f"{text!r} is not a client's address such as 192.0.2.7 or [2001:db8::7]:40000") from None
    else:
        port = "40000"
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
