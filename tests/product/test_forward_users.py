"""Users of a forward proxy: who says to be one proves it, and nobody behind it hears how."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.load.origin import EchoOrigins
from tests.product.forwarding import answered, ask, config, fields, say, status, whole
from tests.product.test_forward_socks import GRANTED, goes_both_ways, place, said
from tests.product.test_forward_socks import named as asked
from tests.product.users import CHEAP, basic, named, users
from tests.product.waiting import wait_for
from tests.wire.peers import Origin, connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHALLENGE = 'Basic realm="penstock", charset="UTF-8"'


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[penstock.Proxy]:
    """One whose clients may reach this machine."""
    with penstock.Proxy(named(tmp_path)) as running:
        yield running


def test_who_says_nothing_is_asked_and_may_answer_on_the_same_connection(
    proxy: penstock.Proxy, scripted: Origin
) -> None:
    client = connect(proxy.address("out"))
    line = f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\n"
    refused = say(client, f"{line}\r\n")
    assert (status(refused), fields(refused)["proxy-authenticate"]) == (407, CHALLENGE)
    assert b"connection: close" not in refused.lower()
    client.received.clear()
    client.send(f"{line}{basic()}\r\n\r\n".encode())
    assert fields(answered(scripted)).keys() == {"host", "via"}
    client.read_until(whole)
    assert status(bytes(client.received)) == 200
    assert proxy.stats().rejected["user_missing"] == 1


def test_a_tunnel_is_asked_for_with_a_password_too(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    line = f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n"
    assert fields(say(client, f"{line}\r\n"))["proxy-authenticate"] == CHALLENGE
    assert status(say(client, f"{line}{basic(password='wrong')}\r\n\r\n")) == 407
    client.received.clear()
    client.send(f"{line}{basic()}\r\n\r\n".encode())
    client.read_until(lambda got: got.endswith(b"\r\n\r\n"))
    assert status(bytes(client.received)) == 200
    client.received.clear()
    goes_both_ways(client, scripted.connection(1))


@pytest.mark.parametrize(
    ("said_", "word"),
    [
        (basic(password="Password"), "user_refused"),
        (basic(user="eve"), "user_refused"),
        (basic(user="ada\n"), "user_refused"),
        ("Proxy-Authorization: Basic !!", "user_refused"),
        ("Proxy-Authorization: Basic", "user_refused"),
        (f"{basic()}\r\n{basic()}", "user_refused"),
        ("Proxy-Authorization: Bearer x", "user_missing"),
        ("Authorization: Basic YWRhOnBhc3N3b3Jk", "user_missing"),
    ],
)
def test_what_proves_nothing_is_refused(proxy: penstock.Proxy, scripted: Origin, said_: str, word: str) -> None:
    answer = ask(proxy, f"GET http://{scripted.address}/", said_)
    assert (status(answer), fields(answer)["proxy-authenticate"]) == (407, CHALLENGE)
    assert proxy.stats().rejected[word] == 1
    assert scripted.accept_all() == []


def test_rules_ask_for_the_user_and_the_log_has_it(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    rules = [{"name": "not-bob", "match": 'user == "bob"', "deny": 403}]
    settings = named(tmp_path, rules=rules) | {"log": {"access": {"to": str(log)}}}
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        client.send(f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\n{basic()}\r\n\r\n".encode())
        answered(scripted)
        client.read_until(whole)
        assert status(ask(proxy, f"GET http://{scripted.address}/", basic("bob"))) == 403
        assert status(ask(proxy, f"GET http://{scripted.address}/", basic("mallory"))) == 407
        wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 3, "all three are in the log")
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        assert [(row.get("user"), row["status"], row["cause"]) for row in rows] == [
            ("ada", 200, ""),
            ("bob", 403, "rule_denied"),
            (None, 407, "user_refused"),
        ]
        settings["log"]["access"] = {"to": str(tmp_path / "combined.log"), "format": "combined"}
        proxy.apply(settings)
        assert status(ask(proxy, f"GET http://{scripted.address}/", basic("bob"))) == 403
        combined = tmp_path / "combined.log"
        wait_for(lambda: combined.exists() and combined.read_text().startswith("127.0.0.1 - bob ["), "it is there, too")
    assert all(word not in log.read_text() for word in ("mallory", "cGFzc3dvcmQ", "password"))


def test_it_is_explained(proxy: penstock.Proxy) -> None:
    assert proxy.explain("GET", "http://a.example/", listener="out").refused == "user_missing"
    assert proxy.explain("GET", "http://a.example/", listener="out", user="ada").action == "forward"


def test_a_capture_has_no_password_even_if_it_has_secrets(tmp_path: Path, scripted: Origin) -> None:
    with penstock.Proxy(named(tmp_path, capture={"secrets": True, "to": str(tmp_path / "all.har")})) as proxy:
        for said_ in (basic(), basic(password="wrong")):
            client = connect(proxy.address("out"))
            client.send(f"GET http://{scripted.address}/ HTTP/1.1\r\nHost: a\r\n{said_}\r\n\r\n".encode())
            if said_ == basic():
                answered(scripted)
            client.read_until(whole)
            client.close()
        har = tmp_path / "all.har"
        wait_for(lambda: har.exists() and har.read_text().count("startedDateTime") == 2, "both are kept")
    assert "Host" in har.read_text()
    assert "uthorization" not in har.read_text()


def test_a_file_that_changes_counts_at_once_and_one_that_is_wrong_does_not(tmp_path: Path) -> None:
    def served(user: str, password: str = "password") -> bool:
        # Nobody goes to that port, and only who is known hears so.
        return status(ask(proxy, "CONNECT 127.0.0.1:22", basic(user, password))) == 403

    with penstock.Proxy(named(tmp_path, users=users(tmp_path, attempts="1000/s"))) as proxy:
        assert (served("ada"), served("bob"), served("eve")) == (True, True, False)
        users(tmp_path, f"ada:{CHEAP}\neve:{CHEAP}\n")
        wait_for(lambda: served("eve"), "she is there")
        assert (served("ada"), served("bob")) == (True, False)
        users(tmp_path, "ada:plain\n")
        found = wait_for(lambda: (found := proxy.stats().listeners[0].users) and found.trouble and found, "it is told")
        assert (found.count, str(found.trouble).split(": ")[0]) == (2, f"{tmp_path}/htpasswd:1")
        assert served("eve")
        # As long as a hash is the same, what was found out about it counts.
        before = found.checks
        users(tmp_path, f"ada:{CHEAP}\n")
        wait_for(lambda: not served("eve"), "she is gone")
        assert served("ada")
        found = proxy.stats().listeners[0].users
        assert found is not None
        assert (found.count, found.trouble, found.checks - before) == (1, None, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("ada:plain\n\n# x\nbob\n", r"htpasswd:1: its hash is of no kind .*htpasswd:4: it is not name:hash"),
        ("ada:$apr1$x$y\n", "made with MD5"),
        (f"ada:{CHEAP}\nada:{CHEAP}\n", "htpasswd:2: its name stands in a line before"),
        ("ada:$2y$31$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm\n", "too costly"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_fault(tmp_path: Path, text: str, told: str) -> None:
    with (
        pytest.raises(penstock.ConfigError, match=told) as refused,
        penstock.Proxy(named(tmp_path, users=users(tmp_path, text))),
    ):
        pass
    assert refused.value.faults[0].key == "listeners.out.users.htpasswd"
    assert "plain" not in str(refused.value)


def test_what_is_doubtful_is_told(tmp_path: Path) -> None:
    for text, told in (
        ("# nobody\n", "has no users"),
        ("a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", "1 password as {SHA}"),
    ):
        with penstock.Proxy(named(tmp_path)) as proxy:
            warnings = proxy.apply(named(tmp_path, users=users(tmp_path, text, realm="other"))).warnings
        assert any("listeners.out.users.htpasswd" in warning and told in warning for warning in warnings), warnings


def test_socks_asks_for_the_same_users(proxy: penstock.Proxy, scripted: Origin) -> None:
    client = connect(proxy.address("out"))
    client.send(b"\x05\x02\x00\x02")
    assert said(client, 2) == b"\x05\x02"
    client.send(b"\x01\x03ada\x08password")
    assert said(client, 2) == b"\x01\x00"
    client.send(asked(b"127.0.0.1", place(scripted)[1]))
    assert said(client, 10) == GRANTED
    goes_both_ways(client, scripted.connection(1))
    # All at once, as those send it who know what is asked for.
    client = connect(proxy.address("out"))
    client.send(b"\x05\x01\x02\x01\x03bob\x08password" + asked(b"127.0.0.1", place(scripted)[1]))
    assert said(client, 14) == b"\x05\x02\x01\x00" + GRANTED


@pytest.mark.parametrize(
    ("said_", "answer", "word"),
    [
        (b"\x05\x01\x00", b"\x05\xff", "user_missing"),
        (b"\x05\x01\x02\x01\x03ada\x05wrong", b"\x05\x02\x01\x01", "user_refused"),
        (b"\x05\x01\x02\x01\x03eve\x08password", b"\x05\x02\x01\x01", "user_refused"),
        (b"\x05\x01\x02\x01\x00\x00", b"\x05\x02\x01\x01", "user_refused"),
        (b"\x05\x01\x02\x05\x03ada", b"\x05\x02", "bad_socks"),
        (b"\x04\x01\x01\xbb\x01\x01\x01\x01ada\0", b"\x00\x5b" + bytes(6), "user_missing"),
    ],
)
def test_socks_without_a_password_leads_nowhere(proxy: penstock.Proxy, said_: bytes, answer: bytes, word: str) -> None:
    client = connect(proxy.address("out"))
    client.send(said_)
    client.read_until(lambda _: False)
    assert bytes(client.received) == answer
    wait_for(lambda: proxy.stats().rejected[word] == 1, "it is counted")


def test_who_is_not_served_is_not_told_what_is_a_password(tmp_path: Path) -> None:
    settings = named(tmp_path, proxy_protocol={"from": ["127.0.0.1"]})
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 3128\r\n\x05\x01\x02\x01\x03ada\x08password")
        client.read_until(lambda _: False)
        assert bytes(client.received) == b"\x05\x02\x01\x01"
        wait_for(lambda: proxy.stats().rejected["client_forbidden"] == 1, "it is counted")


def _curl(proxy: penstock.Proxy, *arguments: str, scheme: str = "http") -> subprocess.CompletedProcess[bytes]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed: make debian")
    host, port = proxy.address("out")
    command = ["curl", "-s", "--max-time", "20", "-x", f"{scheme}://{host}:{port}", *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=30)


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("http", ()), ("http", ("--proxytunnel",)), ("http", ("--proxy-anyauth",)), ("socks5h", ())],
)
def test_curl_with_a_proxy_user(proxy: penstock.Proxy, scheme: str, options: tuple[str, ...]) -> None:
    with EchoOrigins("echo") as origins:
        url = f"http://{origins.address}/a"
        right = _curl(proxy, "--proxy-user", "ada:password", *options, url, scheme=scheme)
        assert (right.returncode, right.stdout) == (0, b"GET /a - - echo\n")
        wrong = _curl(proxy, "--fail", "--proxy-user", "ada:wrong", *options, url, scheme=scheme)
        assert (wrong.returncode != 0, wrong.stdout) == (True, b"")


def test_only_a_forward_proxy_has_users(tmp_path: Path) -> None:
    settings = config(users=users(tmp_path, realm='a "b"'))
    settings["listeners"]["web"] = {"bind": "127.0.0.1:0", "users": users(tmp_path)}
    with pytest.raises(penstock.ConfigError) as refused, penstock.Proxy(settings):
        pass
    assert [fault.key for fault in refused.value.faults] == ["listeners.out.users.realm", "listeners.web.users"]
