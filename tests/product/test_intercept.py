"""Tunnels that a forward proxy opens: whom it stands for, what it judges in them, and what it never passes on."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from intercepting import NAME, OPEN, asking, connected, intercepting, secured, settings, shop, trusting, whole_answer
from secured import unknown
from tests.certificates import context, write
from tests.product.forwarding import fields
from tests.product.users import basic, users
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import Origin, connect

import penstock
from product import run

if TYPE_CHECKING:
    from pathlib import Path

    from secured import SecuredOrigin


def records(folder: Path, count: int) -> list[dict[str, Any]]:
    """That many lines of the access log."""
    log = folder / "access.log"
    wait_for(lambda: log.exists() and len(log.read_text().splitlines()) >= count, f"{count} records")
    return [json.loads(line) for line in log.read_text().splitlines()]


def counts(proxy: penstock.Proxy) -> dict[str, int]:
    """What became of tunnels, less what never happened."""
    return {word: count for word, count in proxy.stats().listeners[0].interception.items() if count}


@pytest.fixture
def origin(tmp_path: Path) -> Any:
    """One that proves to be `NAME`."""
    with shop(tmp_path) as running:
        yield running


def test_a_request_in_an_opened_tunnel_is_one_like_any_other(tmp_path: Path, origin: SecuredOrigin) -> None:
    place = f"{NAME}:{origin.port}"
    with intercepting(tmp_path) as proxy:
        with secured(proxy, origin.port, trusting(tmp_path)) as sock:
            shown = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"")
            for turn in range(2):
                status, got = whole_answer(sock, f"/a//../b?x={turn}", "X-Forwarded-For: 6.6.6.6", host=place)
                assert (status, got.endswith(b"ok")) == (200, True)
        assert counts(proxy) == {"opened": 1}
        # The connection that was looked at first is the one that is used.
        assert (len(origin.requests), len(origin.names)) == (2, 1)
        assert origin.requests[0].startswith(b"GET /a//../b?x=0 HTTP/1.1\r\nhost: " + place.encode() + b"\r\n")
        asked = fields(origin.requests[0])
        assert asked.pop("via").startswith("1.1 penstock-")
        assert asked == {"host": place}
        rows = records(tmp_path, 3)
        assert proxy.stats().listeners[0].rules == {"open": 3}
    assert shown.subject != shown.issuer
    assert shown.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=1)
    assert shown.not_valid_after_utc - shown.not_valid_before_utc <= timedelta(days=9)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [NAME]
    tunnel, first, _ = rows
    assert (tunnel["method"], tunnel["target"], tunnel["interception"]) == ("CONNECT", place, "opened")
    assert (first["target"], first["sni"], first["rule"]) == (f"https://{place}/a//../b?x=0", NAME, "open")
    assert (first["endpoint"], first["upstream"], first["status"]) == (place, "_origins", 200)
    assert first["reused"] is True


def test_what_is_in_it_is_asked_by_who_asked_for_it(tmp_path: Path, origin: SecuredOrigin) -> None:
    rules = ({"name": "ada", "match": 'user == "ada"', "intercept": True}, {"deny": 403})
    with intercepting(tmp_path, *rules, users=users(tmp_path)) as proxy:
        with secured(proxy, origin.port, trusting(tmp_path), asks=basic("ada")) as sock:
            # What is said of users in it is not looked at, and goes nowhere.
            assert whole_answer(sock, "/", basic("bob", "wrong"), host=f"{NAME}:{origin.port}")[0] == 200
        rows = records(tmp_path, 2)
    assert "proxy-authorization" not in fields(origin.requests[0])
    told = [(row["method"], row["user"], row["rule"]) for row in rows]
    assert told == [("CONNECT", "ada", "ada"), ("GET", "ada", "ada")]


def test_rules_judge_what_is_in_it(tmp_path: Path, origin: SecuredOrigin) -> None:
    rules = (
        {"name": "secret", "match": 'scheme == "https" and path.startswith("/secret")', "deny": 451},
        {"name": "port", "match": f'path == "/port" and dest.port == {origin.port}', "deny": 418},
        {"name": "address", "match": 'path == "/address" and dest.ip == "127.0.0.1"', "deny": 403},
        {"name": "silent", "match": 'path == "/silent"', "deny": "close"},
        OPEN,
    )
    with intercepting(tmp_path, *rules) as proxy:
        for path, expected in (("/secret/x", 451), ("/port", 418), ("/address", 403), ("/", 200)):
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                status, got = whole_answer(sock, path, host=f"{NAME}:{origin.port}")
                assert (status, b"rule: " in got) == (expected, expected != 200), path
        with secured(proxy, origin.port, trusting(tmp_path)) as sock, pytest.raises((AssertionError, OSError)):
            whole_answer(sock, "/silent", host=f"{NAME}:{origin.port}")
    assert [request.split(b" ")[1] for request in origin.requests] == [b"/"]


def test_only_its_own_host_is_asked_through_a_tunnel(tmp_path: Path, origin: SecuredOrigin) -> None:
    with intercepting(tmp_path) as proxy:
        for host in (f"other.example:{origin.port}", NAME, f"{NAME}:1"):
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                assert whole_answer(sock, host=host)[0] == 421
        for line, expected in (("GET http://other.example/", 400), (f"CONNECT {NAME}:443", 400)):
            with secured(proxy, origin.port, trusting(tmp_path)) as sock:
                sock.sendall(f"{line} HTTP/1.1\r\nHost: {NAME}:{origin.port}\r\n\r\n".encode())
                assert sock.recv(65_536).startswith(b"HTTP/1.1 %d " % expected)
    assert origin.requests == []


@pytest.mark.parametrize("case", ["unknown", "name", "expired", "silent", "plain"])
def test_an_origin_that_does_not_prove_who_it_is_is_asked_for_nothing(tmp_path: Path, case: str) -> None:
    keys = {
        "unknown": lambda: unknown(tmp_path),
        "name": lambda: write(tmp_path / "keys", "other", "other.example"),
        "expired": lambda: write(tmp_path / "keys", "old", NAME, until=datetime.now(UTC) - timedelta(days=1)),
    }
    told = {"unknown": b"UnknownIssuer", "name": b"not valid for", "expired": b"expired"}
    if case in keys:
        origin: Any = shop(tmp_path, keys[case]())
        port = origin.port
    else:
        origin = Origin()
        port = int(origin.address.rpartition(":")[2])
    limits = {"origins": {"timeouts": {"connect": "500ms"}, "tls": {"ca": str(tmp_path / "roots.pem")}}}
    with intercepting(tmp_path, **limits) as proxy:
        sock = connected(proxy, f"{NAME}:{port}")
        if case == "plain":
            origin.connection(1).send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")
        with trusting(tmp_path).wrap_socket(sock, server_hostname=NAME) as safe:
            status, got = whole_answer(safe, host=f"{NAME}:{port}")
        assert status == (504 if case == "silent" else 502)
        assert told.get(case, b"") in got
        assert b"connection: close" in got.lower()
        assert counts(proxy) == {"opened": 1, "unverified": 1}
        row = records(tmp_path, 2)[1]
    cause = {"silent": "upstream_tls_timeout", "plain": "upstream_tls_failed"}.get(case, "upstream_certificate")
    assert row["cause"] == cause
    if case in keys:
        assert origin.requests == []


def test_what_is_no_tls_goes_on_as_it_is(tmp_path: Path, scripted: Origin) -> None:
    with intercepting(tmp_path, timeouts={"hello": "100ms"}) as proxy:
        with connected(proxy, scripted.address) as sock:
            sock.sendall(b"SSH-2.0-x\r\n")
            scripted.connection(1).read_until(lambda got: got == b"SSH-2.0-x\r\n")
            scripted.connection(1).send(b"hello")
            assert sock.recv(16) == b"hello"
        scripted.connection(1).close()
        # One who waits for the other end to speak is not kept waiting.
        with connected(proxy, scripted.address) as sock:
            scripted.connection(2).send(b"220 ready\r\n")
            assert sock.recv(16) == b"220 ready\r\n"
        scripted.connection(2).close()
        wait_for(lambda: counts(proxy) == {"no_tls": 2}, "both are counted")
        assert {row["interception"] for row in records(tmp_path, 2)} == {"closed"}


def test_a_tunnel_that_a_rule_leaves_closed_is_the_clients_own(tmp_path: Path, origin: SecuredOrigin) -> None:
    rules = ({"match": f'dest.host == "{NAME}"', "tunnel": True}, OPEN)
    with intercepting(tmp_path, *rules) as proxy:
        with secured(proxy, origin.port, context()) as sock:
            assert whole_answer(sock)[0] == 200
        assert counts(proxy) == {}
        assert "interception" not in records(tmp_path, 1)[0]


def test_a_client_of_socks_is_served_alike(tmp_path: Path, origin: SecuredOrigin) -> None:
    with intercepting(tmp_path) as proxy:
        client = connect(proxy.address("out"))
        # It has asked for the name by itself: the tunnel is to an address, the name is in its hello.
        client.send(b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + origin.port.to_bytes(2, "big"))
        client.read_until(lambda got: len(got) == 12)
        with trusting(tmp_path).wrap_socket(client.sock, server_hostname=NAME) as sock:
            assert whole_answer(sock, host=f"{NAME}:{origin.port}")[0] == 200
        rows = records(tmp_path, 2)
    assert origin.names == [NAME]
    assert (rows[1]["host"], rows[1]["endpoint"]) == (NAME, f"127.0.0.1:{origin.port}")


def test_a_client_that_names_nobody_asks_for_the_address(tmp_path: Path, origin: SecuredOrigin) -> None:
    with intercepting(tmp_path) as proxy, secured(proxy, origin.port, trusting(tmp_path), "127.0.0.1") as sock:
        assert whole_answer(sock, host=f"127.0.0.1:{origin.port}")[0] == 200


def test_what_goes_through_it_is_captured(tmp_path: Path, origin: SecuredOrigin) -> None:
    with intercepting(tmp_path, capture={"match": 'path == "/kept"', "memory": "1MB"}) as proxy:
        with secured(proxy, origin.port, trusting(tmp_path)) as sock:
            for path in ("/other", "/kept"):
                whole_answer(sock, path, host=f"{NAME}:{origin.port}")

        def kept() -> int:
            found = proxy.stats().listeners[0].capture
            assert found is not None
            return found.entries

        wait_for(lambda: kept() == 1, "the one that was asked for is kept")


def test_a_reload_keeps_what_is_open_and_the_authority(tmp_path: Path, origin: SecuredOrigin) -> None:
    host = f"{NAME}:{origin.port}"
    with (
        NameServer("127.0.0.1") as names,
        penstock.Proxy(asking(names, settings(tmp_path))) as proxy,
        secured(proxy, origin.port, trusting(tmp_path)) as sock,
    ):
        assert whole_answer(sock, host=host)[0] == 200
        proxy.apply(asking(names, settings(tmp_path, {"name": "no", "match": 'path == "/x"', "deny": 451}, OPEN)))
        assert whole_answer(sock, "/x", host=host)[0] == 451
        assert whole_answer(sock, "/y", host=host)[0] == 200
        # Nothing is opened any more: what was is not a way around that.
        proxy.apply(asking(names, settings(tmp_path, {"allow": True})))
        assert whole_answer(sock, "/z", host=host)[0] == 421


def test_an_authority_is_made_shown_and_never_lost_unsaid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    refused = run("ca")
    assert (refused.returncode, "there is no authority" in refused.stderr) == (1, True)
    made = settings(tmp_path)
    del made["listeners"]["out"]["interception"]
    with penstock.Proxy(made):
        pass
    path = tmp_path / "state" / "interception"
    assert [(path / name).stat().st_mode & 0o777 for name in ("ca.key", "ca.pem")] == [0o600, 0o600]
    said = run("ca")
    pem = (path / "ca.pem").read_text()
    assert (said.returncode, str(path / "ca.pem") in said.stdout, "PRIVATE" in said.stdout) == (0, True, False)
    assert run("ca", "--pem").stdout == pem
    file = tmp_path / "penstock.json"
    made["listeners"]["out"]["interception"] = {"authority": "other"}
    file.write_text(json.dumps(made))
    with penstock.Proxy(str(file)):
        pass
    assert run("ca", "-c", str(file), "--pem").stdout == (tmp_path / "other" / "ca.pem").read_text() != pem
    (tmp_path / "other" / "ca.key").unlink()
    with pytest.raises(penstock.ConfigError, match=r"holds ca\.pem without ca\.key"), penstock.Proxy(str(file)):
        pass


def test_it_is_explained(tmp_path: Path) -> None:
    rules = (
        {"name": "no-uploads", "match": 'method == "PUT"', "deny": 403},
        {"name": "bank", "match": 'dest.host == "bank.example"', "tunnel": True},
        {"name": "secret", "match": 'path == "/secret" and sni == "a.example"', "deny": 451},
        OPEN,
    )
    with penstock.Proxy(settings(tmp_path, *rules)) as proxy:
        for method, url, action, rule in (
            ("CONNECT", "https://a.example", "intercept", "open"),
            ("GET", "https://a.example/x", "forward", "open"),
            ("GET", "https://a.example/secret", "deny", "secret"),
            ("GET", "https://bank.example/secret", "forward", "bank"),
            ("GET", "http://a.example/secret", "forward", "open"),
            # Of a tunnel that stays closed only the URL can be meant.
            ("PUT", "https://bank.example/x", "deny", "no-uploads"),
            ("CONNECT", "https://bank.example", "forward", "bank"),
        ):
            found = proxy.explain(method, url, listener="out")
            assert (found.action, found.rule and found.rule.name) == (action, rule), (method, url, found)


def test_tls_is_spoken_as_ever(tmp_path: Path, origin: SecuredOrigin) -> None:
    trust = trusting_old = None
    with intercepting(tmp_path) as proxy:
        trust = trusting(tmp_path, "http/1.1")
        trusting_old = trusting(tmp_path)
        trusting_old.maximum_version = ssl.TLSVersion.TLSv1_2
        for one, version in ((trust, "TLSv1.3"), (trusting_old, "TLSv1.2")):
            with secured(proxy, origin.port, one) as sock:
                assert sock.version() == version
                assert whole_answer(sock, host=f"{NAME}:{origin.port}")[0] == 200
