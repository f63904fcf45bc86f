"""Users of a forward proxy whom a function in Python knows."""

from __future__ import annotations

import threading
import types
from typing import TYPE_CHECKING, Any

import pytest
from test_intercept_http2 import running_origin
from tests.product.forwarding import ask, config, fields, status
from tests.product.test_forward_socks import named as asked
from tests.product.test_forward_socks import said
from tests.product.users import basic
from tests.product.waiting import wait_for
from tests.wire.peers import connect

import penstock
from product import Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class People:
    """Ada's password is `pass:wörd`, and whatever is asked is written down."""

    def __init__(self, answer: Callable[[str, str], Any] | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer = answer or (lambda user, password: (user, password) == ("ada", "pass:wörd"))

    def authenticate(self, user: str, password: str) -> Any:
        """Whether that is a user's."""
        self.asked.append((user, password))
        return self.answer(user, password)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """Where everybody wants to go."""
    with Origin("one") as made, running_origin(made):
        yield made


def settings(people: object, users: dict[str, Any] | None = None, **addon: Any) -> dict[str, Any]:
    """A forward proxy whose users these know."""
    made = config(connect_ports=["1024-65535"], users={"addon": "people", **(users or {})})
    return made | {"addons": {"people": {"module": people, "timeout": "5s", **addon}}}


def outcomes(proxy: penstock.Proxy) -> dict[str, int]:
    """How calls of the function have ended."""
    (hook,) = proxy.stats().addons[0].hooks
    return {word: count for word, count in hook.outcomes.items() if count}


def get(proxy: penstock.Proxy, origin: Origin, *more: str) -> bytes:
    """The answer to a request."""
    return ask(proxy, f"GET http://{origin.address}/", *more)


def test_the_function_says_who_is_a_user(origin: Origin) -> None:
    people = People()
    with penstock.Proxy(settings(people, {"realm": "Ours"})) as proxy:
        unasked = get(proxy, origin)
        assert (status(unasked), fields(unasked)["proxy-authenticate"]) == (407, 'Basic realm="Ours", charset="UTF-8"')
        assert people.asked == []
        assert status(get(proxy, origin, basic("ada", "wrong"))) == 407
        # What was right is remembered.
        for _ in range(5):
            assert status(get(proxy, origin, basic("ada", "pass:wörd"))) == 200
        assert people.asked == [("ada", "wrong"), ("ada", "pass:wörd")]
        assert outcomes(proxy) == {"answered": 1, "continued": 1}
        stats = proxy.stats().listeners[0]
        assert stats.users is not None
        assert (stats.users.count, stats.users.checks, stats.users.trouble) == (None, 0, None)
        client = connect(proxy.address("out"))
        client.send(b"\x05\x01\x02")
        assert said(client, 2) == b"\x05\x02"
        login = "pass:wörd".encode()
        client.send(b"\x01\x03ada" + bytes([len(login)]) + login)
        assert said(client, 2) == b"\x01\x00"
        client.send(asked(b"127.0.0.1", int(origin.address.rpartition(":")[2])))
        assert said(client, 10)[:2] == b"\x05\x00"


def test_a_coroutine_may_say_it(origin: Origin) -> None:
    async def authenticate(user: str, password: str) -> bool:
        return user == password

    with penstock.Proxy(settings(types.SimpleNamespace(authenticate=authenticate))) as proxy:
        assert status(get(proxy, origin, basic("a", "a"))) == 200
        assert status(get(proxy, origin, basic("a", "b"))) == 407


def test_guesses_are_few(origin: Origin) -> None:
    people = People()
    with penstock.Proxy(settings(people, {"attempts": {"rate": "1/h", "burst": 3}})) as proxy:
        codes = [status(get(proxy, origin, basic("ada", f"guess {number}"))) for number in range(10)]
        assert (codes, len(people.asked)) == ([407] * 10, 3)
        assert proxy.stats().rejected["guess_rate"] == 7


def test_who_cannot_be_asked_lets_nobody_in(origin: Origin, caplog: pytest.LogCaptureFixture) -> None:
    def answer(user: str, password: str) -> Any:
        if user == "raises":
            raise ValueError(f"cannot look up {user} with {password}")
        return "yes"

    with penstock.Proxy(settings(People(answer))) as proxy:
        assert status(get(proxy, origin, basic("raises", "pw1"))) == 500
        assert status(get(proxy, origin, basic("odd", "pw1"))) == 500
        assert outcomes(proxy) == {"failed": 2}
        # It was no guess.
        assert proxy.stats().rejected["guess_rate"] == 0
        wait_for(lambda: "authenticate" in caplog.text, "it is told")
    assert "ValueError: cannot look up … with …" in caplog.text
    assert "pw1" not in caplog.text


def test_one_that_hangs_holds_nobody_up_for_long(origin: Origin) -> None:
    hangs = threading.Event()
    people = People(lambda user, password: hangs.wait(30))
    with penstock.Proxy(settings(people, timeout="100ms", concurrency=1)) as proxy:
        assert status(get(proxy, origin, basic())) == 503
        hangs.set()
        wait_for(lambda: status(get(proxy, origin, basic("ada", "other"))) == 200, "it answers again")


def test_a_reload_asks_the_new_function(origin: Origin) -> None:
    first, second = People(), People(lambda *_: False)
    with penstock.Proxy(settings(first)) as proxy:
        assert status(get(proxy, origin, basic("ada", "pass:wörd"))) == 200
        proxy.apply(settings(first) | {"engine": {"workers": 1}})
        assert status(get(proxy, origin, basic("ada", "pass:wörd"))) == 200
        assert len(first.asked) == 1
        proxy.apply(settings(second))
        assert status(get(proxy, origin, basic("ada", "pass:wörd"))) == 407


@pytest.mark.parametrize(
    ("module", "addon", "users", "message"),
    [
        (
            types.SimpleNamespace(request_headers=lambda request: None),
            {},
            {},
            "defines no authenticate(user, password)",
        ),
        (People(), {"on_failure": "allow"}, {}, 'on_failure of "people" must be "deny" here'),
        (People(), {}, {"addon": "nobody"}, '"nobody" is not an add-on of this configuration'),
        (People(), {}, {"htpasswd": "users.txt"}, "has one of htpasswd and addon"),
        (
            types.SimpleNamespace(authenticate=lambda user: True),
            {},
            {},
            "authenticate is called as authenticate(",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(
    module: object, addon: dict[str, Any], users: dict[str, Any], message: str
) -> None:
    with pytest.raises(penstock.ConfigError) as refused, penstock.Proxy(settings(module, users, **addon)):
        pass
    assert message in str(refused.value)
