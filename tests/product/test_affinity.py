"""Clients stay with their endpoint: over requests, workers, reloads and drains, until it is gone."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import pytest
from test_health import CHECK, Endpoint, endpoints, states
from waiting import wait_for

import penstock
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def three() -> Iterator[list[Endpoint]]:
    """Three endpoints that say their names."""
    with endpoints("a", "b", "c") as started:
        yield started


def over(members: list[Endpoint], workers: int = 2, **upstream: Any) -> dict[str, Any]:
    """One upstream with these members."""
    addresses = [f"127.0.0.1:{one.port}" for one in members]
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": workers},
        "upstreams": {"app": {"endpoints": addresses, "balance": "random", **upstream}},
        "routes": [{"upstream": "app"}],
    }


class Client:
    """A browser: it keeps the cookie, and opens a connection for each request, so that every worker is asked."""

    def __init__(self, proxy: penstock.Proxy, cookie: str | None = None) -> None:
        self.proxy, self.cookie = proxy, cookie

    def ask(self, **headers: str) -> tuple[str, bool]:
        """Who answered, and whether a cookie was set."""
        connection = http.client.HTTPConnection(*self.proxy.address("web"), timeout=5)
        connection.request("GET", "/", headers={**({"Cookie": self.cookie} if self.cookie else {}), **headers})
        answer = connection.getresponse()
        name, given = answer.read().decode(), answer.getheader("set-cookie")
        assert answer.status == 200, name
        connection.close()
        if given:
            assert given.endswith("; Path=/; HttpOnly; SameSite=Lax")
            self.cookie = given.partition(";")[0]
        return name, given is not None

    def stays(self, name: str, count: int = 12, **headers: str) -> bool:
        """Whether this endpoint answers every request, without a new cookie."""
        return {self.ask(**headers) for _ in range(count)} == {(name, False)}


def address(members: list[Endpoint], name: str) -> str:
    """Of the endpoint of this name."""
    return next(f"127.0.0.1:{one.port}" for one in members if one.name == name)


COOKIE = {"affinity": {"cookie": "lb"}}


def test_a_client_stays_over_workers_and_reloads(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, **COOKIE)) as proxy:
        clients = [Client(proxy) for _ in range(12)]
        homes = [client.ask() for client in clients]
        assert all(given for _, given in homes)
        assert {name for name, _ in homes} == {"a", "b", "c"}
        assert all(client.stays(name, 4) for client, (name, _) in zip(clients, homes, strict=True))
        proxy.apply(over(three[::-1], host="upstream", **COOKIE))
        assert all(client.stays(name, 4) for client, (name, _) in zip(clients, homes, strict=True))


def test_a_draining_endpoint_keeps_its_clients_and_gets_no_others(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, **COOKIE)) as proxy:
        client = Client(proxy)
        name, _ = client.ask()
        proxy.endpoint("app", address(three, name), "drain")
        assert client.stays(name)
        assert name not in {Client(proxy).ask()[0] for _ in range(30)}
        proxy.endpoint("app", address(three, name), "disable")
        other, given = client.ask()
        assert other != name
        assert given
        proxy.endpoint("app", address(three, name), "ready")
        assert client.stays(other)


def test_a_client_of_a_dead_endpoint_moves_once(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, health_check=CHECK, **COOKIE)) as proxy:
        client = Client(proxy)
        name, _ = client.ask()
        at = "abc".index(name)
        three[at].health = 503
        wait_for(lambda: states(proxy)[at] == "down", "its endpoint is down")
        other, given = client.ask()
        assert (other != name, given) == (True, True)
        three[at].health = 200
        wait_for(lambda: states(proxy)[at] == "up", "its endpoint is up again")
        assert client.stays(other)


def test_a_client_of_an_endpoint_that_refuses_moves_within_the_request(three: list[Endpoint]) -> None:
    with penstock.Proxy(over(three, **COOKIE)) as proxy:
        client = Client(proxy)
        name, _ = client.ask()
        three.pop("abc".index(name)).die()
        other, given = client.ask()
        assert (other != name, given) == (True, True)
        assert client.stays(other)


def test_machines_with_one_secret_take_each_others_cookies(
    three: list[Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lb.key").write_text("0123456789abcdef\n")
    monkeypatch.setenv("PENSTOCK_TEST_LB_KEY", "0123456789abcdef")
    plans = [
        over(three, affinity={"cookie": "lb", "secret": secret})
        for secret in ({"file": str(tmp_path / "lb.key")}, {"env": "PENSTOCK_TEST_LB_KEY"})
    ]
    with penstock.Proxy(plans[0]) as one, penstock.Proxy(plans[1]) as two, penstock.Proxy(over(three, **COOKIE)) as own:
        client = Client(one)
        name, _ = client.ask()
        assert Client(two, client.cookie).stays(name)
        assert Client(own, client.cookie).ask()[1], "a cookie of another secret is no cookie"


@pytest.mark.parametrize(
    ("secret", "error"),
    [
        ({"env": "PENSTOCK_TEST_NOT_SET"}, "PENSTOCK_TEST_NOT_SET is not set"),
        ({"file": "/no/such/file"}, "/no/such/file cannot be read"),
        ({"env": "PENSTOCK_TEST_SHORT"}, "less than 16 bytes"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told_and_never_shown(
    secret: dict[str, str], error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_SHORT", "hunter2")
    config = over([], affinity={"cookie": "lb", "secret": secret})
    config["upstreams"]["app"]["endpoints"] = ["127.0.0.1:9"]
    with pytest.raises(ConfigError, match=error) as refused, penstock.Proxy(config):
        pass
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("affinity", [{"header": "X-Session"}, {"key": 'header["X-Session"]'}])
def test_requests_of_one_key_stay_together(three: list[Endpoint], affinity: dict[str, str]) -> None:
    with penstock.Proxy(over(three, affinity=affinity)) as proxy:
        client = Client(proxy)
        homes = {session: client.ask(**{"X-Session": session})[0] for session in map(str, range(20))}
        assert set(homes.values()) == {"a", "b", "c"}
        assert all(client.stays(name, 3, **{"X-Session": session}) for session, name in homes.items())
        assert {client.ask()[0] for _ in range(40)} == {"a", "b", "c"}, "who has no key is balanced"
        session, name = next(iter(homes.items()))
        proxy.endpoint("app", address(three, name), "drain")
        assert client.stays(name, 6, **{"X-Session": session})
        proxy.endpoint("app", address(three, name), "disable")
        assert client.ask(**{"X-Session": session})[0] != name
