"""TLS to endpoints: who is believed, which name is asked for, what we prove ourselves with, how failures are told."""

from __future__ import annotations

import datetime
import http.client
import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from secured import PlainOrigin, SecuredOrigin, configuration, get, in_front_of, unknown
from tests.certificates import RSA, write
from tests.product.waiting import wait_for
from websockets.sync.client import connect as websocket

import penstock
from product import DEADLINE

V12 = {"maximum_version": ssl.TLSVersion.TLSv1_2}
V13 = {"minimum_version": ssl.TLSVersion.TLSv1_3}
ASK = {"verify_mode": ssl.CERT_REQUIRED}


def failure(origin: Any, tls: Any, log: Path, **upstream: Any) -> tuple[int, str, str]:
    """Status, cause and reason of a request that fails; not a byte of the origin's words reaches the client."""
    with penstock.Proxy(configuration(origin, tls=tls, log=log, **upstream)) as proxy:
        status, body = get(proxy)
        assert b"zebra" not in body
        line = wait_for(lambda: log.exists() and log.read_text("utf-8").strip(), "the record is written")
    record = json.loads(str(line))
    return status, record["cause"], record.get("reason", "")


@pytest.mark.parametrize("versions", [V12, V13])
def test_an_endpoint_is_verified_and_asked_for_by_name(ca: str, leaf: dict[str, Any], versions: dict[str, Any]) -> None:
    with SecuredOrigin(leaf, **versions) as origin:
        with in_front_of(f"localhost:{origin.port}", tls={"ca": ca, "name": "app.internal"}) as proxy:
            assert get(proxy) == (200, b"ok")
        with in_front_of(origin, tls={"ca": ca}) as proxy:
            assert get(proxy) == (200, b"ok")
        # An address is verified and not asked for (RFC 6066 §3).
        assert origin.names == ["app.internal", None]


def test_the_name_of_an_endpoint_is_the_one_asked_for(ca: str, tmp_path: Path) -> None:
    with (
        SecuredOrigin(write(tmp_path, "local", "localhost", kind=RSA)) as origin,
        in_front_of(f"localhost:{origin.port}", tls={"ca": ca}, host="shop.example") as proxy,
    ):
        assert get(proxy) == (200, b"ok")
        assert origin.names == ["localhost"]
        assert b"host: shop.example\r\n" in origin.requests[0].lower()


def test_connections_are_kept_and_sessions_resumed(ca: str, leaf: dict[str, Any]) -> None:
    with SecuredOrigin(leaf) as origin, in_front_of(origin, tls={"ca": ca}) as proxy:
        for _ in range(5):
            assert get(proxy) == (200, b"ok")
        assert origin.sessions == [False], "one connection carries them all"
        origin.hang_up()
        wait_for(lambda: idle(proxy) == 0, "the pool notices")
        assert get(proxy) == (200, b"ok")
        assert origin.sessions == [False, True]


def idle(proxy: penstock.Proxy) -> int:
    return sum(endpoint.idle for endpoint in proxy.stats().upstreams[0].endpoints)


def _expired(folder: Path) -> dict[str, Any]:
    return write(folder, "bad", "127.0.0.1", until=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))


def _another(folder: Path) -> dict[str, Any]:
    return write(folder, "bad", "127.0.0.2", "other.internal")


def _self_signed(folder: Path) -> dict[str, Any]:
    alone = trustme.CA()
    alone.private_key_pem.write_to_path(folder / "bad.pem")
    alone.cert_pem.write_to_path(folder / "bad.pem", append=True)
    return {"cert": str(folder / "bad.pem"), "key": str(folder / "bad.pem")}


@pytest.mark.safety(142)
@pytest.mark.parametrize(
    ("bad", "says"),
    [(_expired, "expired"), (_another, "not valid for name"), (unknown, "UnknownIssuer"), (_self_signed, "")],
)
def test_a_certificate_that_is_not_valid_is_a_bad_gateway(ca: str, tmp_path: Path, bad: Any, says: str) -> None:
    with SecuredOrigin(bad(tmp_path), reply=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nzebra") as origin:
        status, cause, reason = failure(origin, {"ca": ca}, tmp_path / "access.log")
        assert (status, cause) == (502, "upstream_certificate")
        assert says in reason
        assert origin.requests == []


@pytest.mark.safety(142)
def test_the_authorities_of_the_machine_are_believed_by_default(leaf: dict[str, Any], tmp_path: Path) -> None:
    with SecuredOrigin(leaf) as origin:
        assert failure(origin, True, tmp_path / "access.log")[:2] == (502, "upstream_certificate")
        assert origin.requests == []


@pytest.mark.safety(142)
def test_a_name_with_a_nul_is_no_name(ca: str, tmp_path: Path) -> None:
    bad = write(tmp_path, "nul", "app.internal.zebra")
    der = ssl.PEM_cert_to_DER_cert(
        Path(bad["cert"]).read_text("ascii").split("-----END")[0] + "-----END CERTIFICATE-----\n"
    )
    # The signature is wrong then, too; the name is looked at first by whoever would fall for it.
    spoilt = der.replace(b"app.internal.zebra", b"app.internal\0zebra")
    assert spoilt != der
    Path(bad["cert"]).write_text(ssl.DER_cert_to_PEM_cert(spoilt), "ascii")
    with SecuredOrigin(bad) as origin:
        tls = {"ca": ca, "name": "app.internal"}
        assert failure(origin, tls, tmp_path / "access.log")[:2] == (502, "upstream_certificate")
        assert origin.requests == []


def test_insecure_believes_anybody_and_says_so(tmp_path: Path) -> None:
    with SecuredOrigin(unknown(tmp_path)) as origin, in_front_of(origin, tls={"insecure": True}) as proxy:
        assert get(proxy) == (200, b"ok")


@pytest.mark.safety(70)
@pytest.mark.parametrize("first", [True, False])
def test_plain_bytes_in_place_of_a_handshake_are_a_bad_gateway(ca: str, tmp_path: Path, *, first: bool) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nzebra"
    with PlainOrigin(said, first=first) as origin:
        status, cause, reason = failure(origin, {"ca": ca}, tmp_path / "access.log")
        assert (status, cause) == (502, "upstream_tls_failed")
        assert reason
        assert all(b"HTTP" not in heard for heard in origin.heard), "nothing was sent in clear"


def test_a_handshake_is_part_of_connecting(ca: str, tmp_path: Path) -> None:
    with PlainOrigin(b"", silent=True) as origin:
        found = failure(origin, {"ca": ca}, tmp_path / "access.log", timeouts={"connect": "200ms"})
        assert found[:2] == (504, "upstream_tls_timeout")


def test_an_endpoint_without_a_common_version_is_a_bad_gateway(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    with SecuredOrigin(leaf, **V12) as origin:
        status, cause, reason = failure(origin, {"ca": ca, "min_version": "1.3"}, tmp_path / "access.log")
        assert (status, cause) == (502, "upstream_tls_failed")
        assert "rotocol" in reason


def test_a_failed_handshake_is_tried_elsewhere(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    with SecuredOrigin(unknown(tmp_path)) as bad, PlainOrigin(b"zebra") as plain, SecuredOrigin(leaf) as good:
        with in_front_of(bad, plain, good, tls={"ca": ca}, balance="first") as proxy:
            # Nothing of it was sent, so any method may be.
            assert get(proxy, method="POST") == (200, b"ok")
        assert bad.requests == []


@pytest.mark.parametrize("versions", [V12, V13])
def test_an_endpoint_that_asks_is_shown_a_certificate(
    ca: str, leaf: dict[str, Any], tmp_path: Path, versions: dict[str, Any]
) -> None:
    own = write(tmp_path, "own", "proxy.internal")
    log = tmp_path / "access.log"
    with SecuredOrigin(leaf, **ASK, **versions) as origin:
        with in_front_of(origin, tls={"ca": ca, **own}) as proxy:
            assert get(proxy) == (200, b"ok")
        assert origin.clients == ["proxy.internal"]
        status, cause, reason = failure(origin, {"ca": ca}, log, retry=False)
        assert (status, cause) == (502, "upstream_tls_failed")
        assert "ertificate" in reason or "HandshakeFailure" in reason


@pytest.mark.safety(72)
def test_upstreams_that_differ_in_tls_share_no_connection(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    own = {name: write(tmp_path, name, f"{name}.internal") for name in ("a", "b")}
    with SecuredOrigin(leaf, verify_mode=ssl.CERT_OPTIONAL) as origin:
        config = configuration(origin, tls={"ca": ca})
        config["upstreams"] |= {
            name: {"endpoints": [origin.address], "tls": {"ca": ca, **own[name]}} for name in ("a", "b")
        }
        config["upstreams"]["named"] = {"endpoints": [origin.address], "tls": {"ca": ca, "name": "app.internal"}}
        config["routes"] = [
            {"match": f'path == "/{name}"', "upstream": name} for name in config["upstreams"] if name != "app"
        ] + [{"upstream": "app"}]
        with penstock.Proxy(config) as proxy:
            for path in ("/", "/a", "/b", "/named", "/a", "/b", "/", "/named"):
                assert get(proxy, path) == (200, b"ok")
        assert origin.clients == [None, "a.internal", "b.internal", None]
        assert origin.names == [None, None, None, "app.internal"]


def test_an_endpoint_on_a_unix_socket(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    with (
        SecuredOrigin(leaf, path=str(tmp_path / "app.sock")) as origin,
        in_front_of(origin, tls={"ca": ca, "name": "app.internal"}) as proxy,
    ):
        assert get(proxy) == (200, b"ok")
        assert origin.names == ["app.internal"]


def test_probes_speak_tls_and_verify(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    check = {"interval": "50ms", "fall": 1, "rise": 1, "start": "down"}
    with SecuredOrigin(leaf) as good, SecuredOrigin(unknown(tmp_path)) as bad, PlainOrigin(b"zebra") as plain:
        with in_front_of(good, bad, plain, tls={"ca": ca}, health_check={**check, "path": "/health"}) as proxy:

            def outcomes() -> list[str]:
                return [one.probe.outcome if one.probe else "" for one in proxy.stats().upstreams[0].endpoints]

            wait_for(lambda: outcomes() == OUTCOMES, "each is judged")
        assert good.requests[0].startswith(b"GET /health ")
        assert bad.requests == []


OUTCOMES = ["probe answered 200", "certificate not valid", "TLS handshake failed"]


def test_grpc_probes_speak_tls(ca: str, leaf: dict[str, Any]) -> None:
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: PLC0415 - only where it is installed

    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    shown = [(Path(leaf["key"]).read_bytes(), Path(leaf["cert"]).read_bytes())]
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(shown))
    server.start()
    try:
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        check = {"interval": "50ms", "grpc": "", "start": "down", "rise": 1}
        with in_front_of(f"127.0.0.1:{port}", tls={"ca": ca}, health_check=check) as proxy:
            endpoint = lambda: proxy.stats().upstreams[0].endpoints[0]  # noqa: E731 - looked at until it is so
            wait_for(lambda: endpoint().state == "up", "it serves")
            assert (endpoint().reason or "") == "serving"
    finally:
        server.stop(None).wait(5)


def test_long_bodies_go_both_ways(ca: str, leaf: dict[str, Any]) -> None:
    body = bytes(range(256)) * 20_000

    def echo(sock: ssl.SSLSocket) -> None:
        while SecuredOrigin.read_head(sock):
            got = b""
            while len(got) < len(body):
                got += sock.recv(65_536)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(got) + got)

    with SecuredOrigin(leaf, talk=echo) as origin, in_front_of(origin, tls={"ca": ca}) as proxy:
        connection = http.client.HTTPConnection(*proxy.address(), timeout=DEADLINE)
        for _ in range(3):
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body
        connection.close()
        assert len(origin.sessions) == 1


def test_an_answer_that_ends_without_a_word_was_cut(ca: str, leaf: dict[str, Any]) -> None:
    def cut(sock: ssl.SSLSocket) -> None:
        SecuredOrigin.read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"half" * 100_000)
        socket.socket(fileno=sock.detach()).close()  # without close_notify

    with SecuredOrigin(leaf, talk=cut) as origin, in_front_of(origin, tls={"ca": ca}) as proxy:
        connection = http.client.HTTPConnection(*proxy.address(), timeout=DEADLINE)
        connection.request("GET", "/")
        response = connection.getresponse()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
        connection.close()


def test_websockets_go_through(ca: str, leaf: dict[str, Any]) -> None:
    from websockets.server import ServerProtocol  # noqa: PLC0415 - the origin of this test alone

    def serve(sock: ssl.SSLSocket) -> None:
        protocol = ServerProtocol()
        while more := sock.recv(65_536):
            protocol.receive_data(more)
            for event in protocol.events_received():
                if hasattr(event, "path"):
                    protocol.send_response(protocol.accept(event))
                elif event.opcode.name == "TEXT":
                    protocol.send_text(event.data[::-1])
            sock.sendall(b"".join(protocol.data_to_send()))

    with SecuredOrigin(leaf, talk=serve) as origin, in_front_of(origin, tls={"ca": ca}) as proxy:
        host, port = proxy.address()
        with websocket(f"ws://{host}:{port}/chat", open_timeout=DEADLINE) as client:
            client.send("stressed")
            assert client.recv(DEADLINE) == "desserts"
        assert len(origin.sessions) == 1
