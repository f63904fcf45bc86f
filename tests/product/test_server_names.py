"""What is asked of clients by the name that they ask for, and requests for another name on the same connection."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from tests.certificates import ask, authority, context, secure, write
from tests.http2 import Client
from tests.product.waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

V12 = {"maximum_version": ssl.TLSVersion.TLSv1_2}
V13 = {"minimum_version": ssl.TLSVersion.TLSv1_3}
ALICE = {"match": '"CN=alice" in tls.client.subject', "respond": {"body": "alice"}}
NOBODY = {"respond": {"body": "nobody"}}


def person(folder: Path, name: str = "alice", issuer: trustme.CA | None = None) -> Path:
    path = folder / f"{name}.client.pem"
    leaf = (issuer or authority()).issue_cert(f"{name}.example", common_name=name)
    leaf.private_key_and_cert_chain_pem.write_to_path(path)
    return path


def client(shown: Path | None = None, **options: Any) -> ssl.SSLContext:
    made = context(**options)
    if shown:
        made.load_cert_chain(shown)
    return made


def configuration(folder: Path, names: Any, *certificates: dict[str, Any], **tls: Any) -> dict[str, Any]:
    authority().cert_pem.write_to_path(folder / "clients.pem")
    shop = write(folder, "shop", "shop.example", "*.admin.example", "api.example", "blog.example")
    tls = {"certificates": [shop, *certificates], "names": names, **tls}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}},
        "routes": [ALICE, NOBODY],
        "engine": {"workers": 1},
    }


def asked(folder: Path, **more: Any) -> dict[str, Any]:
    return {"clients": {"ca": str(folder / "clients.pem"), **more}}


@contextmanager
def serving(folder: Path, *certificates: Any, names: Any = None, **tls: Any) -> Iterator[penstock.Proxy]:
    """`*.admin.example` wants a certificate, `api.example` would like one, the others ask for none."""
    usual = {"*.admin.example": asked(folder), "api.example": asked(folder, required=False)}
    with penstock.Proxy(configuration(folder, names or usual, *certificates, **tls)) as proxy:
        yield proxy


def body(proxy: penstock.Proxy, name: str | None, trust: ssl.SSLContext, *fields: str, **more: Any) -> bytes:
    with secure(proxy.address(), name, trust, **more) as sock:
        return ask(sock, "/", *fields)


def status(proxy: penstock.Proxy, name: str | None, trust: ssl.SSLContext, host: str) -> tuple[int, bool]:
    """Of a request for `host`, and whether the connection ended behind it."""
    with secure(proxy.address(), name, trust) as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said:
            said += sock.recv(65_536)
        return int(said.split(b" ")[1]), b"connection: close" in said.lower()


@pytest.mark.parametrize("versions", [V12, V13], ids=["1.2", "1.3"])
def test_each_name_asks_for_its_own(tmp_path: Path, versions: dict[str, Any]) -> None:
    alice, plain = client(person(tmp_path), **versions), client(**versions)
    stranger = client(person(tmp_path, "mallory", trustme.CA()), **versions)
    with serving(tmp_path) as proxy:
        for name, shown, expected in (
            ("shop.example", alice, b"nobody"),
            ("shop.example", plain, b"nobody"),
            ("shop.example", stranger, b"nobody"),
            ("x.admin.example", alice, b"alice"),
            ("X.Admin.example", alice, b"alice"),
            ("api.example", alice, b"alice"),
            ("api.example", plain, b"nobody"),
        ):
            assert body(proxy, name, shown) == expected, name
        for name, shown in (("x.admin.example", plain), ("x.admin.example", stranger), ("api.example", stranger)):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                body(proxy, name, shown)
        wait_for(lambda: proxy.stats().rejected["tls_client_certificate"] == 3, "each is counted")


def test_a_name_can_ask_for_less_than_the_rest(tmp_path: Path) -> None:
    with serving(tmp_path, names={"shop.example": {"clients": False}}, **asked(tmp_path)) as proxy:
        assert body(proxy, "shop.example", client()) == b"nobody"
        assert body(proxy, "api.example", client(person(tmp_path))) == b"alice"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            body(proxy, "api.example", client())
        # Who names nobody is asked for what the listener asks for.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            body(proxy, None, client(check_hostname=False))


def test_a_hello_in_pieces_is_read_to_its_name(tmp_path: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    shaking = client(**V12).wrap_bio(incoming, outgoing, server_hostname="x.admin.example")
    with pytest.raises(ssl.SSLWantReadError):
        shaking.do_handshake()
    hello = outgoing.read()
    with serving(tmp_path) as proxy:
        for cut in (1, 3, 5, 6, 43, len(hello) // 2, len(hello) - 1):
            with socket.create_connection(proxy.address(), 20) as sock:
                for piece in (hello[:cut], hello[cut:]):
                    sock.sendall(piece)
                said = b""
                # ServerHelloDone comes behind CertificateRequest, which the name asks for: 14 behind 13.
                while b"\x0e\0\0\0" not in said:
                    said += sock.recv(65_536)
                assert b"\x0d\0\0" in said, f"cut at {cut}"


@pytest.mark.safety(138)
def test_another_host_with_other_rules_is_misdirected(tmp_path: Path) -> None:
    alice = client(person(tmp_path), check_hostname=False)
    with serving(tmp_path) as proxy:
        for name, host, expected in (
            ("shop.example", "shop.example", 200),
            ("shop.example", "SHOP.example:443", 200),
            ("shop.example", "blog.example", 200),
            ("shop.example", "nowhere.example", 200),
            ("x.admin.example", "y.admin.example", 200),
            ("shop.example", "x.admin.example", 421),
            ("shop.example", "X.ADMIN.example.", 421),
            ("shop.example", "api.example", 421),
            ("nowhere.example", "x.admin.example", 421),
            (None, "x.admin.example", 421),
            ("api.example", "x.admin.example", 421),
            ("x.admin.example", "shop.example", 421),
            (None, "shop.example", 200),
        ):
            assert status(proxy, name, alice, host) == (expected, expected == 421), (name, host)
        assert proxy.stats().rejected["misdirected"] == 7


@pytest.mark.safety(138)
@pytest.mark.parametrize(("unknown", "expected"), [("default", 200), ("refuse", 421)])
def test_another_host_with_another_certificate_is_misdirected(tmp_path: Path, unknown: str, expected: int) -> None:
    other = write(tmp_path, "other", "other.example")
    trust = client(check_hostname=False)
    with serving(tmp_path, other, names={}, unknown_name=unknown) as proxy:
        assert status(proxy, "shop.example", trust, "other.example") == (421, True)
        assert status(proxy, "other.example", trust, "shop.example") == (421, True)
        assert status(proxy, "other.example", trust, "other.example") == (200, False)
        # For a host without a certificate there is nothing else to be had, unless such are refused.
        assert status(proxy, "shop.example", trust, "nowhere.example") == (expected, expected == 421)


@pytest.mark.safety(138)
def test_of_streams_only_those_for_another_host_are_misdirected(tmp_path: Path) -> None:
    trust = client()
    trust.set_alpn_protocols(["h2"])

    def get(host: str) -> Any:
        return ((":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/"))

    with serving(tmp_path) as proxy, Client(proxy.address(), trust=trust) as talking:
        seen = [talking.ask(2 * at + 1, get(host)) for at, host in enumerate(("shop.example", "x.admin.example"))]
        seen.append(talking.ask(5, get("blog.example")))
        assert [one.status for one in seen] == [200, 421, 200]
        assert not talking.closed
        assert not talking.goaways


@pytest.mark.safety(139)
@pytest.mark.parametrize("versions", [V12, V13], ids=["1.2", "1.3"])
def test_no_ticket_spares_the_proof_that_another_name_wants(tmp_path: Path, versions: dict[str, Any]) -> None:
    trust = client(person(tmp_path), **versions)
    with serving(tmp_path) as proxy:
        with secure(proxy.address(), "shop.example", trust) as sock:
            ask(sock)
            session = sock.session
        with secure(proxy.address(), "shop.example", trust, session=session) as sock:
            assert ask(sock) == b"nobody"
            assert sock.session_reused
        with secure(proxy.address(), "x.admin.example", trust, session=session) as sock:
            assert ask(sock) == b"alice"
            assert not sock.session_reused


def test_a_reload_that_changes_a_name_ends_its_connections(tmp_path: Path) -> None:
    usual = {"*.admin.example": asked(tmp_path)}
    with serving(tmp_path, names=usual) as proxy, secure(proxy.address(), "shop.example", client()) as sock:
        assert ask(sock) == b"nobody"
        proxy.apply(configuration(tmp_path, {**usual, "blog.example": asked(tmp_path)}))
        assert ask(sock) == b"nobody"
        proxy.apply(configuration(tmp_path, {**usual, "shop.example": asked(tmp_path)}))
        assert ask(sock).startswith(b"421 ")


def test_files_of_a_name_are_watched(tmp_path: Path) -> None:
    other = trustme.CA()
    bob = client(person(tmp_path, "bob", other))
    with serving(tmp_path) as proxy:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            body(proxy, "x.admin.example", bob)
        other.cert_pem.write_to_path(tmp_path / "fresh.pem")
        (tmp_path / "fresh.pem").rename(tmp_path / "clients.pem")

        def believed() -> bool:
            try:
                return body(proxy, "x.admin.example", bob) == b"nobody"
            except (ssl.SSLError, ConnectionError):
                return False

        began = time.monotonic()
        wait_for(believed, "the new authority is believed")
        assert time.monotonic() - began < 5


@pytest.mark.safety(141)
def test_a_rule_that_protects_nothing_is_refused(tmp_path: Path) -> None:
    names = {"admin.example": asked(tmp_path)}
    with pytest.raises(penstock.ConfigError, match=r'names\."admin\.example": no certificate of this listener'):
        penstock.Proxy(configuration(tmp_path, names)).__enter__()
    names = {"x.admin.example": {"clients": {"ca": str(tmp_path / "nothing.pem")}}}
    with pytest.raises(penstock.ConfigError, match=r"nothing.pem cannot be read: there is no such file"):
        penstock.Proxy(configuration(tmp_path, names)).__enter__()
