"""What a server can see of the client behind a forward proxy: the list in the guide, and nothing more."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from intercepting import NAME, asking, settings, trusting
from secured import REPLY, PlainOrigin
from tests.certificates import DEADLINE, write
from tests.product.told import NOTHING, SAME, Field, Hello, Mode, fields, table
from tests.product.users import basic, users
from tests.safety.faults.name_server import NameServer

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLIENT = "127.0.0.7"
"""Its address: the proxy's own is another."""
SECRET = "6.6.6.6"
TALK: list[Field] = [
    *((name, "x") for name, words in fields().items() if words == [SAME, SAME] and name != "expect"),
    ("Content-Length", "4"),
    ("COOKIE", "c=d"),
    ("User-Agent", "Special/7 (me)"),
    ("Referer", "https://elsewhere.example/secret"),
    ("Via", "1.1 other"),
    ("X-Forwarded-For", SECRET),
    ("Forwarded", f"for={SECRET}"),
    *(
        (name, SECRET)
        for name, words in fields().items()
        if words == [NOTHING, NOTHING] and name.startswith(("x-", "c", "fas", "tr")) and "*" not in name
    ),
    *((f"X-Forwarded-{name}", SECRET) for name in ("Host", "Port", "Proto", "Prefix", "Server", "By", "User", "Ssl")),
    ("X_Forwarded_For", SECRET),
    ("Keep-Alive", "timeout=7"),
    ("Connection", "keep-alive, X-Named, TE, Keep-Alive"),
    ("X-Named", "mine"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authenticate", "Basic"),
    ("Trailer", "X-Last"),
    ("TE", "trailers"),
    ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
    *(
        (name, "mine")
        for name in ("From", "DNT", "Sec-GPC", "Save-Data", "Priority", "Upgrade-Insecure-Requests", "X-Requested-With")
    ),
    *((f"Sec-CH-UA{name}", "mine") for name in ("", "-Arch", "-Full-Version-List", "-Mobile", "-Model", "-Platform")),
    *((f"Sec-Fetch-{name}", "mine") for name in ("Dest", "Mode", "Site", "User")),
    *(
        (name, "mine")
        for name in ("Device-Memory", "Downlink", "ECT", "RTT", "Viewport-Width", "Width", "DPR", "Last-Event-ID")
    ),
    *(
        (name, "mine")
        for name in ("X-Correlation-ID", "traceparent", "X-Device-ID", "MSISDN", "Proxy-Features", "Date", "Purpose")
    ),
]
"""All that a client can say of itself: whatever the list names, and more."""
MODES = [
    Mode(),
    Mode(anonymous=True),
    *(Mode(forwarded_for=mode) for mode in ("on", "off", "transparent", "truncate")),
    *(Mode(forwarded=mode, via=False) for mode in ("on", "off", "transparent", "truncate")),
]
OURS = re.compile(r"^1\.1 penstock-\w+$")
ROADS = ["plain", "user", "https", "opened", "opened for a user", "opened by socks"]


class Watcher(threading.Thread):
    """A server that keeps who connected, and every byte that it heard."""

    def __init__(self, shows: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self._shows = shows
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.peers: list[tuple[str, int]] = []
        self.said = b""
        self.start()

    def run(self) -> None:
        """One connection, with one request whose body has four bytes."""
        sock, peer = self._listener.accept()
        self.peers.append(peer)
        with self._shows.wrap_socket(sock, server_side=True) if self._shows else sock as talk:
            while not self.said.endswith(b"\r\n\r\nbody") and (more := talk.recv(65_536)):
                self.said += more
            talk.sendall(REPLY)
            talk.recv(1)

    def close(self) -> None:
        """Nobody else connected."""
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            self.peers.append(self._listener.accept()[1])
        self._listener.close()


@contextmanager
def watched(folder: Path, mode: Mode, road: str) -> Iterator[tuple[penstock.Proxy, Watcher]]:
    """A proxy in this mode, and a server."""
    shows = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    keys = write(folder / "keys", "shop", NAME)
    shows.load_cert_chain(keys["cert"], keys["key"])
    asked = {"users": users(folder)} if road.endswith("user") else {}
    made = settings(folder, **mode.keys(), **asked)
    if road == "closed":
        made["listeners"]["out"]["rules"] = []
    with (
        closing(Watcher(shows if road.startswith(("opened", "https")) else None)) as watcher,
        NameServer("127.0.0.1") as names,
        penstock.Proxy(asking(names, made)) as proxy,
    ):
        yield proxy, watcher


def reach(proxy: penstock.Proxy, road: str, folder: Path, port: int) -> tuple[socket.socket, str]:
    """A connection on which requests are sent, and what stands before their path."""
    if not road.startswith("opened"):
        return socket.create_connection(
            proxy.address("out"), DEADLINE, source_address=(CLIENT, 0)
        ), f"{'https' if road == 'https' else 'http'}://{NAME}:{port}"
    return trusting(folder).wrap_socket(tunnel(proxy, road, port), server_hostname=NAME), ""


def tunnel(proxy: penstock.Proxy, road: str, port: int) -> socket.socket:
    """A tunnel to the server, asked for with all that there is to say."""
    sock = socket.create_connection(proxy.address("out"), DEADLINE, source_address=(CLIENT, 0))
    if road.endswith("socks"):
        name = NAME.encode()
        sock.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        until(sock, lambda got: len(got) == 12)
    else:
        said = [("Host", NAME), *TALK, *login(road)]
        lines = "".join(f"{name}: {value}\r\n" for name, value in said if name.lower() != "content-length")
        sock.sendall(f"CONNECT {NAME}:{port} HTTP/1.1\r\n{lines}\r\n".encode())
        assert until(sock, lambda got: got.endswith(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return sock


def login(road: str) -> list[Field]:
    """Who asks; where nobody is asked, somebody says it all the same."""
    name, _, value = (basic("ada") if road.endswith("user") else basic("eve", "wrong")).partition(": ")
    return [(name, value)]


def until(sock: socket.socket, done: Any) -> bytes:
    """Read until it is so."""
    got = b""
    while not done(got):
        more = sock.recv(65_536)
        assert more, got
        got += more
    return got


def seen(folder: Path, mode: Mode, road: str, talk: list[Field], version: str = "1.1") -> list[Field]:
    """The fields that arrive of a request, which is the only one, and comes from the proxy's own address."""
    with watched(folder, mode, road) as (proxy, watcher):
        sock, before = reach(proxy, road, folder, watcher.port)
        with sock:
            own = sock.getsockname()
            said = [("Host", f"{NAME}:{watcher.port}"), *talk, *login(road)]
            lines = "".join(f"{name}: {value.replace(':0/', f':{watcher.port}/')}\r\n" for name, value in said)
            sock.sendall(f"POST {before}/a//b?q=1 HTTP/{version}\r\n{lines}\r\nbody".encode())
            assert until(sock, lambda got: got.endswith(b"ok")).startswith(b"HTTP/1.1 200 ")
    head, _, body = watcher.said.decode().partition("\r\n\r\n")
    line, *rest = head.split("\r\n")
    assert (line, body) == ("POST /a//b?q=1 HTTP/1.1", "body")
    assert [(peer[0], peer[1] == own[1]) for peer in watcher.peers] == [("127.0.0.1", False)]
    got = [(name, value.removeprefix(" ")) for name, _, value in (one.partition(":") for one in rest)]
    assert got[0] == ("host", f"{NAME}:{watcher.port}")
    return got


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_server_sees_what_the_list_says(tmp_path: Path, mode: Mode, road: str) -> None:
    got = seen(tmp_path, mode, road, TALK)
    host = got[0][1]
    named = {name.strip().lower() for key, value in TALK if key == "Connection" for name in value.split(",")}
    passed = mode.passed([one for one in TALK if one[0].lower() not in named], host)
    assert [one for one in got if one in passed] == passed
    ours = [(name, OURS.sub("ours", value)) for name, value in got if (name, value) not in passed]
    assert sorted(ours) == sorted(mode.made(TALK, CLIENT, host).items())


def test_the_list_is_of_what_was_asked() -> None:
    said = {name.lower() for name, _ in [*TALK, *login("plain")]}
    assert set(fields()) - said == {"host", "expect", "x-forwarded-*", "_"}


@pytest.mark.parametrize("anonymous", [False, True])
def test_of_a_client_that_says_nothing_nothing_is_seen(tmp_path: Path, *, anonymous: bool) -> None:
    got = seen(tmp_path, Mode(anonymous=anonymous), "plain", [("Content-Length", "4")], "1.0")
    told = {name: value for name, value in got[1:] if name != "content-length"}
    assert anonymous is ("via" not in told)
    assert told.pop("via", "1.0 penstock-").startswith("1.0 penstock-")
    assert told == ({"user-agent": "Mozilla/5.0"} if anonymous else {})


@pytest.mark.parametrize(("road", "scheme"), [("plain", "http"), ("https", "https"), ("opened", "https")])
def test_an_anonymous_referrer_goes_to_its_own_host(tmp_path: Path, road: str, scheme: str) -> None:
    said = [("Content-Length", "4"), ("Referer", f"{scheme}://{NAME}:0/page")]
    assert ("referer", f"{scheme}://{NAME}:{{}}/page") in [
        (name, re.sub(r":\d+/", ":{}/", value)) for name, value in seen(tmp_path, Mode(anonymous=True), road, said)
    ]


@pytest.mark.parametrize("road", ["closed", "closed by socks"])
def test_a_closed_tunnel_is_the_clients_own(tmp_path: Path, road: str) -> None:
    said = "".join(f"{name}: {value}\r\n" for name, value in TALK) + "\r\n\r\nbody"
    mode = Mode(forwarded_for="on", forwarded="on")
    with watched(tmp_path, mode, "closed") as (proxy, watcher), tunnel(proxy, road, watcher.port) as sock:
        sock.sendall(said.encode())
        assert until(sock, lambda got: got.endswith(b"ok")) == REPLY
    assert (watcher.said.decode(), [host for host, _ in watcher.peers]) == (said, ["127.0.0.1"])


def hello(folder: Path, trust: ssl.SSLContext) -> Hello:
    """What the server hears first of an opened tunnel with this client."""
    with PlainOrigin(b"") as origin, NameServer("127.0.0.1") as names:
        with penstock.Proxy(asking(names, settings(folder))) as proxy:
            trust.load_verify_locations(str(folder / "ca" / "ca.pem"))
            sock = tunnel(proxy, "opened", int(origin.address.rpartition(":")[2]))
            with suppress(OSError), sock, trust.wrap_socket(sock, server_hostname=NAME) as safe:
                # The server's own answer was no TLS: a page says so.
                safe.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
                assert safe.recv(1)
        return Hello.parse(origin.heard[0])


def test_of_a_hello_the_server_sees_the_name(tmp_path: Path) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    old.set_ecdh_curve("prime256v1")
    new = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    new.minimum_version = ssl.TLSVersion.TLSv1_3
    new.set_alpn_protocols(["x-mine", "http/1.1"])
    first, second = hello(tmp_path, old), hello(tmp_path, new)
    assert first.same_for_all == second.same_for_all
    assert first.name == second.name == NAME.encode()
    assert not first.own & second.own
    assert [row[1] for row in table("interception.md", "of the client's hello")] == [
        "the same",
        "the proxy's own, the same for all clients",
        "the proxy's own",
        NOTHING,
    ]
