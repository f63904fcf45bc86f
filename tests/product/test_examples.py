"""Every file of examples/ is checked as it is, and driven with system-given addresses and origins that echo."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.load.origin import EchoOrigins
from tests.wire.peers import ShortFolder

import penstock

FOLDER = Path(__file__).parents[2] / "examples"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix in (".toml", ".yaml", ".json", ".py"))
_ENDPOINT = re.compile(r"127\.0\.0\.1:(9\d\d\d)")
_BIND = re.compile(r'"(127\.0\.0\.1)?:8080"')


@dataclass(frozen=True)
class Ask:
    """A request and what must come of it."""

    host: str = "shop.example"
    target: str = "/"
    method: str = "GET"
    fields: dict[str, str] = field(default_factory=dict)
    source: str = "127.0.0.1"
    status: int = 200
    served_by: tuple[str, ...] = ()  # ports of the example; empty: Penstock answers itself
    seen_as: str | None = None  # the target that the endpoint saw
    answer: dict[str, str | None] = field(default_factory=dict)  # fields of the answer; None: absent
    body: str | None = None


APP = ("9000", "9001")
ASKS: dict[str, list[Ask]] = {
    "reverse_proxy.toml": [
        Ask(served_by=("9000",)),
        Ask(target="/a?b=c", method="POST", served_by=("9000",), seen_as="/a?b=c"),
    ],
    "two_sites.toml": [
        Ask(host="shop.example", served_by=APP),
        Ask(host="www.shop.example:8080", served_by=APP),
        Ask(host="blog.example", served_by=("9100",)),
        Ask(host="other.example", status=404),
    ],
    "api_and_static.toml": [
        Ask(target="/api/orders?page=2", served_by=("9000",), seen_as="/orders?page=2"),
        Ask(target="/api", served_by=("9000",), seen_as="/"),
        Ask(target="/app.js", served_by=("9100",), answer={"cache-control": "public, max-age=3600"}),
        Ask(target="/apiary", served_by=("9100",), seen_as="/apiary"),
        Ask(target="/api/x", method="POST", fields={"Content-Length": str(11 << 20)}, status=413),
    ],
    "canary.toml": [
        Ask(fields={"Cookie": "release=canary"}, served_by=("9100",)),
        Ask(fields={"Cookie": "user=1; release=stable"}, served_by=APP),
        Ask(served_by=(*APP, "9100")),
    ],
    "websocket_app.toml": [
        Ask(target="/ws", served_by=APP),
        Ask(target="/", served_by=("9100",)),
    ],
    "maintenance.toml": [
        Ask(status=503, answer={"retry-after": "3600"}, body="We are back at noon.\n"),
        Ask(source="127.0.0.5", served_by=("9000",)),
    ],
    "blocklist.toml": [
        Ask(host="www.social.example", status=403, body="not from here\n"),
        Ask(host="www.social.example", source="127.0.0.5", served_by=("9000",)),
        Ask(host="shop.example", served_by=("9000",)),
    ],
    "https_redirect.toml": [
        Ask(target="/any?a=b", status=301, answer={"location": "https://shop.example/any?a=b"}),
        Ask(target="/.well-known/acme-challenge/x", served_by=("9000",)),
    ],
    "cors_api.yaml": [
        Ask(
            method="OPTIONS",
            fields={"Origin": "https://app.example", "Access-Control-Request-Method": "DELETE"},
            status=204,
            answer={"access-control-allow-origin": "https://app.example", "access-control-allow-credentials": "true"},
        ),
        Ask(
            fields={"Origin": "https://app.example"},
            served_by=("9000",),
            answer={"access-control-allow-origin": "https://app.example"},
        ),
        Ask(
            fields={"Origin": "https://evil.example"},
            served_by=("9000",),
            answer={"access-control-allow-origin": None},
        ),
    ],
    "generated.json": [Ask(served_by=APP), Ask(served_by=APP), Ask(served_by=APP)],
    "tcp.toml": [Ask(target="/a?b", served_by=("9000",), seen_as="/a?b")],
    "tenants.py": [
        Ask(host="north.tenants.example", served_by=("9000",)),
        Ask(host="south.tenants.example", served_by=("9001",)),
        Ask(host="west.tenants.example", status=404),
    ],
    "unix_socket.toml": [Ask(target="/a", served_by=("unix",), seen_as="/a")],
    "api_keys.toml": [
        Ask(target="/api/x", fields={"X-API-Key": "for tests only"}, served_by=("9000",)),
        Ask(target="/api/x", fields={"X-User": "ann"}, status=401, body="an API key is needed\n"),
        Ask(target="/", served_by=("9000",)),
    ],
    "forward_auth.toml": [
        Ask(target="/login/", served_by=("9100",)),
        Ask(target="/a", fields={"Remote-User": "root"}, served_by=APP, seen_as="/a"),
    ],
    # Driven by calls in test_grpc.py.
    "grpc.toml": [Ask(target="/grpc.health.v1.Health/Check", method="POST", status=403)],
    "forward.toml": [
        Ask(target="http://ads.example/pixel", status=410),
        Ask(target="http://127.0.0.1/", status=403),
        Ask(target="http://192.0.2.1:25/", status=403),
        Ask(target="/", status=200, answer={"content-type": "text/html; charset=utf-8"}),
    ],
    "header_hygiene.toml": [
        Ask(
            fields={"X-Debug": "1"},
            served_by=("9000",),
            answer={
                "server": None,
                "x-content-type-options": "nosniff",
                "referrer-policy": "same-origin",
                "strict-transport-security": "max-age=63072000",
            },
        ),
        Ask(method="POST", fields={"Content-Length": str(2 << 20)}, status=413),
    ],
}


def test_every_example_is_driven() -> None:
    assert {path.name for path in FILES} == {*ASKS, "udp.toml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_example_says_who_wants_it(path: Path) -> None:
    if path.suffix != ".json":  # has no comments; the guide speaks for it
        assert path.read_text(encoding="utf-8").splitlines()[0].lstrip('"# ').startswith("For ")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_example_is_accepted_by_check(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "check", "-c", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# That of datagrams is driven in test_udp_limits.py.
@pytest.mark.parametrize("path", [path for path in FILES if path.name != "udp.toml"], ids=lambda path: path.name)
def test_example_does_what_it_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    with ShortFolder() as folder:
        names = sorted(set(_ENDPOINT.findall(text)))
        if "unix:app.sock" in text:
            names.append(f"unix:{folder.path / 'app.sock'}")
        with EchoOrigins(*names) as origins:
            text = _BIND.sub('"127.0.0.1:0"', text)
            text = _ENDPOINT.sub(lambda found: origins.addresses[found[1]], text)
            text = text.replace('format = "combined"', 'format = "combined"\nto = "access.log"')
            rewritten = folder.path / path.name
            rewritten.write_text(text, encoding="utf-8")
            for beside in ("addons", "lists"):
                (folder.path / beside).symlink_to(FOLDER / beside)
            with penstock.Proxy(rewritten) as proxy:
                for ask in ASKS[path.name]:
                    _drive(proxy.address(), ask)


def _drive(address: tuple[str, int], ask: Ask) -> None:
    connection = http.client.HTTPConnection(*address, timeout=5, source_address=(ask.source, 0))
    connection.putrequest(ask.method, ask.target, skip_host=True)
    for name, value in {"Host": ask.host, **ask.fields}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    assert answer.status == ask.status, (ask, body)
    for name, value in ask.answer.items():
        assert answer.getheader(name) == value, (ask, name)
    if ask.served_by:
        line = body.splitlines()[0].split(" ")
        assert line[0] == ask.method
        assert line[4].partition(":")[0] in ask.served_by, (ask, body)
        assert ask.seen_as in (None, line[1])
    if ask.body is not None:
        assert body == ask.body
