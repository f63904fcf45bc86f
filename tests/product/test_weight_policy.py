"""Weights by a function in a Python configuration file, beside running traffic."""

from __future__ import annotations

import http.client
import urllib.request
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


TOML = """\
[listeners.web]
bind = "127.0.0.1:0"
[admin]
bind = "127.0.0.1:0"
[addons.zones]
module = "zones.py"
[upstreams.app]
balance = "round_robin"
endpoints = [{{ address = "{}", labels = {{ zone = "a" }} }}, "{}"]
[[routes]]
upstream = "app"
"""


def test_a_module_that_a_toml_file_names_gives_weights_and_its_mistakes_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = "import pathlib\n\nimport penstock\n\nORDERS = " + FILE.partition("ORDERS = ")[2].partition("config")[0]
    function = FILE.partition("\n\n\n")[2].replace("{{", "{").replace("}}", "}")
    orders, file, code = tmp_path / "orders", tmp_path / "penstock.toml", tmp_path / "zones.py"
    orders.write_text(BY_ZONE)
    code.write_text(module + function)
    with Endpoint(lambda *_: ok(b"a")) as first, Endpoint(lambda *_: ok(b"b")) as second:
        file.write_text(TOML.format(first.address, second.address))
        with penstock.Proxy(file) as proxy:
            weights = lambda: [row.weight for row in proxy.stats().upstreams[0].endpoints]  # noqa: E731
            wait_for(lambda: weights() == [0, 5], "the function's weights are in use")
            wait_for(lambda: set(answers(proxy)) == {"b"}, "every worker uses them")
            for mistake, told in (("1 / 0", "ZeroDivisionError: division by zero"), ("7", "TypeError: returned a int")):
                orders.write_text(mistake)
                wait_for(lambda told=told: any(told in line for line in caplog.messages), f"the log tells {told}")
                before = _failed(proxy)
                wait_for(lambda before=before: _failed(proxy) > before + 2, "it fails again and again")
                assert weights() == [0, 5]
                assert sum(told in line for line in caplog.messages) == 1
            # The module as it is now takes over with a reload, and goes with its add-on.
            code.write_text((module + function).replace("return eval", "return {endpoints[0].address: 9} or eval"))
            proxy.apply()
            wait_for(lambda: weights() == [9, 5], "the new module's weights are in use")
            file.write_text(
                TOML.format(first.address, second.address).replace('[addons.zones]\nmodule = "zones.py"\n', "")
            )
            proxy.apply()
            wait_for(lambda: weights() == [1, 1], "the configured weights are back")


def _failed(proxy: penstock.Proxy) -> float:
    """Calls that failed, by the metrics."""
    with urllib.request.urlopen(f"http://{proxy.admin}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    name = 'penstock_weight_policy_calls_total{upstream="app",outcome="failed"} '
    return float(text.partition(name)[2].partition("\n")[0])
