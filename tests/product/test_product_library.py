"""`penstock.Proxy` inside a program."""

from __future__ import annotations

import http.client
import itertools
import os
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.certificates import write

import penstock
from penstock.config import compile_text, load_value
from penstock.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from product import Origin


def config_for(origin: Origin, body: str = "one") -> dict[str, object]:
    return {
        "listeners": {"web": {"bind": "127.0.0.1:0"}},
        "upstreams": {"app": {"endpoints": [origin.address]}},
        "routes": [
            {"name": "hello", "match": 'path == "/hello"', "respond": {"body": body}},
            {"name": "app", "upstream": "app"},
        ],
        "admin": {"bind": "127.0.0.1:0"},
        "engine": {"workers": 2},
    }


def get(proxy: penstock.Proxy, path: str) -> bytes:
    connection = http.client.HTTPConnection(*proxy.address("web"), timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def traces() -> tuple[set[str], int]:
    """What a proxy could leave behind: threads and descriptors."""
    return set(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


class Gate:
    """Where the configuration of a test waits while it is loaded."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        assert self.open.wait(20)


GATE = Gate()


def test_it_serves(origin: Origin, eventually: Callable[[Callable[[], object]], None]) -> None:
    with penstock.Proxy(config_for(origin)) as proxy:
        assert get(proxy, "/") == b"origin"
        assert proxy.url() == "http://{}:{}".format(*proxy.address("web"))
        assert proxy.explain("GET", "http://x.example/y").route.name == "app"  # type: ignore[union-attr]
        # An exchange is counted behind its last byte.
        eventually(lambda: {route.name: route.requests for route in proxy.stats().routes}["app"] == 1)


def test_a_path_or_a_model_does_as_well(config: Path, origin: Origin) -> None:
    with penstock.Proxy(config) as proxy:
        assert get(proxy, "/hello") == b"one"
    with penstock.Proxy(penstock.Config.model_validate(config_for(origin))) as proxy:
        assert get(proxy, "/") == b"origin"


def test_another_configuration_takes_its_place(origin: Origin) -> None:
    with penstock.Proxy(config_for(origin)) as proxy:
        address = proxy.address("web")
        assert proxy.apply(config_for(origin, "two")).version == 2
        assert proxy.address("web") == address
        assert get(proxy, "/hello") == b"two"
        with pytest.raises(penstock.ConfigError):
            proxy.apply({"listeners": {}})
        assert get(proxy, "/hello") == b"two"


@pytest.mark.parametrize("end", [lambda engine: engine.drain(0.0), Engine.stop], ids=["drain", "stop"])
def test_the_data_plane_runs_nothing_after_its_end(origin: Origin, end: Callable[[Engine], object]) -> None:
    loaded = load_value(config_for(origin))
    plan = compile_text(loaded.config, loaded.folder, 1, loaded.memory)
    engine, unused = Engine(), Engine()
    try:
        engine.apply(plan)
        for one in (engine, unused):
            end(one)
            with pytest.raises(penstock.ConfigError, match="no plan runs in it any more"):
                one.apply(plan)
    finally:
        engine.stop()
        unused.stop()


def test_a_change_that_outlasts_the_block_opens_nothing(origin: Origin, tmp_path: Path) -> None:
    file = tmp_path / "late.py"
    file.write_text(f"from test_product_library import GATE\nGATE.pass_through()\nconfig = {config_for(origin)!r}\n")
    raised: list[str] = []

    def apply(proxy: penstock.Proxy) -> None:
        try:
            proxy.apply(file)
        except penstock.ControlError as error:
            raised.append(str(error))

    with penstock.Proxy(config_for(origin)) as proxy:
        applying = threading.Thread(target=apply, args=(proxy,))
        applying.start()
        GATE.reached.wait(20)
    GATE.open.set()
    applying.join()
    assert raised == ["the process is stopped: its configuration cannot change any more"]


def test_the_first_listener_is_the_one_that_is_written_first(tmp_path: Path) -> None:
    files = write(tmp_path, "shop", "shop.example")
    listeners = {
        "web": {"bind": "127.0.0.1:0"},
        "tls": {"bind": "127.0.0.1:0", "tls": {"certificates": [files]}},
        "app": {"bind": f"unix:{tmp_path / 'app.sock'}"},
    }
    for order in itertools.permutations(listeners):
        config = {"listeners": {name: listeners[name] for name in order}, "routes": [{"respond": {}}]}
        with penstock.Proxy(config) as proxy:
            if order[0] == "app":
                with pytest.raises(penstock.UsageError, match="listener 'app' has no TCP address"):
                    proxy.url()
                continue
            assert proxy.address() == proxy.address(order[0])
            assert proxy.url() == {"web": "http", "tls": "https"}[order[0]] + "://{}:{}".format(
                *proxy.address(order[0])
            )


def test_names_that_do_not_exist(origin: Origin) -> None:
    with penstock.Proxy(config_for(origin)) as proxy, pytest.raises(penstock.UsageError, match="no listener 'nope'"):
        proxy.address("nope")
    with pytest.raises(penstock.ControlError):
        penstock.Proxy(config_for(origin)).stats()


@pytest.mark.usefixtures("origin")
def test_a_configuration_that_cannot_run_leaves_nothing(
    origin: Origin, eventually: Callable[[Callable[[], object]], None]
) -> None:
    with penstock.Proxy(config_for(origin)):
        pass  # what is opened once in a process is open now
    before = traces()
    bad = {**config_for(origin), "admin": {"bind": "127.0.0.1:0"}, "listeners": {"web": {"bind": "192.0.2.1:1"}}}
    with pytest.raises(penstock.ConfigError), penstock.Proxy(bad):
        raise AssertionError("it must not start")
    # Threads of other tests may end meanwhile: nothing new is what counts.
    eventually(lambda: traces()[0] <= before[0] and traces()[1] <= before[1])


def test_nothing_is_left_when_the_block_raises(
    origin: Origin, eventually: Callable[[Callable[[], object]], None]
) -> None:
    with penstock.Proxy(config_for(origin)) as proxy:
        get(proxy, "/")
    before, threads = traces(), set(threading.enumerate())
    with pytest.raises(RuntimeError, match="on purpose"):
        raise_inside(origin)
    eventually(lambda: len(traces()[0]) <= len(before[0]) and traces()[1] <= before[1])
    assert not [one for one in set(threading.enumerate()) - threads if one.name.startswith("penstock")]


def raise_inside(origin: Origin) -> None:
    """Leave the block with an error while a client is connected."""
    with (
        penstock.Proxy(config_for(origin)) as proxy,
        closing(http.client.HTTPConnection(*proxy.address("web"))) as kept,
    ):
        kept.request("GET", "/hello")
        kept.getresponse().read()
        raise RuntimeError("on purpose")


def test_many_one_after_another(origin: Origin, eventually: Callable[[Callable[[], object]], None]) -> None:
    with penstock.Proxy(config_for(origin)):
        pass
    before = traces()
    for number in range(20):
        with penstock.Proxy(config_for(origin, str(number))) as proxy:
            assert get(proxy, "/hello") == str(number).encode()
    eventually(lambda: len(traces()[0]) <= len(before[0]) and traces()[1] <= before[1])


def test_two_side_by_side(origin: Origin) -> None:
    with penstock.Proxy(config_for(origin, "a")) as first, penstock.Proxy(config_for(origin, "b")) as second:
        assert (get(first, "/hello"), get(second, "/hello")) == (b"a", b"b")


def test_behind_its_block_a_proxy_answers_nothing(origin: Origin) -> None:
    with penstock.Proxy(config_for(origin)) as proxy:
        proxy.stats()
    for ask in (
        proxy.stats,
        proxy.url,
        proxy.apply,
        lambda: proxy.admin,
        lambda: proxy.drain(0),
        lambda: proxy.endpoint("app", origin.address, "drain"),
        lambda: proxy.explain("GET", "http://x.example/"),
    ):
        with pytest.raises(penstock.ControlError, match="does not run"):
            ask()
    with pytest.raises(penstock.UsageError, match="make another"), proxy:
        raise AssertionError("it must not start again")
