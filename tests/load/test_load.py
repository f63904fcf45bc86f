"""The load itself, with no proxy between: it passes what is right and sees what is not."""

from __future__ import annotations

from dataclasses import dataclass

from tests.load.client import run_load
from tests.load.origin import EchoOrigins, parse_message
from tests.load.tokens import Tokens


@dataclass(frozen=True)
class Mistaken(Tokens):
    """Asks for one thing and expects another, once."""

    def request(self, number: int) -> bytes:
        return super().request(7 if number == 42 else number)


def _address(origins: EchoOrigins) -> tuple[str, int]:
    host, port = origins.address.split(":")
    return host, int(port)


def test_right_answers_and_marks() -> None:
    seen: list[int] = []
    with EchoOrigins("a") as origins:
        tally = run_load(Tokens(), _address(origins), requests=2000, marks=10, at_mark=seen.append)
    assert (tally.wrong, tally.examples) == (0, [])
    assert tally.answered + tally.aborted == 2000
    assert seen == list(range(1, 11))


def test_one_wrong_answer_is_found() -> None:
    with EchoOrigins("a") as origins:
        tally = run_load(Mistaken(), _address(origins), requests=2000)
    assert tally.wrong == 1
    assert tally.examples[0].startswith("42: expected ")


def test_messages_are_cut_where_they_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    assert parse_message(chunked + b"more") == (chunked[: chunked.index(b"\r\n\r\n")], b"hi", len(chunked))
    assert all(parse_message(chunked[:end]) is None for end in range(len(chunked)))
