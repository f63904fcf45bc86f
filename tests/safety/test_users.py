"""Guessing passwords of a forward proxy's users: case 155."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import pytest

import penstock
from tests.product.forwarding import fields, status, whole
from tests.product.users import basic, named, users
from tests.wire.peers import Connection, connect

if TYPE_CHECKING:
    from pathlib import Path

GUESSES = 10_000
AT_ONCE = 50
DEAR = "$2y$08$abcdefghijklmnopqrstuub/LlVfC1A62K0uqLz37ReP6nxxZrYNe"
"""`password`, by bcrypt at the cost that htpasswd -B has with -C 8: long enough to be measured."""


def asking(user: str, password: str) -> str:
    """A request that goes nowhere once somebody may make it."""
    return f"GET http://127.0.0.1:22/ HTTP/1.1\r\nHost: a\r\n{basic(user, password)}\r\n\r\n"


def answer(client: Connection, user: str, password: str) -> int:
    """The status of its answer."""
    client.received.clear()
    client.send(asking(user, password).encode())
    client.read_until(whole)
    return status(bytes(client.received))


@pytest.mark.safety(155)
def test_ten_thousand_guesses_lead_nowhere_and_cost_little(tmp_path: Path) -> None:
    """Each is answered 407; few are looked at; who is known or comes from elsewhere is served meanwhile."""
    settings = named(tmp_path, users=users(tmp_path, f"ada:{DEAR}\nbob:{DEAR}\n"))
    with penstock.Proxy(settings) as proxy:
        known = connect(proxy.address("out"), source="127.0.0.9")
        assert answer(known, "ada", "password") == 403
        client = connect(proxy.address("out"), source="127.0.0.9")
        for first in range(0, GUESSES, AT_ONCE):
            guesses = [asking("ada" if n % 2 else "eve", f"guess-{n}") for n in range(first, first + AT_ONCE)]
            client.received.clear()
            client.send("".join(guesses).encode())
            client.read_until(lambda got: got.count(b"\r\n\r\n") == AT_ONCE and whole(got[got.rfind(b"HTTP/1.1") :]))
            got = bytes(client.received)
            assert got.count(b"HTTP/1.1 407 ") == AT_ONCE
            assert b"eve" not in got
            assert b"guess-" not in got
        stats = proxy.stats()
        found = stats.listeners[0].users
        assert found is not None
        # Twenty at once and one in three seconds, of those who were asked for.
        assert found.checks < GUESSES / 50
        assert stats.rejected["user_refused"] + stats.rejected["guess_rate"] == GUESSES
        # The right one among guesses is a guess.
        assert answer(client, "bob", "password") == 407
        assert answer(known, "ada", "password") == 403
        elsewhere = connect(proxy.address("out"), source="127.0.0.10")
        assert answer(elsewhere, "bob", "password") == 403


@pytest.mark.safety(155)
def test_time_does_not_tell_who_is_a_user(tmp_path: Path) -> None:
    settings = named(tmp_path, users=users(tmp_path, f"ada:{DEAR}\n", attempts="1000/s"))
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        took: dict[str, list[float]] = {"ada": [], "eve": []}
        answers = set()
        for number in range(16):
            for user, times in took.items():
                began = time.perf_counter()
                assert answer(client, user, f"guess-{number}") == 407
                times.append(time.perf_counter() - began)
                told = fields(bytes(client.received))
                told.pop("x-request-id")
                told.pop("date")
                answers.add(tuple(told.items()))
        # The quickest of each: whatever else the machine does only makes some slower.
        known, unknown = min(took["ada"]), min(took["eve"])
        assert 0.6 < known / unknown < 1.6, took
        assert len(answers) == 1, "nor does the answer"


@pytest.mark.safety(155, 146)
def test_a_name_is_no_line_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    settings = named(tmp_path) | {"log": {"access": {"to": str(log), "format": "combined"}}}
    with penstock.Proxy(settings) as proxy:
        client = connect(proxy.address("out"))
        for name in ('x" 200 0', "x\r\ny", "\x1b[31m"):
            coded = base64.b64encode(f"{name}:p".encode()).decode()
            client.received.clear()
            client.send(f"GET http://a/ HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic {coded}\r\n\r\n".encode())
            client.read_until(whole)
            assert status(bytes(client.received)) == 407
    lines = log.read_text().splitlines()
    assert len(lines) == 3
    assert all(" - - [" in line for line in lines)
