"""TLS as clients meet it: which certificate, which version, what is refused and how it is told, how connections end."""

from __future__ import annotations

import http.client
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from tests.certificates import EC, RSA, answer, ask, authority, context, secure, write
from tests.product.waiting import wait_for

import penstock
from product import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from product import Origin

V12 = {"maximum_version": ssl.TLSVersion.TLSv1_2}
V13 = {"minimum_version": ssl.TLSVersion.TLSv1_3}
WHO = {"match": 'scheme == "https" and sni == "blog.example"', "respond": {"body": "blog"}}
SAID = {"match": 'scheme == "https" and alpn in ["http/1.1", "h2"]', "respond": {"body": "agreed"}}
ANY = {"match": 'scheme == "https"', "respond": {"body": "secure"}}


@pytest.fixture
def shop(tmp_path: Path) -> dict[str, Any]:
    return write(tmp_path, "shop", "shop.example", "*.shop.example")


@contextmanager
def serving(*certificates: dict[str, Any], routes: Any = (WHO, SAID, ANY), **more: Any) -> Iterator[penstock.Proxy]:
    listener = {"bind": "127.0.0.1:0", **more.pop("listener", {})}
    listener["tls"] = {"certificates": list(certificates), **more.pop("tls", {})}
    config = {"listeners": {"web": listener}, "routes": list(routes), "engine": {"workers": 1}, **more}
    with penstock.Proxy(config) as proxy:
        yield proxy


@contextmanager
def talking(proxy: penstock.Proxy, *words: Any, **options: Any) -> Iterator[ssl.SSLSocket]:
    sock = secure(proxy.address(), *words, **options)
    try:
        yield sock
    finally:
        sock.close()


def names_of(sock: ssl.SSLSocket) -> set[str]:
    found = sock.getpeercert()
    assert found is not None
    return {str(value) for _, value in found["subjectAltName"]}


def rejected(proxy: penstock.Proxy, word: str) -> int:
    return proxy.stats().rejected[word]


@pytest.mark.parametrize(("versions", "spoken"), [(V12, "TLSv1.2"), (V13, "TLSv1.3")])
def test_the_name_chooses_the_certificate(
    tmp_path: Path, shop: dict[str, Any], versions: dict[str, Any], spoken: str
) -> None:
    blog = write(tmp_path, "blog", "blog.example", "exact.shop.example")
    with serving(shop, blog) as proxy:
        for name, expected in (
            ("shop.example", "shop.example"),
            ("x.shop.example", "*.shop.example"),
            ("exact.shop.example", "blog.example"),
            ("BLOG.example", "blog.example"),
        ):
            with talking(proxy, name, context(**versions)) as sock:
                assert sock.version() == spoken
                assert expected in names_of(sock)
                assert ask(sock) == (b"blog" if "blog" in name.lower() else b"secure")
        other = context(check_hostname=False, **versions)
        for name in ("other.example", "a.b.shop.example", None):
            with talking(proxy, name, other) as sock:
                assert "shop.example" in names_of(sock)


def test_an_unknown_name_can_be_refused(shop: dict[str, Any]) -> None:
    with serving(shop, tls={"unknown_name": "refuse"}) as proxy:
        for count, name in enumerate(("other.example", None), 1):
            with pytest.raises(ssl.SSLError, match="alert"):
                secure(proxy.address(), name, context(check_hostname=False))
            wait_for(lambda count=count: rejected(proxy, "tls_name") == count, "the refusal is counted")
        with talking(proxy) as sock:
            assert ask(sock) == b"secure"


@pytest.mark.parametrize("first", [EC, RSA])
def test_ecdsa_and_rsa_of_one_name(tmp_path: Path, first: Any) -> None:
    kinds = [first, RSA if first is EC else EC]
    pair = [write(tmp_path, kind.name, "shop.example", kind=kind) for kind in kinds]
    with serving(*pair) as proxy:
        for name in ("shop.example", None):
            for ciphers, suite in (("ECDHE-RSA-AES128-GCM-SHA256", "RSA"), ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDSA")):
                client = context(check_hostname=False, **V12)
                client.set_ciphers(ciphers)
                with talking(proxy, name, client) as sock:
                    assert suite in (sock.cipher() or ("",))[0]
            client = context(check_hostname=False, **V12)
            # Whoever can use either gets the one that costs less.
            with talking(proxy, name, client) as sock:
                assert "ECDSA" in (sock.cipher() or ("",))[0]


def test_an_older_version_can_be_refused(shop: dict[str, Any]) -> None:
    with serving(shop, tls={"min_version": "1.3"}) as proxy:
        with pytest.raises(ssl.SSLError, match=r"(?i)version"):
            secure(proxy.address(), trust=context(**V12))
        with talking(proxy) as sock:
            assert sock.version() == "TLSv1.3"


@pytest.mark.safety(140)
def test_a_protocol_that_is_not_spoken_is_refused(shop: dict[str, Any]) -> None:
    with serving(shop) as proxy:
        client = context()
        client.set_alpn_protocols(["ftp", "smtp"])
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            secure(proxy.address(), trust=client)
        wait_for(lambda: rejected(proxy, "tls_protocol") == 1, "the refusal is counted")
        client.set_alpn_protocols(["ftp", "http/1.1"])
        with talking(proxy, "shop.example", client) as sock:
            assert sock.selected_alpn_protocol() == "http/1.1"
            assert ask(sock) == b"agreed"


@pytest.mark.safety(140)
def test_plain_http_on_a_tls_port_is_told_so(shop: dict[str, Any]) -> None:
    with serving(shop) as proxy:
        connection = http.client.HTTPConnection(*proxy.address(), timeout=DEADLINE)
        connection.request("GET", "/zebra")
        response = connection.getresponse()
        text = response.read().decode()
        assert (response.status, response.getheader("content-type")) == (400, "text/plain; charset=utf-8")
        assert "speaks TLS" in text
        assert "zebra" not in text
        connection.close()
        assert rejected(proxy, "plain_on_tls") == 1


@pytest.mark.safety(140)
def test_tls_on_a_plain_port_is_told_so() -> None:
    config = {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [ANY], "engine": {"workers": 1}}
    with penstock.Proxy(config) as proxy, socket.create_connection(proxy.address(), DEADLINE) as sock:
        sock.sendall(hello())
        got = b""
        with suppress(ConnectionResetError):
            while more := sock.recv(4096):
                got += more
        assert got.startswith(b"HTTP/1.1 400 ")
        assert b"speaks no TLS" in got
        assert rejected(proxy, "tls_on_plain") == 1


def hello() -> bytes:
    """What a client says first."""
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="shop.example").do_handshake()
    return said.read()


@pytest.mark.safety(120)
def test_a_handshake_that_trickles_is_ended(shop: dict[str, Any]) -> None:
    with serving(shop, listener={"timeouts": {"tls": "300ms"}}) as proxy:
        half = socket.create_connection(proxy.address(), DEADLINE)
        half.sendall(hello()[:100])
        silent = socket.create_connection(proxy.address(), DEADLINE)
        with talking(proxy) as sock:
            assert ask(sock) == b"secure"
        for waiting in (half, silent):
            with suppress(ConnectionResetError):
                assert waiting.recv(100) == b""
            waiting.close()
        # Who said nothing at all is no failure: browsers connect ahead of need.
        assert rejected(proxy, "tls_timeout") == 1
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "both are gone")


@pytest.mark.safety(120)
@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\xff\xff" + b"\x01" * 100_000,
        b"\x16\x03\x01\x40\x00\x01\x01\x86\xa0" + (b"a" * 16_380 + b"\x16\x03\x01\x40\x00") * 7,
        b"\x16\x03\x01\x00\x00" * 1000,
        b"\x80\x2e\x01\x00\x02" + b"\x00" * 60,
        b"\x00" * 1000,
        b"\x16\x03\x03\x00\x05hello",
    ],
    ids=["long record", "long hello", "empty records", "SSLv2", "zeros", "no message"],
)
def test_what_is_no_handshake_is_refused(shop: dict[str, Any], junk: bytes) -> None:
    with serving(shop) as proxy, socket.create_connection(proxy.address(), DEADLINE) as sock:
        with suppress(OSError):
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while got := sock.recv(4096):
                # An alert at most.
                assert got[0] == 21
        assert rejected(proxy, "tls_failed") == 1
        with talking(proxy) as other:
            assert ask(other) == b"secure"


@pytest.mark.safety(120)
def test_renegotiation_is_refused(shop: dict[str, Any]) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    with serving(shop) as proxy:
        host, port = proxy.address()
        words = ["openssl", "s_client", "-tls1_2", "-connect", f"{host}:{port}", "-servername", "shop.example"]
        done = subprocess.run(words, input="R\n", capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert "no renegotiation" in done.stderr.lower() or "no_renegotiation" in done.stderr.lower(), done.stderr
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "the connection is gone")


def test_the_end_of_a_connection_is_said(shop: dict[str, Any]) -> None:
    with serving(shop, listener={"timeouts": {"idle": "200ms"}}) as proxy:
        with talking(proxy) as sock:
            ask(sock, "/", "Connection: close")
            assert sock.recv(100) == b""
        with talking(proxy) as sock:
            ask(sock)
            assert sock.recv(100) == b"", "an idle connection"
        with talking(proxy) as sock:
            ask(sock)
            proxy.drain(1)
            assert sock.recv(100) == b"", "a drain"


def test_a_client_that_says_its_end_gets_its_answer(shop: dict[str, Any], origin: Origin) -> None:
    upstreams = {"app": {"endpoints": [origin.address]}}
    with (
        serving(shop, routes=[{"upstream": "app"}], upstreams=upstreams) as proxy,
        socket.create_connection(proxy.address(), timeout=DEADLINE) as raw,
    ):
        came, goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context().wrap_bio(came, goes, server_hostname="shop.example")

        def until_done(step: Callable[[], Any]) -> Any:
            while True:
                with suppress(ssl.SSLWantReadError):
                    return step()
                raw.sendall(goes.read())
                came.write(raw.recv(65_536))

        until_done(client.do_handshake)
        client.write(b"GET /slow HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        # The end of its side, in the same records as the request; the other side stays open.
        with pytest.raises(ssl.SSLWantReadError):
            client.unwrap()
        raw.sendall(goes.read())
        assert origin.entered.wait(DEADLINE)
        origin.release.set()
        assert until_done(lambda: client.read(65_536)).startswith(b"HTTP/1.1 200 ")


class Raw(threading.Thread):
    """An origin that says what it is told on its first connection, and ends it."""

    def __init__(self, said: bytes) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self.listener.getsockname())
        self.said, self.heard = said, b""
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, suppress(OSError):
            connection.settimeout(DEADLINE)
            while b"\r\n\r\n" not in self.heard:
                self.heard += connection.recv(65_536)
            connection.sendall(self.said)
            if not self.said:
                while more := connection.recv(65_536):
                    self.heard += more
        self.listener.close()


@contextmanager
def in_front_of(origin: Raw, shop: dict[str, Any]) -> Iterator[penstock.Proxy]:
    with serving(shop, routes=[{"upstream": "app"}], upstreams={"app": {"endpoints": [origin.address]}}) as proxy:
        yield proxy


@pytest.mark.safety(85)
def test_a_cut_answer_does_not_end_like_a_whole_one(shop: dict[str, Any]) -> None:
    # More than is held back, so that some of it is out when it ends.
    cut = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"half" * 100_000)
    with in_front_of(cut, shop) as proxy, talking(proxy) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises(AssertionError, match="ended"):
            answer(sock)
    whole = Raw(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    with in_front_of(whole, shop) as proxy, talking(proxy) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        got = b""
        while more := sock.recv(100):
            got += more
        assert got.endswith(b"\r\n\r\nall of it")


def test_a_request_that_was_cut_is_not_passed_on_as_whole(shop: dict[str, Any]) -> None:
    origin = Raw(b"")
    with in_front_of(origin, shop) as proxy:
        with talking(proxy) as sock:
            sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            wait_for(lambda: origin.heard.endswith(b"abc\r\n"), "the origin hears the first chunk")
            # No farewell: whoever sits between could have cut it.
            socket.socket(fileno=sock.detach()).close()
        origin.join(DEADLINE)
        assert not origin.heard.endswith(b"0\r\n\r\n")


def test_forwarded_fields_say_https(shop: dict[str, Any]) -> None:
    origin = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    with in_front_of(origin, shop) as proxy, talking(proxy) as sock:
        assert ask(sock, "/", "X-Forwarded-Proto: http") == b"ok"
        assert origin.heard.lower().count(b"x-forwarded-proto") == 1
        assert b"x-forwarded-proto: https\r\n" in origin.heard


def test_an_affinity_cookie_is_for_tls_alone(shop: dict[str, Any]) -> None:
    origin = Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    upstreams = {"app": {"endpoints": [origin.address], "affinity": {"cookie": "lb"}}}
    with serving(shop, routes=[{"upstream": "app"}], upstreams=upstreams) as proxy:
        connection = http.client.HTTPSConnection(*proxy.address(), context=context(check_hostname=False))
        connection.request("GET", "/")
        assert "; Secure" in (connection.getresponse().getheader("set-cookie") or "")
        connection.close()


def test_clients_are_told_to_come_over_tls(shop: dict[str, Any]) -> None:
    routes = [{"respond": {"body": "x"}, "filters": [{"hsts": {"max_age": "1d", "include_subdomains": True}}]}]
    clear = {"X-Forwarded-Proto": "http"}  # a proxy that is believed says that its own client spoke so
    for fields, expected in (({}, "max-age=86400; includeSubDomains"), (clear, None)):
        with serving(shop, routes=routes, listener={"trusted_proxies": ["127.0.0.1"]}) as proxy:
            connection = http.client.HTTPSConnection(*proxy.address(), context=context(check_hostname=False))
            connection.request("GET", "/", headers=fields)
            assert connection.getresponse().getheader("strict-transport-security") == expected
            connection.close()


@pytest.mark.parametrize("versions", [V12, V13])
def test_long_bodies_go_both_ways(shop: dict[str, Any], versions: dict[str, Any], echo: str) -> None:
    upstreams = {"app": {"endpoints": [echo]}}
    body = bytes(range(256)) * 20_000
    with (
        serving(shop, routes=[{"upstream": "app"}], upstreams=upstreams) as proxy,
        talking(proxy, "shop.example", context(**versions)) as sock,
    ):
        for _ in range(3):
            sending = threading.Thread(target=sock.sendall, args=(post(body),), daemon=True)
            sending.start()
            sending.join(DEADLINE)
            assert answer(sock) == body


def post(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def echo() -> Iterator[str]:
    """An origin that answers with the whole of the body once it has it."""

    class Echo(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def session_of(proxy: penstock.Proxy, client: ssl.SSLContext, listener: str = "web", **more: Any) -> Any:
    sock = secure(proxy.address(listener), "shop.example", client, **more)
    ask(sock)  # tickets come behind the handshake
    found = sock.session, bool(sock.session_reused)
    sock.close()
    return found


@pytest.mark.safety(139)
@pytest.mark.parametrize("versions", [V12, V13])
def test_a_ticket_spares_the_handshake_at_its_own_listener(shop: dict[str, Any], versions: dict[str, Any]) -> None:
    tls = {"bind": "127.0.0.1:0", "tls": {"certificates": [shop]}}
    config = {"listeners": {"web": tls, "other": tls}, "routes": [ANY], "engine": {"workers": 2}}
    with penstock.Proxy(config) as proxy:
        client = context(**versions)
        session, reused = session_of(proxy, client)
        assert not reused
        assert session_of(proxy, client, session=session)[1]
        proxy.apply(config | {"routes": [WHO, ANY]})
        assert session_of(proxy, client, session=session)[1], "a reload keeps the keys"
        assert not session_of(proxy, client, "other", session=session)[1]


@pytest.mark.safety(139)
def test_a_ticket_is_good_for_its_own_name_alone(shop: dict[str, Any]) -> None:
    with serving(shop) as proxy:
        client = context(check_hostname=False)
        session, _ = session_of(proxy, client)
        sock = secure(proxy.address(), "a.shop.example", client, session=session)
        assert not sock.session_reused
        sock.close()


def test_curl(shop: dict[str, Any], tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    trust = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(trust))
    with serving(shop) as proxy:
        host, port = proxy.address()
        assert proxy.url() == f"https://{host}:{port}"
        words = ["curl", "-sS", "--cacert", str(trust), "--resolve", f"shop.example:{port}:{host}"]
        urls = [f"https://shop.example:{port}/{number}" for number in range(3)]
        done = subprocess.run([*words, *urls], capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert (done.stdout, done.stderr) == ("agreed" * 3, "")
        assert proxy.stats().listeners[0].accepted == 1
