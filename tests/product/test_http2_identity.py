"""Who asks, over HTTP/2: client certificates, and a service that is asked about each stream."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import trustme
from tests.certificates import authority, context, write
from tests.http2 import WHERE, Client
from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, ok
from tests.wire.peers import TimedOutError

import penstock

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

STREAMS = 20


def get(path: str, *fields: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return ((":method", "GET"), *WHERE[1:], (":scheme", "https"), (":path", path), *fields)


def client(folder: Path, issuer: trustme.CA | None = None) -> ssl.SSLContext:
    """One that speaks HTTP/2 alone; `issuer` gives it a certificate."""
    made = context()
    made.set_alpn_protocols(["h2"])
    if issuer:
        path = folder / "alice.client.pem"
        leaf = issuer.issue_cert("alice.example", common_name="alice")
        leaf.private_key_and_cert_chain_pem.write_to_path(path)
        made.load_cert_chain(path)
    return made


def configuration(folder: Path, *endpoints: str, auth: Endpoint | None = None, **tls: Any) -> dict[str, Any]:
    route: dict[str, Any] = {"upstream": "app"}
    upstreams: dict[str, Any] = {"app": {"endpoints": list(endpoints)}}
    if auth:
        route["forward_auth"] = {"upstream": "auth", "path": "/check", "copy_headers": ["X-User"]}
        upstreams["auth"] = {"endpoints": [auth.address]}
    tls = {"certificates": [write(folder, "shop", "shop.example")], **tls}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}},
        "upstreams": upstreams,
        "routes": [route],
        "engine": {"workers": 1},
    }


def echo(head: bytes, body: bytes, _: int) -> bytes:
    """The head that came, in lower case."""
    return ok(head.lower())


def test_streams_carry_the_identity_of_their_connection(tmp_path: Path) -> None:
    authority().cert_pem.write_to_path(tmp_path / "clients.pem")
    clients = {"ca": str(tmp_path / "clients.pem"), "required": False}
    with Endpoint(echo) as app, penstock.Proxy(configuration(tmp_path, app.address, clients=clients)) as proxy:
        forged = ("x-client-cert-subject", "CN=root")
        with Client(proxy.address(), trust=client(tmp_path, authority())) as alice:
            for stream in range(1, 2 * STREAMS, 2):
                seen = alice.ask(stream, get(f"/{stream}", forged))
                assert seen.status == 200
                assert b"x-client-cert-subject: cn=alice" in seen.body
                assert b"dns:alice.example" in seen.body
                assert b"cn=root" not in seen.body
        with Client(proxy.address(), trust=client(tmp_path)) as nobody:
            assert b"x-client-cert" not in nobody.ask(1, get("/", forged)).body
        with Client(proxy.address(), trust=client(tmp_path, trustme.CA())) as stranger:
            # With TLS 1.3 a client is through before it is told.
            with contextlib.suppress(OSError, TimedOutError):
                stranger.ask(1, get("/"))
            assert stranger.streams[1].status is None
        wait_for(lambda: proxy.stats().rejected["tls_client_certificate"] == 1, "the stranger is counted")


def test_a_reload_that_asks_for_certificates_misdirects_streams(tmp_path: Path) -> None:
    authority().cert_pem.write_to_path(tmp_path / "clients.pem")
    with Endpoint(echo) as app, penstock.Proxy(configuration(tmp_path, app.address)) as proxy:
        trust = client(tmp_path, authority())
        with Client(proxy.address(), trust=trust) as talking:
            assert talking.ask(1, get("/")).status == 200
            proxy.apply(configuration(tmp_path, app.address, clients={"ca": str(tmp_path / "clients.pem")}))
            assert talking.ask(3, get("/")).status == 421
        with Client(proxy.address(), trust=trust) as fresh:
            assert b"cn=alice" in fresh.ask(1, get("/")).body


def test_each_stream_is_asked_about(tmp_path: Path) -> None:
    def judge(head: bytes, body: bytes, _: int) -> bytes:
        lower = head.lower()
        if b"x-forwarded-uri: /closed" in lower or b"authorization: alice" not in lower:
            return ok(b"who are you", b"WWW-Authenticate: Basic", status=b"401 Unauthorized")
        return ok(b"", b"X-User: alice")

    with Endpoint(judge) as auth, Endpoint(echo) as app:
        config = configuration(tmp_path, app.address, auth=auth)
        with penstock.Proxy(config) as proxy, Client(proxy.address(), trust=client(tmp_path)) as talking:
            known = ("authorization", "alice")
            wanted = [("/a", known, 200), ("/closed", known, 401), ("/b", ("x-user", "root"), 401)] * 5
            streams = [2 * number + 1 for number in range(len(wanted))]
            # All at once: none may get the verdict of another.
            for stream, (path, field, _) in zip(streams, wanted, strict=True):
                talking.send(talking.headers(stream, get(path, field, ("x-user", "root"))))
            for stream, (_, _, expected) in zip(streams, wanted, strict=True):
                seen = talking.outcome(stream)
                assert seen.status == expected
                if expected == 200:
                    assert b"\r\nx-user: alice" in seen.body
                    assert b"root" not in seen.body
                else:
                    assert seen.body == b"who are you"
                    assert seen.heads[-1]["www-authenticate"] == "Basic"
            assert len(auth.targets) == len(wanted)
            assert len(app.targets) == 5
