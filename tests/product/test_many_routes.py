"""Ten thousand routes: each request takes the first that matches, whatever kind of match stands before or behind it."""

from __future__ import annotations

import http.client
import random
from typing import Any

import penstock

COUNT = 10_000


def _route(number: int) -> dict[str, Any]:
    matches = (
        f'path == "/exact/{number}"',
        f'host == "h{number}.example"',
        f'path.startswith("/prefix/{number}/")',
        f'host == "shared.example" and path == "/both/{number}"',
        f'header["X-Tenant"] == "t{number}"',
    )
    return {"name": f"r{number}", "match": matches[number % 5], "respond": {"status": 200, "body": str(number)}}


def _ask(number: int) -> tuple[str, dict[str, str]]:
    return (
        (f"/exact/{number}", {"Host": "x.example"}),
        ("/", {"Host": f"H{number}.example:80"}),
        (f"/prefix/{number}/a/b", {"Host": "x.example"}),
        (f"/both/{number}", {"Host": "shared.example"}),
        ("/", {"Host": "x.example", "X-Tenant": f"t{number}"}),
    )[number % 5]


def _answer(connection: http.client.HTTPConnection, target: str, fields: dict[str, str]) -> tuple[int, str]:
    connection.request("GET", target, headers=fields)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_each_request_takes_its_route() -> None:
    config = {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": [_route(number) for number in range(COUNT)]}
    with penstock.Proxy(config) as proxy:
        connection = http.client.HTTPConnection(*proxy.address("web"), timeout=10)
        numbers = [*range(10), *range(COUNT - 10, COUNT), *random.Random(1).sample(range(COUNT), 500)]
        for number in numbers:
            assert _answer(connection, *_ask(number)) == (200, str(number))
        # Two routes match: the one written first is taken, whichever kind it is.
        for one, other in ((100, 201), (201, 4000), (6002, 4001), (9004, 9001), (304, 302)):
            target, fields = _ask(one)[0] if one % 5 in (0, 2) else _ask(other)[0], {**_ask(other)[1], **_ask(one)[1]}
            fields["Host"] = next((a[1]["Host"] for n in (one, other) if n % 5 == 1 for a in [_ask(n)]), "x.example")
            assert _answer(connection, target, fields) == (200, str(min(one, other)))
        assert _answer(connection, f"/exact/{COUNT}", {"Host": "x.example"})[0] == 404
        assert _answer(connection, "/prefix/1002", {"Host": "x.example"})[0] == 404
        connection.close()
