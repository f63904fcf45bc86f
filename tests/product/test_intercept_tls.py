"""TLS in TLS: tunnels that are opened though they were asked for over TLS, of HTTP/1.1 and on streams of HTTP/2."""

from __future__ import annotations

import io
import json
import shutil
import ssl
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from intercepting import NAME, OPEN, asking, intercepting, settings, shop
from secured import SecuredOrigin
from test_browser import BROWSER, OBJECTS, Site, browsing, published, trust
from test_forward_http2 import client, tunnel
from test_forward_http2_clients import HTTPS, HTTPS2, PROXY
from tests.certificates import authority, context, secure, write
from tests.http2 import Client, data
from tests.product.forwarding import fields
from tests.product.users import users
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer

import penstock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.wire.peers import Origin

KINDS = (HTTPS, HTTPS2)
BULK = 8 << 20
RECORD = 16_384


def secured(folder: Path, *rules: dict[str, Any], **more: Any) -> AbstractContextManager[penstock.Proxy]:
    """A proxy that opens tunnels, and to which TLS is spoken."""
    shown = write(folder / "keys", "proxy", PROXY, NAME, "127.0.0.1")
    return intercepting(folder, *rules, **{"tls": {"certificates": [shown]}, **more})


@contextmanager
def site(folder: Path) -> Iterator[int]:
    """An origin that speaks either version; its port."""
    tls = {"certificates": [write(folder / "keys", "site", NAME)]}
    web = {"bind": "127.0.0.1:0", "tls": tls}
    with penstock.Proxy({"listeners": {"web": web}, "routes": [{"respond": {"body": "ok"}}]}) as proxy:
        yield proxy.address("web")[1]


def records(folder: Path, count: int) -> list[dict[str, Any]]:
    """That many lines of the access log."""
    path = folder / "access.log"
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) >= count, f"{count} records")
    return [json.loads(line) for line in path.read_text().splitlines()]


def counts(proxy: penstock.Proxy) -> dict[str, int]:
    """What became of tunnels, less what never happened."""
    return {word: count for word, count in proxy.stats().listeners[0].interception.items() if count}


def curl(folder: Path, proxy: penstock.Proxy, kind: int, **options: Any) -> Any:
    """One of libcurl, that trusts whom it has to: the proxy's certificate and, of origins, our authority."""
    pycurl: Any = pytest.importorskip("pycurl", reason="curl 8 is not installed")
    made = pycurl.Curl()
    said = {
        "PROXY": f"https://127.0.0.1:{proxy.address('out')[1]}",
        "PROXYTYPE": kind,
        "PROXY_CAINFO": str(folder / "roots.pem"),
        "CAINFO": str(folder / "ca" / "ca.pem"),
        "TIMEOUT": 30,
        **options,
    }
    for name, value in said.items():
        made.setopt(getattr(pycurl, name), value)
    return made


def fetched(made: Any, url: str, **options: Any) -> bytes:
    """What comes of it."""
    pycurl: Any = pytest.importorskip("pycurl")
    got = io.BytesIO()
    for name, value in {"WRITEDATA": got, "URL": url, **options}.items():
        made.setopt(getattr(pycurl, name), value)
    made.perform()
    return got.getvalue()


class Inside:
    """TLS in a tunnel: what is said goes out by `send`, and `receive` gives what comes, nothing at its end."""

    def __init__(self, send: Callable[[bytes], object], receive: Callable[[], bytes], trust: ssl.SSLContext) -> None:
        self._send, self._receive = send, receive
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self._in, self._out, server_hostname=NAME)

    def shake_hands(self) -> None:
        """As every client does first."""
        self._do(self._tls.do_handshake)

    def ask(self, host: str, path: str = "/") -> bytes:
        """A request; the first of its answer."""
        self._do(lambda: self._tls.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()))
        return self.read()

    def read(self) -> bytes:
        """What comes next; nothing is the end."""
        return bytes(self._do(lambda: self._tls.read(RECORD)))

    def _do(self, task: Callable[[], Any]) -> Any:
        while True:
            try:
                return task()
            except ssl.SSLWantReadError:
                pass
            finally:
                if said := self._out.read():
                    self._send(said)
            if came := self._receive():
                self._in.write(came)
            else:
                self._in.write_eof()


def on_stream(peer: Client, stream: int, trust: ssl.SSLContext, piece: int = RECORD) -> Inside:
    """TLS in a tunnel on a stream, in frames of so many bytes."""
    seen = peer.streams[stream]

    def send(said: bytes) -> None:
        peer.send(*(data(stream, said[at : at + piece], ends=False) for at in range(0, len(said), piece)))

    def receive() -> bytes:
        peer.read_until(lambda: seen.body or seen.over)
        came, seen.body = seen.body, b""
        return came

    return Inside(send, receive, trust)


def trusting(folder: Path) -> ssl.SSLContext:
    """A client's: it trusts our authority."""
    return ssl.create_default_context(cafile=str(folder / "ca" / "ca.pem"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl(tmp_path: Path, version: str) -> None:
    with shop(tmp_path) as origin, secured(tmp_path, users=users(tmp_path)) as proxy:
        command = ["curl", "--silent", "--show-error", version, "--cacert", str(tmp_path / "ca" / "ca.pem")]
        command += ["--proxy", "https://127.0.0.1:{}".format(proxy.address("out")[1]), "--proxy-user", "ada:password"]
        command += ["--proxy-cacert", str(tmp_path / "roots.pem")]
        place = f"https://{NAME}:{origin.port}"
        run = subprocess.run(
            [*command, f"{place}/a", f"{place}/b"], capture_output=True, text=True, timeout=60, check=False
        )
        assert (run.stdout, run.returncode) == ("okok", 0), run.stderr
        assert counts(proxy) == {"opened": 1}
        connect, first, second = records(tmp_path, 3)
    assert (connect["method"], connect["interception"], connect["user"]) == ("CONNECT", "opened", "ada")
    told = [(row["target"], row["sni"], row["user"], row["version"]) for row in (first, second)]
    spoken = {"--http1.1": "1.1", "--http2": "2.0"}[version]
    assert told == [(f"{place}/{path}", NAME, "ada", spoken) for path in "ab"]


@pytest.mark.parametrize("kind", KINDS)
def test_many_requests_of_either_version_to_the_proxy(tmp_path: Path, kind: int) -> None:
    with site(tmp_path) as port, secured(tmp_path) as proxy:
        one = curl(tmp_path, proxy, kind)
        for turn in range(20):
            assert fetched(one, f"https://{NAME}:{port}/{turn}") == b"ok"
        one.close()
        assert counts(proxy) == {"opened": 1}
        rows = records(tmp_path, 21)
    connect = rows[0]
    assert (connect["method"], connect["version"]) == ("CONNECT", "1.1" if kind == HTTPS else "2.0")
    assert [row["target"] for row in rows[1:]] == [f"https://{NAME}:{port}/{turn}" for turn in range(20)]


@pytest.mark.parametrize("kind", KINDS)
def test_much_goes_both_ways(tmp_path: Path, kind: int) -> None:
    def talk(sock: ssl.SSLSocket) -> None:
        """Send back a body of `BULK`, when it is whole: nobody's window may be what keeps it."""
        with sock.makefile("rb") as came:
            while came.readline().strip():
                pass
            body = came.read(BULK)
        sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % BULK + body)

    sent = bytes(range(256)) * (BULK // 256)
    certificate = write(tmp_path / "keys", "shop", NAME)
    with SecuredOrigin(certificate, protocols=("http/1.1",), talk=talk) as origin, secured(tmp_path) as proxy:
        one = curl(tmp_path, proxy, kind, HTTPHEADER=["Expect:"])
        options = {"UPLOAD": 1, "READDATA": io.BytesIO(sent), "INFILESIZE": BULK}
        assert fetched(one, f"https://{NAME}:{origin.port}/", **options) == sent
        one.close()


@pytest.mark.parametrize("kind", KINDS)
def test_rules_judge_what_is_in_it(tmp_path: Path, kind: int) -> None:
    rules = ({"name": "secret", "match": 'path == "/secret"', "deny": 451}, OPEN)
    with shop(tmp_path) as origin, secured(tmp_path, *rules) as proxy:
        one = curl(tmp_path, proxy, kind)
        place = f"https://{NAME}:{origin.port}"
        assert b"rule: secret" in fetched(one, f"{place}/secret")
        assert fetched(one, f"{place}/open") == b"ok"
        one.close()
    assert [request.split(b" ")[1] for request in origin.requests] == [b"/open"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_the_client_is_by_certificate_holds_in_its_tunnels_and_no_further(tmp_path: Path, kind: int) -> None:
    shown = write(tmp_path / "keys", "proxy", PROXY, NAME, "127.0.0.1")
    roots = tmp_path / "people.pem"
    authority().cert_pem.write_to_path(str(roots))
    mine = authority().issue_cert(common_name="ada")
    key, cert = tmp_path / "ada.key", tmp_path / "ada.pem"
    mine.private_key_pem.write_to_path(str(key))
    mine.cert_chain_pems[0].write_to_path(str(cert))
    tls = {"certificates": [shown], "clients": {"ca": str(roots)}}
    rules = ({"name": "ada", "match": 'tls.client.subject.startswith("CN=ada")', "intercept": True}, {"deny": 403})
    with shop(tmp_path) as origin, secured(tmp_path, *rules, tls=tls) as proxy:
        one = curl(tmp_path, proxy, kind, PROXY_SSLCERT=str(cert), PROXY_SSLKEY=str(key))
        assert fetched(one, f"https://{NAME}:{origin.port}/") == b"ok"
        one.close()
        assert [row["rule"] for row in records(tmp_path, 2)] == ["ada", "ada"]
    assert set(fields(origin.requests[0])) == {"host", "user-agent", "accept", "via"}


def test_a_client_that_trusts_somebody_else_is_noticed(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, secured(tmp_path) as proxy, client(proxy) as peer:
        place = f"{NAME}:{origin.port}"
        tunnel(peer, 1, place)
        with pytest.raises(ssl.SSLCertVerificationError):
            on_stream(peer, 1, context()).shake_hands()
        wait_for(lambda: counts(proxy) == {"refused": 1}, "it has said so")
        # The next tunnel stays closed, and so the origin's own certificate is seen.
        tunnel(peer, 3, place)
        one = on_stream(peer, 3, context())
        one.shake_hands()
        assert one.ask(place).startswith(b"HTTP/1.1 200 ")
        assert counts(proxy) == {"refused": 1, "pinned": 1}
        assert peer.outcome(1).ended


def test_a_client_of_socks_is_served_alike(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, secured(tmp_path) as proxy, secure(proxy.address("out"), NAME) as outer:
        outer.sendall(b"\x05\x01\x00")
        assert outer.recv(2) == b"\x05\x00"
        name = NAME.encode()
        outer.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + origin.port.to_bytes(2, "big"))
        assert outer.recv(10)[:2] == b"\x05\x00"
        one = Inside(outer.sendall, lambda: outer.recv(RECORD), trusting(tmp_path))
        one.shake_hands()
        for _ in range(2):
            assert one.ask(f"{NAME}:{origin.port}").startswith(b"HTTP/1.1 200 ")
        assert counts(proxy) == {"opened": 1}
        assert records(tmp_path, 3)[1]["tls_version"] == "TLSv1.3"


def test_what_is_no_tls_goes_on_as_it_is_on_a_stream(tmp_path: Path, scripted: Origin) -> None:
    with secured(tmp_path, timeouts={"hello": "100ms"}) as proxy, client(proxy) as peer:
        for stream, said in ((1, b"SSH-2.0-x\r\n"), (3, b"")):
            assert tunnel(peer, stream, scripted)[":status"] == "200"
            if said:
                peer.send(data(stream, said, ends=False))
            connection = scripted.connection(stream // 2 + 1)
            connection.read_until(lambda got, said=said: got == said)
            connection.send(b"hello")
            seen = peer.streams[stream]
            peer.read_until(lambda seen=seen: seen.body)
            assert seen.body == b"hello"
            peer.send(data(stream, b"bye"))
            connection.read_until(lambda got, said=said: got == said + b"bye")
            connection.close()
            peer.read_until(lambda seen=seen: seen.ended)
        assert counts(proxy) == {"no_tls": 2}


def test_tunnels_of_one_connection_are_opened_each_for_itself(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, secured(tmp_path) as proxy, client(proxy) as peer:
        place = f"{NAME}:{origin.port}"
        inside = []
        for stream in (1, 3, 5):
            assert tunnel(peer, stream, place)[":status"] == "200"
            # A hello in many frames is one, too.
            one = on_stream(peer, stream, trusting(tmp_path), piece=50)
            one.shake_hands()
            inside.append(one)
        for one in reversed(inside):
            assert one.ask(place).startswith(b"HTTP/1.1 200 ")
        # Another host is another tunnel's.
        assert inside[0].ask("other.example").startswith(b"HTTP/1.1 421 ")
        assert counts(proxy) == {"opened": 3}
        assert inside[1].ask(place).startswith(b"HTTP/1.1 200 ")
        peer.close()
        wait_for(lambda: proxy.stats().listeners[0].connections == 0, "nothing of it is left")


def test_an_opened_tunnel_that_waits_too_long_ends_its_stream_alone(tmp_path: Path) -> None:
    with shop(tmp_path) as origin, secured(tmp_path, timeouts={"idle": "200ms"}) as proxy, client(proxy) as peer:
        place = f"{NAME}:{origin.port}"
        for stream in (1, 3):
            tunnel(peer, stream, place)
            one = on_stream(peer, stream, trusting(tmp_path))
            one.shake_hands()
            assert one.ask(place).startswith(b"HTTP/1.1 200 ")
            while one.read():
                pass
            assert (peer.streams[stream].ended, peer.closed) == (True, False)


def test_a_reload_may_open_what_is_asked_for_on_an_old_connection(tmp_path: Path) -> None:
    shown = {"certificates": [write(tmp_path / "keys", "proxy", "shop.example")]}
    closed = settings(tmp_path, {"tunnel": True}, tls=shown)
    with NameServer("127.0.0.1") as names, shop(tmp_path) as origin, penstock.Proxy(asking(names, closed)) as proxy:
        place = f"{NAME}:{origin.port}"
        with client(proxy) as peer:
            tunnel(peer, 1, place)
            one = on_stream(peer, 1, context())
            one.shake_hands()
            proxy.apply(asking(names, settings(tmp_path, tls=shown)))
            tunnel(peer, 3, place)
            two = on_stream(peer, 3, trusting(tmp_path))
            two.shake_hands()
            assert two.ask(place).startswith(b"HTTP/1.1 200 ")
            # What was closed before stays so.
            assert one.ask(NAME).startswith(b"HTTP/1.1 200 ")
            assert counts(proxy) == {"opened": 1}
            # And what was opened is asked for nothing where nothing is opened any more.
            proxy.apply(asking(names, closed))
            assert two.ask(place).startswith(b"HTTP/1.1 421 ")


@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed (make debian)")
def test_a_browser(tmp_path: Path) -> None:
    certificate = write(tmp_path / "keys", "shop", NAME)
    with published(certificate) as origin, secured(tmp_path) as proxy:
        keys = [trust(tmp_path / "keys" / "proxy.pem"), trust(tmp_path / "ca" / "ca.pem")]
        root = ",".join([keys[0], keys[1].partition("=")[2]])
        way = f"--proxy-server=https://{PROXY}:{proxy.address('out')[1]}"
        place = f"{NAME}:{origin.address('web')[1]}"
        with browsing(
            f"https://{place}/", tmp_path / "profile", root, way, f"--host-resolver-rules=MAP {PROXY} 127.0.0.1"
        ):
            report = Site.reports.get(timeout=60)
        assert (report["objects"], report["echoed"]) == (OBJECTS, "from a browser")
        assert counts(proxy)["opened"] >= 1
        rows = [row for row in records(tmp_path, OBJECTS) if place in row.get("target", "")]
    tunnels = [row for row in rows if row["method"] == "CONNECT"]
    assert {(row["version"], row["interception"]) for row in tunnels} == {("2.0", "opened")}
    assert len([row for row in rows if "/object/" in row["target"]]) >= OBJECTS
