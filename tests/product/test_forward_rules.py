"""Rules of a forward proxy: the first that matches decides, and says so."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from tests.product.forwarding import answered, ask, config, status, whole
from tests.product.waiting import wait_for
from tests.safety.faults.name_server import NameServer
from tests.wire.peers import Origin, connect

import penstock

if TYPE_CHECKING:
    from pathlib import Path


def ruled(*rules: dict[str, Any], **listener: Any) -> dict[str, Any]:
    """A forward proxy with these rules, which keeps no connections unless it is said otherwise."""
    listener = {"connect_ports": ["1-65535"], "origins": {"limits": {"idle_connections": 0}}, **listener}
    return config(rules=list(rules), **listener)


def get(proxy: penstock.Proxy, origin: Origin, line: str, **more: str) -> int:
    """The status of a request that may come to `origin`."""
    client = connect(proxy.address("out"))
    fields = "".join(f"{name}: {value}\r\n" for name, value in more.items())
    client.send(f"{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n".encode())
    before = len(origin.connections)
    try:
        answered(origin, number=before + 1)
    finally:
        client.read_until(whole)
        client.close()
    return status(bytes(client.received))


def test_the_first_rule_that_matches_decides_and_after_the_last_it_goes_out(scripted: Origin) -> None:
    rules = (
        {"match": 'path == "/open"', "allow": True},
        {"name": "no-paths", "match": 'path.startswith("/o")', "deny": 451},
        {"name": "no-tunnels", "match": 'method == "CONNECT"', "deny": 405},
    )
    with penstock.Proxy(ruled(*rules)) as proxy:
        assert get(proxy, scripted, f"GET http://{scripted.address}/open") == 200
        assert get(proxy, scripted, f"GET http://{scripted.address}/else") == 200
        refused = ask(proxy, f"GET http://{scripted.address}/other")
        assert (status(refused), b"rule: no-paths\n" in refused) == (451, True)
        refused = ask(proxy, f"CONNECT {scripted.address}", "Accept: application/json")
        assert status(refused) == 405
        assert json.loads(refused.partition(b"\r\n\r\n")[2])["rule"] == "no-tunnels"
        assert proxy.stats().listeners[0].rules == {"rule-1": 1, "no-paths": 1, "no-tunnels": 1}
        assert proxy.stats().rejected["rule_denied"] == 2


def test_a_rule_can_close_without_a_word(scripted: Origin) -> None:
    with penstock.Proxy(ruled({"match": 'dest.host == "127.0.0.1"', "deny": "close"})) as proxy:
        for line in (f"GET http://{scripted.address}/", f"CONNECT {scripted.address}"):
            client = connect(proxy.address("out"))
            client.send(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            client.read_until(lambda _: False)
            assert client.received == b""
    assert scripted.accept_all() == []


@pytest.mark.parametrize(
    ("match", "refused"),
    [
        ('dest.host == "127.0.0.1"', True),
        ('host in ["127.0.0.1", "x.example"]', True),
        ('dest.host.endswith(".example")', False),
        ("dest.port == {port}", True),
        ("dest.port != {port}", False),
        ('dest.ip in ["127.0.0.0/8"]', True),
        ('dest.ip == "127.0.0.1"', True),
        ('dest.ip in ["10.0.0.0/8"]', False),
        ('client.ip in ["127.0.0.0/8"] and header["X-A"] == "1"', True),
        ('header["X-A"] == "2"', False),
        ('user == "dev"', False),
        ('user != "dev"', False),
        ("time.hour in [{hour}, {next}] and time.weekday in [{day}, {tomorrow}]", True),
        ("not (0 <= time.hour < 24 and time.weekday < 7)", False),
    ],
)
def test_what_rules_can_ask(scripted: Origin, match: str, refused: bool) -> None:
    now = datetime.now().astimezone()
    text = match.format(
        port=scripted.address.rpartition(":")[2],
        hour=now.hour,
        next=(now.hour + 1) % 24,
        day=now.weekday(),
        tomorrow=(now.weekday() + 1) % 7,
    )
    with penstock.Proxy(ruled({"match": text, "deny": 403})) as proxy:
        if refused:
            assert status(ask(proxy, f"GET http://{scripted.address}/", "X-A: 1")) == 403
        else:
            assert get(proxy, scripted, f"GET http://{scripted.address}/", **{"X-A": "1"}) == 200


def test_a_rule_about_addresses_holds_for_the_one_that_is_connected_to(tmp_path: Path, scripted: Origin) -> None:
    log = tmp_path / "access.log"
    with NameServer("127.0.0.9", "127.0.0.1") as names:
        settings = ruled({"name": "inside", "match": 'dest.ip in ["127.0.0.9"]', "deny": 403}, origins={})
        settings |= {"dns": {"servers": [names.address]}, "log": {"access": {"to": str(log)}}}
        with penstock.Proxy(settings) as proxy:
            port = scripted.address.rpartition(":")[2]
            client = connect(proxy.address("out"))
            for number in range(2):
                client.received.clear()
                client.send(f"GET http://two.example:{port}/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                answered(scripted)
                client.read_until(whole)
            assert len(scripted.accept_all()) == 1
            # The kept connection is no way around the rule.
            names.addresses = ("127.0.0.9",)
            assert status(ask(proxy, f"GET http://two.example:{port}/")) == 403
            wait_for(lambda: log.exists() and len(log.read_text().splitlines()) == 3, "all three are in the log")
    last = json.loads(log.read_text().splitlines()[-1])
    assert (last["rule"], last["cause"], last["reason"]) == ("inside", "rule_denied", "127.0.0.9")


@pytest.mark.parametrize("match", ['dest.host in list("names")', 'dest.ip in list("inside")'])
def test_rules_look_into_lists(tmp_path: Path, scripted: Origin, match: str) -> None:
    (tmp_path / "names").write_text("127.0.0.1\nsocial.example\n")
    (tmp_path / "inside").write_text("10.0.0.0/8\n127.0.0.0/8\n")
    settings = ruled({"name": "listed", "match": match, "deny": 403})
    settings["lists"] = {
        "names": {"file": str(tmp_path / "names"), "kind": "regex"},
        "inside": {"file": str(tmp_path / "inside"), "kind": "networks"},
    }
    with penstock.Proxy(settings) as proxy:
        assert status(ask(proxy, f"GET http://{scripted.address}/")) == 403
        found = proxy.explain("GET", "http://127.0.0.1/", listener="out")
        assert [(hit.list, hit.line) for hit in found.lists] == [(match.split('"')[1], 1 if "names" in match else 2)]
        # Another list of the same name is another list.
        settings["lists"] |= {"names": {"file": str(tmp_path / "inside"), "kind": "regex"}}
        settings["lists"] |= {"inside": {"file": str(tmp_path / "other"), "kind": "networks"}}
        (tmp_path / "other").write_text("10.0.0.0/8\n")
        proxy.apply(settings)
        assert get(proxy, scripted, f"GET http://{scripted.address}/") == 200


@pytest.mark.parametrize(
    ("match", "told"),
    [
        ('dest.host in list("naems")', "did you mean"),
        ('dest.ip in list("names")', "an address is looked for"),
    ],
)
def test_a_list_that_is_not_there_or_of_another_kind_is_a_fault(tmp_path: Path, match: str, told: str) -> None:
    (tmp_path / "names").write_text("social.example\n")
    settings = ruled({"match": match, "deny": 403})
    settings["lists"] = {"names": {"file": str(tmp_path / "names")}}
    with pytest.raises(penstock.ConfigError, match=told) as refused, penstock.Proxy(settings):
        pass
    assert refused.value.faults[0].key == "listeners.out.rules[0].match"


def test_rules_change_with_a_reload_and_counts_stay(scripted: Origin) -> None:
    with penstock.Proxy(ruled({"name": "one", "deny": 403})) as proxy:
        assert status(ask(proxy, f"GET http://{scripted.address}/")) == 403
        proxy.apply(ruled({"name": "one", "match": 'path == "/x"', "deny": 404}))
        assert get(proxy, scripted, f"GET http://{scripted.address}/") == 200
        assert status(ask(proxy, f"GET http://{scripted.address}/x")) == 404
        assert proxy.stats().listeners[0].rules == {"one": 2}


def test_it_is_explained() -> None:
    rules = (
        {"name": "ours", "match": 'dest.host == "a.example"', "allow": True},
        {"name": "no-uploads", "match": 'method == "PUT"', "deny": 451},
        {"name": "night", "match": "time.hour > 24", "deny": 403},
    )
    with penstock.Proxy(ruled(*rules)) as proxy:
        found = proxy.explain("GET", "http://a.example/x", listener="out")
        assert (found.action, found.rule and found.rule.name, found.passed_over) == ("forward", "ours", ())
        found = proxy.explain("PUT", "http://b.example/x", listener="out")
        assert (found.action, found.status, found.rule and found.rule.name) == ("deny", 451, "no-uploads")
        assert [(one.name, one.match, one.found) for one in found.passed_over] == [
            ("ours", 'dest.host == "a.example"', "b.example")
        ]
        found = proxy.explain("CONNECT", "https://b.example", listener="out")
        assert (found.action, found.rule, len(found.passed_over)) == ("forward", None, 3)
        found = proxy.explain("GET", "http://b.example:25/", listener="out")
        assert (found.refused, found.status) == ("port_forbidden", 403)
        found = proxy.explain("GET", "http://b.example/", listener="out", client="192.0.2.1")
        assert (found.refused, found.status) == ("client_forbidden", 403)


def test_a_refusal_tells_list_and_line(tmp_path: Path, scripted: Origin) -> None:
    (tmp_path / "social.txt").write_text("# who\nelse.example\nsocial.example\n")
    (tmp_path / "inside.txt").write_text("10.0.0.0/8\n127.0.0.1\n")
    rules = (
        {"name": "ours", "match": 'path == "/ours"', "allow": True},
        {"name": "work", "match": 'path == "/work" or dest.host in list("social")', "deny": 403},
        {"name": "inside", "match": 'method == "CONNECT" and dest.ip in list("inside")', "deny": "close"},
    )
    log = tmp_path / "access.log"
    settings = ruled(*rules) | {"log": {"access": {"to": str(log)}}}
    settings["lists"] = {
        "social": {"file": str(tmp_path / "social.txt")},
        "inside": {"file": str(tmp_path / "inside.txt"), "kind": "networks"},
    }
    with NameServer("127.0.0.1") as names, penstock.Proxy(settings | {"dns": {"servers": [names.address]}}) as proxy:
        assert get(proxy, scripted, f"GET http://{scripted.address}/ours") == 200
        assert status(ask(proxy, "GET http://www.social.example/")) == 403
        assert status(ask(proxy, f"GET http://{scripted.address}/work")) == 403
        client = connect(proxy.address("out"))
        client.send(f"CONNECT {scripted.address} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(lambda _: False)
    rows = {row["rule"] + row["target"][-5:]: row for row in map(json.loads, log.read_text().splitlines())}
    told = [(row.get("list"), row.get("list_line")) for row in rows.values()]
    assert told == [
        (None, None),
        ("social", f"{tmp_path}/social.txt:3"),
        (None, None),
        ("inside", f"{tmp_path}/inside.txt:2"),
    ]
