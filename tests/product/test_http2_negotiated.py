"""Which version endpoints are spoken to in: what is agreed on in TLS, what follows if it is not, what probes speak."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from secured import SecuredOrigin, configuration, get
from tests.http2 import Client, Endpoint, in_front_of
from tests.product.waiting import wait_for
from tests.wire.peers import Origin

import penstock

if TYPE_CHECKING:
    from pathlib import Path

FAST: dict[str, Any] = {"interval": "50ms", "timeout": "2s", "fall": 1, "rise": 1}


def speaking(leaf: dict[str, Any], *protocols: str) -> Origin:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"], leaf["key"])
    context.set_alpn_protocols(list(protocols))
    return Origin(shows=context)


@pytest.mark.parametrize("protocol", ["h2", "auto"])
def test_http_2_is_agreed_on(ca: str, leaf: dict[str, Any], protocol: str) -> None:
    origin = speaking(leaf, "h2", "http/1.1")
    tls = {"ca": ca, "name": "app.internal"}
    with in_front_of(origin, protocol=protocol, tls=tls) as proxy, Client(proxy.address()) as client:
        client.send(client.headers(1))
        endpoint = Endpoint(origin)
        assert endpoint.head()[":scheme"] == "https"
        endpoint.answer(1, b"ok")
        assert client.outcome(1).body == b"ok"
    origin.close()


def test_an_endpoint_may_want_http_1(ca: str, leaf: dict[str, Any]) -> None:
    with SecuredOrigin(leaf) as origin:
        origin.context.set_alpn_protocols(["http/1.1"])
        tls = {"ca": ca, "name": "app.internal"}
        check = {"path": "/up", **FAST}
        config = configuration(origin, tls=tls, protocol="auto", health_check=check)
        with penstock.Proxy(config) as proxy:
            assert [get(proxy) for _ in range(3)] == [(200, b"ok")] * 3
            endpoint = proxy.stats().upstreams[0].endpoints[0]
            assert (endpoint.connects, endpoint.reused) == (1, 3)
            wait_for(lambda: proxy.stats().upstreams[0].endpoints[0].probe, "it was probed")
            assert proxy.stats().upstreams[0].endpoints[0].state == "up"


def test_one_that_has_no_http_2_is_not_spoken_to(ca: str, leaf: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with SecuredOrigin(leaf) as origin:
        origin.context.set_alpn_protocols([])
        tls = {"ca": ca, "name": "app.internal"}
        with penstock.Proxy(configuration(origin, tls=tls, log=log, protocol="h2")) as proxy:
            assert get(proxy)[0] == 502
            line = wait_for(lambda: log.exists() and log.read_text("utf-8").strip(), "the record is written")
        assert origin.requests == []
    record = json.loads(str(line))
    assert (record["cause"], record["reason"]) == ("upstream_tls_failed", "the endpoint does not speak HTTP/2")


def test_probes_speak_what_requests_do(scripted: Origin) -> None:
    check = {"path": "/up?x", "headers": {"X-Probe": "1"}, "host": "probe.example", **FAST}
    with in_front_of(scripted, health_check={**check, "body": {"text": "fine"}}) as proxy:
        for number, (status, said, state) in enumerate(
            [(200, b"so fine", "up"), (503, b"fine", "down"), (200, b"", "down")]
        ):
            probe = Endpoint(scripted, number + 1)
            head = probe.head()
            assert {
                name: head[name] for name in (":method", ":scheme", ":authority", ":path", "x-probe", "user-agent")
            } == {
                ":method": "GET",
                ":scheme": "http",
                ":authority": "probe.example",
                ":path": "/up?x",
                "x-probe": "1",
                "user-agent": "penstock-probe",
            }
            probe.answer(1, said, status=status)
            wait_for(lambda state=state: proxy.stats().upstreams[0].endpoints[0].state == state, f"it is {state}")
