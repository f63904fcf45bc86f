"""Maintenance of routes, by the configuration and by command: 503 for all but the excepted."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from product import Origin, Running


def two(origin: Origin, *, shop: dict[str, Any] | None = None, **shop_route: Any) -> dict[str, Any]:
    """A route with exceptions and one without, over two workers."""
    maintenance = {"except": 'header["X-Office"] == "1"', "retry_after": "10m", **(shop or {})}
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "engine": {"workers": 2},
        "upstreams": {"app": {"endpoints": [origin.address]}},
        "routes": [
            {"name": "shop", "match": 'path == "/shop"', "upstream": "app", "maintenance": maintenance, **shop_route},
            {"upstream": "app"},
        ],
    }


def ask(proxy: penstock.Proxy, path: str, **headers: str) -> tuple[int, str | None]:
    """Status and `Retry-After` of every one of some requests on connections of their own, which all workers take."""
    seen = set()
    for _ in range(16):
        connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        seen.add((answer.status, answer.getheader("retry-after")))
        connection.close()
    (only,) = seen
    return only


def test_a_command_holds_at_once_for_all_workers_and_over_reloads(origin: Origin) -> None:
    with penstock.Proxy(two(origin)) as proxy:
        proxy.maintenance(True, "shop")
        assert ask(proxy, "/shop") == (503, "600")
        assert ask(proxy, "/shop", **{"X-Office": "1"}) == (200, None)
        assert ask(proxy, "/") == (200, None)
        assert [row.maintenance for row in proxy.stats().routes] == [True, False, False]
        assert proxy.stats().failures["maintenance"] == 16
        proxy.apply(two(origin, timeouts={"total": "9s"}))
        assert ask(proxy, "/shop") == (503, "600"), "a reload keeps the order"
        proxy.apply(two(origin, shop={"on": True}))
        proxy.maintenance(False, "shop")
        assert ask(proxy, "/shop") == (200, None)
        proxy.apply(two(origin))
        proxy.apply(two(origin, shop={"on": True}))
        assert ask(proxy, "/shop") == (503, "600"), "what the file changes goes before what was ordered"


def test_all_routes_are_ordered_together(origin: Origin) -> None:
    with penstock.Proxy(two(origin)) as proxy:
        proxy.maintenance(True)
        assert (ask(proxy, "/shop"), ask(proxy, "/")) == ((503, "600"), (503, "300"))
        proxy.maintenance(False, "route-2")
        assert (ask(proxy, "/shop"), ask(proxy, "/")) == ((503, "600"), (200, None))
        proxy.maintenance(False)
        assert (ask(proxy, "/shop"), ask(proxy, "/")) == ((200, None), (200, None))


def test_a_route_that_comes_while_all_are_shut_is_shut(origin: Origin) -> None:
    with penstock.Proxy(two(origin)) as proxy:
        proxy.maintenance(True)
        more = two(origin)
        more["routes"].insert(0, {"name": "new", "match": 'path == "/new"', "upstream": "app"})
        proxy.apply(more)
        assert (ask(proxy, "/new"), ask(proxy, "/")) == ((503, "300"), (503, "300"))
        proxy.maintenance(False)
        more["routes"].insert(0, {"name": "newer", "match": 'path == "/newer"', "upstream": "app"})
        proxy.apply(more)
        assert (ask(proxy, "/newer"), ask(proxy, "/new")) == ((200, None), (200, None))


def test_an_order_does_not_move_to_the_route_that_takes_the_place_of_another(origin: Origin) -> None:
    with penstock.Proxy(two(origin)) as proxy:
        proxy.maintenance(True, "route-2")
        moved = two(origin)
        moved["routes"].insert(1, {"match": 'path == "/new"', "upstream": "app"})
        proxy.apply(moved)
        assert ask(proxy, "/new") == (200, None)


def test_the_page_is_the_routes_and_the_log_says_why(
    start: Callable[..., Running], config: Path, origin: Origin, tmp_path: Path
) -> None:
    config.write_text(
        f"""\
[listeners.web]
bind = "127.0.0.1:0"
[upstreams.app]
endpoints = ["{origin.address}"]
[[routes]]
name = "shop"
upstream = "app"
error_pages = {{ 503 = {{ text = "<h1>back soon</h1>" }} }}
maintenance = {{ on = true, retry_after = "2m" }}
[log.access]
to = "access.log"
""",
        "utf-8",
    )
    running = start()
    assert running.get("/x") == (503, "<h1>back soon</h1>")
    assert "in maintenance" in running.command("status").stdout
    off = running.command("maintenance", "off", "shop")
    assert (off.stdout, off.returncode) == ("shop: in service\n", 0), off.stderr
    assert running.get("/x")[0] == 200
    assert running.command("maintenance", "on").stdout == "shop: in maintenance\n"
    told = running.command("explain", "GET", "http://x/", "--running")
    assert "answer     503: refused (maintenance), by route shop" in told.stdout
    refused = running.command("maintenance", "on", "shpo")
    assert (refused.returncode, refused.stderr) == (1, 'penstock: no route "shpo": there are shop\n')
    assert running.command("maintenance", "maybe").returncode == 2
    running.command("drain")
    first = json.loads((tmp_path / "access.log").read_text("utf-8").splitlines()[0])
    found = [first[key] for key in ("status", "route", "cause", "outcome")]
    assert found == [503, "shop", "maintenance", "proxy_error"]


def test_routes_that_are_not_there_are_named(origin: Origin) -> None:
    config = two(origin)
    config["routes"] = [{"match": f'path == "/{number}"', "upstream": "app"} for number in range(14)]
    with (
        penstock.Proxy(config) as proxy,
        pytest.raises(EngineError, match=r'no route "x": there are route-1, .*, route-12 and 2 more$'),
    ):
        proxy.maintenance(True, "x")


def test_tests_of_the_file_go_on_where_maintenance_is_written_into_it(origin: Origin) -> None:
    config = two(origin, shop={"on": True})
    config["tests"] = [
        {"url": "http://x/shop", "route": "shop", "upstream": "app", "status": 503},
        {"url": "http://x/shop", "headers": {"X-Office": "1"}, "upstream": "app"},
    ]
    with penstock.Proxy(config) as proxy:
        office = proxy.explain("GET", "http://x/shop", {"X-Office": "1"})
        assert (office.maintenance, office.status) == ("excepted", None)
