"""Rules for single texts: addresses, header fields, paths, names. Each answers what is wrong, or nothing.

Nothing here knows where a text stands; `check.py` and `check_routes.py` put the key before the sentence.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

# RFC 9112: fields that frame a message, and those that belong to one connection (RFC 9110 §7.6.1).
FRAMING = frozenset(
    {"content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "proxy-connection"}
)
_IDENTITY = frozenset({"forwarded", "via"})
LONGEST_VALUE = 8192
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,127}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_LONGEST_SOCKET = 107
_ZONE = "; a zone, as %eth0, cannot be given"


def wrong_name(name: str) -> str | None:
    """A listener, upstream or route is named in logs and counters, so its name is short and plain."""
    if _NAME.fullmatch(name):
        return None
    return (
        "a name begins with a letter or digit and goes on with letters, digits, _ . : / @ and -, 128 characters at most"
    )


def wrong_token(name: str, what: str = "a header name") -> str | None:
    """RFC 9110 §5.6.2."""
    if _TOKEN.fullmatch(name):
        return None
    return f"{_quoted(name)} is not {what}: letters, digits and !#$%&'*+-.^_`|~ are allowed"


# The same few names stand in many routes.
@lru_cache(maxsize=1024)
def wrong_field_name(name: str, *, request: bool, removing: bool) -> str | None:
    """A header field that filters may not touch, or that is no name at all."""
    if wrong := wrong_token(name):
        return wrong
    lower = name.lower()
    if lower in FRAMING:
        return f"{name} belongs to one connection and is set by Penstock alone"
    if lower in _IDENTITY or lower.startswith(("x-forwarded-", "x-client-cert-")):
        return f"{name} says who the client is and is set by Penstock alone"
    if request and lower == "host":
        return 'Host is set by the key host of the upstream: "keep", "upstream" or a name'
    if request and removing and lower == "x-request-id":
        return "X-Request-ID is given to every request; it may be set, not removed"
    return None


def wrong_field_value(value: str) -> str | None:
    """RFC 9110 §5.5: what would end the line or hide in it."""
    if found := _CONTROL.search(value):
        return f"the value holds a control character (U+{ord(found[0]):04X}), which a header field cannot have"
    if value != value.strip(" \t"):
        return "the value begins or ends with a space, which a header field cannot keep"
    if len(value) > LONGEST_VALUE:
        return f"the value is longer than {LONGEST_VALUE} characters"
    return None


MODULE = 'must be a file as "auth.py" or a module as "package.module", with ":name" behind it for an object in it'


def wrong_module(text: str) -> str | None:
    """A file or a dotted name, and the name of an object in it."""
    place, colon, name = text.partition(":")
    dotted = [name] if colon else []
    if not place.endswith(".py"):
        dotted.append(place)
    fine = bool(place) and "\0" not in place and all(part.isidentifier() for one in dotted for part in one.split("."))
    return None if fine else f"{_quoted(text)} {MODULE}"


def wrong_prefix(prefix: str, *, root: bool = False) -> str | None:
    """A whole-segment prefix of a path. `root` allows "/" alone."""
    if not prefix.startswith("/"):
        return f'a prefix begins with "/", as {_quoted("/" + prefix)}'
    if prefix == "/" and not root:
        return 'the prefix "/" changes nothing; give a longer one, as "/api"'
    return wrong_path(prefix, "a prefix")


def wrong_path(path: str, what: str) -> str | None:
    """A path in the form that requests have after their dot segments are resolved."""
    if not path.startswith("/"):
        return f'{what} begins with "/"'
    if not _PATH.fullmatch(path):
        return f"{what} holds only what a URL's path may hold: write other characters as %XX, and leave out ? and #"
    if "//" in path or any(segment in (".", "..") for segment in path.split("/")):
        return f'{what} has no empty, "." or ".." segments'
    return None


def wrong_location(to: str) -> str | None:
    """The target of a redirect."""
    if not to or not to.isascii() or any(c <= " " or c in '"<>\\^`{|}' or c == "\x7f" for c in to):
        return "must be a URL without spaces, control characters and unescaped others; write them as %XX"
    if to.startswith("/"):
        return None
    try:
        parts = urlsplit(to)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        fine = False
    return None if fine else 'must be a path that begins with "/", or an absolute http:// or https:// URL'


def wrong_origin(origin: str) -> str | None:
    """RFC 6454 §6.2: scheme, host and port."""
    try:
        parts = urlsplit(origin)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        fine = fine and origin == f"{parts.scheme}://{parts.netloc}" and "@" not in origin and origin.isascii()
        fine = fine and origin == origin.lower() and not wrong_field_value(origin) and " " not in origin
    except ValueError:
        fine = False
    return (
        None
        if fine
        else 'an origin is "*" or a scheme, a host and perhaps a port, in lower case: "https://shop.example"'
    )


def read_network(text: str) -> str:
    """An address or network in the plan's form, `10.0.0.0/8`. Raises `ValueError` with a sentence."""
    try:
        wider = ipaddress.ip_network(text, strict=False) if "%" not in text else None
    except ValueError:
        wider = None
    if wider is None:
        zone = _ZONE if "%" in text else ""
        raise ValueError(f'{_quoted(text)} is not an address or a network, as "10.0.0.1" or "10.0.0.0/8"{zone}')
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError(f'{_quoted(text)} has bits beyond its length; write "{wider}"') from None


def read_bind(text: str) -> list[tuple[str, int]]:
    """What a bind takes, as addresses with ports; a unix socket is its path with port -1. Raises `ValueError`."""
    if text.startswith("unix:"):
        return [(_socket(text), -1)]
    host, port = _split(text, 'as ":8080", "127.0.0.1:8080", "[::1]:8080" or "unix:/run/penstock.sock"', lowest=0)
    if not host:
        return [("0.0.0.0", port), ("::", port)]  # noqa: S104 - what is asked for
    try:
        return [(str(_address(host)), port)]
    except ValueError:
        hint = '; write "127.0.0.1" or "[::1]"' if host == "localhost" else ""
        hint = hint or (f'; write ":{port}" for every address' if host == "*" else "")
        raise ValueError(f"{_quoted(host)} is not an address of this machine{hint}") from None


def overlap(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether two places of `read_bind` cannot be bound beside each other: "0.0.0.0" takes its port on every IPv4
    address, "::" on every address."""
    if one == other or one[1] != other[1] or one[1] < 0:
        return one == other
    hosts = {one[0], other[0]}
    return "::" in hosts or ("0.0.0.0" in hosts and not any(":" in host for host in hosts))  # noqa: S104 - read, not bound


def read_server(text: str) -> str:
    """A name server in the plan's form, `10.0.0.53:53`. Raises `ValueError` with a sentence."""
    return _with_port(text, 53, "a name server", 'as "10.0.0.53", "10.0.0.53:5353" or "[::1]:53"')


def read_ports(ports: int | str) -> tuple[int, int]:
    """The first and the last port of `443` or `"8000-8100"`. Raises `ValueError`."""
    first, between, last = str(ports).partition("-")
    found = [int(port) for port in (first, last if between else first) if port.isascii() and port.isdigit()]
    if len(found) < 2 or not 1 <= found[0] <= found[1] <= 65535:
        raise ValueError(f'{_quoted(str(ports))} is no port and no range of ports, as 443 or "8000-8100"')
    return found[0], found[1]


def read_client(text: str) -> str:
    """The address of a client in the form that `explain` takes. Raises `ValueError` with a sentence."""
    return _with_port(text, 40000, "a client", 'as "192.0.2.1" or "[2001:db8::1]:40000"')


def is_loopback(text: str) -> bool:
    """Whether a bind that `read_bind` takes can be reached from this machine only."""
    return all(port < 0 or ipaddress.ip_address(host).is_loopback for host, port in read_bind(text))


def wrong_endpoint(text: str) -> str | None:
    """An address that can be connected to."""
    if "://" in text:
        return f"an endpoint has no scheme: write {_quoted(text.partition('://')[2].rstrip('/') or 'host:port')}"
    try:
        if text.startswith("unix:"):
            _socket(text)
            return None
        host, _ = _split(text, 'as "10.0.0.1:9000", "[::1]:9000", "name:9000" or "unix:/run/app.sock"', lowest=1)
    except ValueError as error:
        return str(error)
    return wrong_host(host)


def same_place(text: str) -> str:
    """One spelling for all of an endpoint; the path of a unix socket is absolute already."""
    if text.startswith("unix:"):
        return text
    try:
        host, port = _split(text, "", lowest=1)
    except ValueError:
        return text
    try:
        return f"[{_address(host)}]:{port}"
    except ValueError:
        return f"{host.lower().removesuffix('.')}:{port}"


def wrong_host(host: str) -> str | None:
    """A name of the DNS, or an address without brackets."""
    try:
        _address(host)
    except ValueError:
        labels = host.removesuffix(".").split(".")
        if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
            hint = "" if host.isascii() else "; write other letters as xn--…"
            return f"{_quoted(host)} is not a host name or an address{hint}"
        if labels[-1].isdigit():
            return f"{_quoted(host)} looks like an address and is none"
    return None


def wrong_server_name(name: str) -> str | None:
    """A host that a client can ask for by name (SNI), or `*.` and the rest of one."""
    host = name.removeprefix("*.")
    try:
        _address(host)
    except ValueError:
        return wrong_host(host)
    return f"{_quoted(name)} is an address, which no client asks for by name"


def wrong_authority(text: str) -> str | None:
    """A Host field: a host with or without a port."""
    try:
        if text.startswith("[") and text.endswith("]"):
            host = _unbracketed(text)
        elif ":" in text:
            host, _ = _split(text, 'as "shop.internal" or "shop.internal:8080"', lowest=1)
        else:
            host = text
    except ValueError as error:
        return str(error)
    return wrong_host(host)


def read_url(url: str) -> SplitResult:
    """The parts of a URL that a request can ask for. Raises `ValueError` with a sentence."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        fine = fine and parts.port != 0 and not any(c <= " " for c in url)
    except ValueError:
        fine = False
    if not fine:
        raise ValueError('must be an absolute http:// or https:// URL, as "http://shop.example/x"')
    return parts


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that offers the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), 1)
    return f'; did you mean "{close[0]}"?' if close else ""


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stands twice, whatever its case."""
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            return name
        seen.add(name.lower())
    return None


def _split(text: str, forms: str, *, lowest: int) -> tuple[str, int]:
    found = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*):([0-9]{1,5})", text, re.ASCII)
    if found is None:
        if re.fullmatch(r"[0-9]{1,5}", text, re.ASCII):
            raise ValueError(f'{_quoted(text)} has no address; write ":{text}"')
        hint = ""
        if text.count(":") > 1 and "[" not in text:
            hint = "; an IPv6 address stands in brackets"
        elif ":" not in text:
            hint = "; the port is missing"
        raise ValueError(f"{_quoted(text)} is not an address with a port, {forms}{hint}")
    host, port = found[1], int(found[2])
    if not lowest <= port <= 65535:
        raise ValueError(f"port {port} does not exist; ports are {lowest} to 65535")
    if host.startswith("["):
        return _unbracketed(host), port
    if not host and lowest:
        raise ValueError(f"{_quoted(text)} has no host")
    return host, port


def _with_port(text: str, usual: int, what: str, forms: str) -> str:
    """An address, with the usual port where none is given."""
    try:
        bare = text.count(":") != 1 and not text.startswith("[")
        host, port = (text, usual) if bare else _split(text, forms, lowest=1)
        address = _address(host)
    except ValueError:
        zone = _ZONE if "%" in text else ""
        raise ValueError(f"{_quoted(text)} is not the address of {what}, {forms}{zone}") from None
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _unbracketed(text: str) -> str:
    host = text[1:-1]
    try:
        if _address(host).version == 6:
            return host
    except ValueError:
        pass
    raise ValueError(f"{_quoted(host)} is not an IPv6 address{_ZONE if '%' in host else ''}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without a zone: the data plane would take one with a zone for a name."""
    if "%" in text:
        raise ValueError("zone")
    return ipaddress.ip_address(text)


def _socket(text: str) -> str:
    path = text.removeprefix("unix:")
    if not path or "\0" in path:
        raise ValueError('a unix socket has a path, as "unix:/run/app.sock"')
    if len(path.encode()) > _LONGEST_SOCKET:
        raise ValueError(f"the path of a unix socket has at most {_LONGEST_SOCKET} bytes")
    return path


def _quoted(text: str) -> str:
    shown = text if len(text) <= 60 else text[:57] + "…"
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown) + '"'
