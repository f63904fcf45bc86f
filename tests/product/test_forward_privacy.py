"""What a server can see of the client behind a forward proxy: the documented list, and nothing more."""

from __future__ import annotations

from typing import Any

import pytest
from tests.product.forwarding import answered, config, fields, whole
from tests.wire.peers import Origin, connect

import penstock

SAID = {
    "User-Agent": "Special/7 (me)",
    "Referer": "http://elsewhere.example/secret",
    "X-Forwarded-For": "6.6.6.6",
    "Forwarded": "for=6.6.6.6",
    "X-Real-IP": "6.6.6.6",
    "X-Request-ID": "mine",
    "X-Client-Cert-Subject": "CN=me",
    "From": "me@example",
    "DNT": "1",
    "Accept": "*/*",
    "Accept-Language": "de",
    "Authorization": "Basic dTpw",
    "Cookie": "a=b",
    "If-None-Match": '"x"',
    "Proxy-Authorization": "Basic dTpw",
    "Proxy-Connection": "keep-alive",
    "Via": "1.1 other",
}
PLAIN = {
    "user-agent": "Special/7 (me)",
    "referer": "http://elsewhere.example/secret",
    "from": "me@example",
    "dnt": "1",
    "accept": "*/*",
    "accept-language": "de",
    "authorization": "Basic dTpw",
    "cookie": "a=b",
    "if-none-match": '"x"',
}


def seen(origin: Origin, **listener: Any) -> dict[str, str]:
    """The fields that arrive, less Host and our own word in Via."""
    with penstock.Proxy(config(**listener)) as proxy:
        client = connect(proxy.address("out"))
        said = "".join(f"{name}: {value}\r\n" for name, value in SAID.items())
        client.send(f"GET http://{origin.address}/ HTTP/1.1\r\nHost: a\r\n{said}\r\n".encode())
        got = fields(answered(origin))
        client.read_until(whole)
    assert got.pop("host") == origin.address
    if got.get("via", "").startswith("1.1 penstock-"):
        got["via"] = "ours"
    return got


def test_nothing_is_told_unless_it_is_asked_for(scripted: Origin) -> None:
    assert seen(scripted) == PLAIN | {"via": "ours"}


def test_an_anonymous_client_is_anybody(scripted: Origin) -> None:
    kept = {name: value for name, value in PLAIN.items() if name not in ("referer", "from", "dnt")}
    assert seen(scripted, anonymous=True) == kept | {"user-agent": "Mozilla/5.0"}


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("on", {"x-forwarded-for": "6.6.6.6, 127.0.0.1", "forwarded": "for=6.6.6.6, for=127.0.0.1"}),
        ("off", {"x-forwarded-for": "6.6.6.6, unknown", "forwarded": "for=6.6.6.6, for=unknown"}),
        ("transparent", {"x-forwarded-for": "6.6.6.6", "forwarded": "for=6.6.6.6"}),
        ("truncate", {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"}),
        ("delete", {}),
    ],
)
def test_modes_are_those_of_squid(scripted: Origin, mode: str, told: dict[str, str]) -> None:
    assert seen(scripted, forwarded_for=mode, forwarded=mode, via=False) == PLAIN | {"via": "1.1 other"} | told


def test_anonymous_leaves_nothing_to_be_told() -> None:
    with (
        pytest.raises(penstock.ConfigError, match="forwarded_for: tells of the client"),
        penstock.Proxy(config(anonymous=True, forwarded_for="on")),
    ):
        pass
