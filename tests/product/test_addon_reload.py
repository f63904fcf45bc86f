"""What becomes of add-ons when the configuration is loaded again while requests come."""

from __future__ import annotations

import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest
from tests.product.waiting import wait_for

import penstock
from product import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONFIG = """\
[listeners.web]
bind = "127.0.0.1:0"
[addons.count]
module = "count.py"
timeout = "5s"
[[routes]]
respond = { body = "not asked" }
addons = ["count"]
"""
COUNT = """\
import penstock

seen = 0


def request_headers(request):
    global seen
    seen += 1
    return penstock.Response(200, {}, f"VERSION {seen}")
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(CONFIG, "utf-8")
    write(path, "one")
    return path


@pytest.fixture
def fetch() -> Callable[[penstock.Proxy], str]:
    def get(proxy: penstock.Proxy) -> str:
        with urllib.request.urlopen(proxy.url(), timeout=20) as answer:
            text: str = answer.read().decode()
            return text

    return get


def write(config: Path, version: str) -> None:
    config.with_name("count.py").write_text(COUNT.replace("VERSION", version), "utf-8")


def threads() -> int:
    return sum(thread.name.startswith("penstock-addon-count") for thread in threading.enumerate())


def test_code_that_changed_takes_over_and_code_that_did_not_remembers(
    config: Path, fetch: Callable[[penstock.Proxy], str]
) -> None:
    with penstock.Proxy(config) as proxy:
        assert [fetch(proxy), fetch(proxy)] == ["one 1", "one 2"]
        proxy.apply()
        assert fetch(proxy) == "one 3"
        config.write_text(CONFIG.replace('"5s"', '"4s"'), "utf-8")
        proxy.apply()
        assert fetch(proxy) == "one 4"
        write(config, "two")
        assert fetch(proxy) == "one 5"
        proxy.apply()
        assert fetch(proxy) == "two 1"
        wait_for(lambda: threads() == 8, "the end of the threads of what was loaded before")
        (addon,) = proxy.stats().addons
        assert addon.hooks[0].outcomes["answered"] == 6
    assert threads() == 0


def test_code_that_cannot_be_loaded_is_refused_and_the_old_goes_on(
    config: Path, fetch: Callable[[penstock.Proxy], str]
) -> None:
    with penstock.Proxy(config) as proxy:
        assert fetch(proxy) == "one 1"
        config.with_name("count.py").write_text("import penstock\n\nraise OSError('no database')\n", "utf-8")
        with pytest.raises(penstock.ConfigError) as refused:
            proxy.apply()
        assert [(fault.line, fault.key) for fault in refused.value.faults] == [(4, "addons.count.module")]
        assert fetch(proxy) == "one 2"
    checked = run("check", "-c", str(config))
    assert checked.returncode == 2
    said = "penstock.toml:4: addons.count.module: count.py:3: raised OSError: no database"
    assert said in checked.stderr


def test_no_request_fails_while_code_is_replaced(config: Path, fetch: Callable[[penstock.Proxy], str]) -> None:
    stop, answers = threading.Event(), []
    with penstock.Proxy(config) as proxy:

        def ask() -> None:
            while not stop.is_set():
                answers.append(fetch(proxy).partition(" ")[0])

        asking = threading.Thread(target=ask)
        asking.start()
        for number in range(10):
            write(config, f"version-{number}")
            proxy.apply()
            wait_for(lambda: answers[-1:] == [f"version-{number}"], "an answer of the new code")  # noqa: B023
        stop.set()
        asking.join()
    assert set(answers) <= {"one", *(f"version-{number}" for number in range(10))}
