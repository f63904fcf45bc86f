"""Weights by a function in a Python configuration file, beside running traffic."""

from __future__ import annotations

import http.client
from collections import Counter
from typing import TYPE_CHECKING

from tests.product.waiting import wait_for
from tests.safety.faults.endpoint import Endpoint, ok

import penstock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

FILE = """\
import pathlib

import penstock

ORDERS = pathlib.Path(__file__).with_name("orders")
config = {{
    "listeners": {{"web": {{"bind": "127.0.0.1:0"}}}},
    "upstreams": {{
        "app": {{
            "endpoints": [{{"address": "{}", "labels": {{"zone": "a"}}}}, {{"address": "{}"}}],
            "balance": "round_robin",
        }}
    }},
    "routes": [{{"upstream": "app"}}],
}}


@penstock.weights("app", every="50ms")
def by_zone(endpoints):
    return eval(ORDERS.read_text(), {{"endpoints": endpoints}})
"""
BY_ZONE = "{one.address: 0 if one.labels.get('zone') == 'a' else 5 for one in endpoints}"


def answers(proxy: penstock.Proxy) -> Counter[str]:
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=5)
    names: Counter[str] = Counter()
    for _ in range(20):
        connection.request("GET", "/")
        names[connection.getresponse().read().decode()] += 1
    connection.close()
    return names


def test_a_function_gives_weights_and_its_mistakes_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orders, file = tmp_path / "orders", tmp_path / "penstock.py"
    orders.write_text("{}")
    with Endpoint(lambda *_: ok(b"a")) as first, Endpoint(lambda *_: ok(b"b")) as second:
        file.write_text(FILE.format(first.address, second.address))
        with penstock.Proxy(file) as proxy:
            weights = lambda: [row.weight for row in proxy.stats().upstreams[0].endpoints]  # noqa: E731
            assert (weights(), set(answers(proxy))) == ([1, 1], {"a", "b"})
            orders.write_text(BY_ZONE)
            wait_for(lambda: weights() == [0, 5], "the function's weights are in use")
            wait_for(lambda: set(answers(proxy)) == {"b"}, "every worker uses them")
            for mistake, told in (
                ("1 / 0", "ZeroDivisionError: division by zero"),
                ("[1, 2]", "TypeError: returned a list, not a mapping from addresses to weights"),
                ("{'x:1': 1}", "ValueError: returned 'x:1', which is not an endpoint of the upstream"),
                (f"{{'{first.address}': 257}}", f"ValueError: returned 257 for {first.address}; a weight is"),
                (f"{{'{first.address}': 1, '{second.address}': 0.5}}", "ValueError: returned 0.5 for"),
                ("exit()", "SystemExit"),
            ):
                orders.write_text(mistake)
                wait_for(lambda told=told: any(told in line for line in caplog.messages), f"the log tells {told}")
                assert weights() == [0, 5]
            orders.write_text("{}")
            # Without the function the weights are those of the file again.
            file.write_text(FILE.format(first.address, second.address).partition("\n\n\n@")[0])
            proxy.apply()
            wait_for(lambda: weights() == [1, 1], "the configured weights are back")
