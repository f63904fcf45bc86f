"""The harness itself: what it reads, that it passes what is right, and fails with the difference what is not."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.wire.cut import ANSWERS, BYTES, HALVES, WHOLE, Cut, at, offsets
from tests.wire.expect import MORE, MismatchError, compile_lines
from tests.wire.harness import CaseError, run_case
from tests.wire.peers import connect
from tests.wire.receive_queue import wait_until_read
from tests.wire.script import Case, Do, FormatError, Hear, Say, parse_text, unescape, with_line_end
from tests.wire.stage import Config, Stage, complete
from tests.wire.test_cases import CASES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.wire.peers import Address

TALK = """\
=== a talk
client> GET / HTTP/1.1
client> Host: {origin}
client>
origin< GET / HTTP/1.1
origin< host: {origin}
origin<
origin> HTTP/1.1 200 OK
origin> Content-Length: 2
origin>
origin> hi\\
client< HTTP/1.1 200 OK
client< content-length: 2
client<
client< hi\\
"""


class Direct:
    """No proxy at all: the client talks to the origin."""

    has_sentinel = False
    trust = None
    shows = None

    def __init__(self, config: Config) -> None:
        self._endpoint = config["upstreams"]["origin"]["endpoints"][0]

    def address(self, listener: str) -> Address:
        """The origin's."""
        del listener
        host, _, port = self._endpoint.rpartition(":")
        return host, int(port)

    def close(self) -> None:
        """Nothing to stop."""


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A client and an origin with nothing between them."""
    with Stage("", Direct) as direct:
        yield direct


@pytest.mark.parametrize("cut", [WHOLE, BYTES, HALVES, ANSWERS, at(20), at(9, "origin")], ids=lambda cut: cut.name)
def test_a_right_dialogue_passes(stage: Stage, cut: Cut) -> None:
    run_case(parse_text(TALK)[0], stage, cut)
    run_case(parse_text(TALK)[0], stage, cut)  # nothing of the first is left


@pytest.mark.parametrize(
    ("was", "becomes", "told"),
    [
        ("origin< host: {origin}\n", "", "+ host: 127.0.0.1:"),
        ("origin< host: {origin}", "origin< host: other", "- host: other"),
        ("client< HTTP/1.1 200 OK", "client< HTTP/1.1 404 Not Found", "- HTTP/1.1 404 Not Found"),
        ("client< hi\\", "client< ha\\", "expected bytes b'a'"),
        ("client< hi\\", "client< h\\", "got bytes that no step expects: b'i'"),
        ("origin< GET / HTTP/1.1", "origin< GET /x HTTP/1.1", "- GET /x HTTP/1.1"),
        ("origin> hi\\", "origin> h\\\norigin closes", "ended before this"),
        ("client>\n", "client>\nclient> more\\\n", "origin had got bytes that no step expects: b'more'"),
    ],
)
def test_a_wrong_dialogue_fails_and_says_why(stage: Stage, was: str, becomes: str, told: str) -> None:
    assert was in TALK
    with pytest.raises(CaseError) as failure:
        run_case(parse_text(TALK.replace(was, becomes, 1))[0], stage)
    assert told in str(failure.value)
    assert "text.case:1: a talk" in str(failure.value)


def test_steps() -> None:
    case = parse_text("# why\n\n=== one\nreplay: whole\nclient> a\nclient>\norigin1< b\\\norigin sees close\n")[0]
    assert case.replay == "whole"
    assert case.steps == (
        Say(5, "client", ("a", "")),
        Hear(7, "origin1", ("b\\",)),
        Do(8, "origin", "sees close", ""),
    )


def test_each_is_unfolded_and_config_holds_until_the_next() -> None:
    cases = parse_text(
        "=== one\nconfig:\n    [a]\n    b = 1\n\n=== two\neach: x | y z\nclient> {each}\nconfig:\n    [c]\n=== three\n"
    )
    assert [(case.title, case.config) for case in cases] == [
        ("one", ""),
        ("two [x]", "[a]\nb = 1\n"),
        ("two [y z]", "[a]\nb = 1\n"),
        ("three", "[c]\n"),
    ]
    assert cases[2].steps == (Say(8, "client", ("y z",)),)


@pytest.mark.parametrize("text", ["client> early\n", "=== one\nclient shouts\n", "=== one\nnonsense\n"])
def test_a_file_that_cannot_be_read(text: str) -> None:
    with pytest.raises(FormatError, match=r"text\.case:\d: "):
        parse_text(text)


def test_escapes_and_line_ends() -> None:
    assert unescape(r"a\r\n\x00\xff\\x{b * 3}{c{d * 2} * 2}") == "a\r\n\0\xff\\xbbbcddcdd"
    assert with_line_end("a\\") == ("a", False)
    assert with_line_end("a\\\\") == ("a\\\\", True)


@pytest.mark.parametrize(
    ("lines", "got", "rest"),
    [
        (("{chunks hello}", ""), b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\nmore", b"more"),
        (("{some chunks he}",), b"1\r\nh\r\n1\r\ne\r\n3\r\nllo\r\n", b"3\r\nllo\r\n"),
        (
            ("HTTP/1.1 200 OK", "a: {x}", "b: {x}", "?c: 1", ""),
            b"HTTP/1.1 200 OK\r\nB: 1\r\nA:1\r\nDate: now\r\n\r\n",
            b"",
        ),
        (("HTTP/1.1 {400|501} {any}", "?c: 1", ""), b"HTTP/1.1 501 No\r\n\r\n", b""),
        (("{at most 2 interim}",), b"HTTP/1.1 103 Hi\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n"),
    ],
)
def test_what_matches(lines: tuple[str, ...], got: bytes, rest: bytes) -> None:
    names: dict[str, str] = {}
    for part in compile_lines(lines):
        matched = part.match(got, names)
        assert matched != MORE
        got = got[matched:]
    assert got == rest


@pytest.mark.parametrize(
    ("lines", "got"),
    [
        (("{chunks hello}",), b"5;x\r\nhello\r\n0\r\n"),
        (("{chunks hello}",), b"5\r\nhella\r\n0\r\n"),
        (("{chunks hello}",), b"5\r\nhelloXX"),
        (("HTTP/1.1 200 OK", "a: {x}", "b: {x}", ""), b"HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\n\r\n"),
        (("HTTP/1.1 200 OK", ""), b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
        (("HTTP/1.1 200 OK", ""), b"HTTP/1.1 200 OK\r\na : 1\r\n\r\n"),
        (("HTTP/1.1 404 {any}", "{error}"), b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nhi"),
        (("HTTP/1.1 {400|501} {any}", ""), b"HTTP/1.1 505 No\r\n\r\n"),
        (("{at most 1 interim}",), b"HTTP/1.1 100 A\r\n\r\nHTTP/1.1 100 A\r\n\r\nHTTP/1.1 200 OK\r\n"),
    ],
)
def test_what_does_not_match(lines: tuple[str, ...], got: bytes) -> None:
    with pytest.raises(MismatchError):
        compile_lines(lines)[0].match(got, {})


def test_every_cut_leaves_the_bytes_as_they_are() -> None:
    block = bytes(range(256)) * 5
    for cut in (WHOLE, BYTES, HALVES, at(100), at(1000)):
        assert b"".join(cut.of("client", block, 50)) == block
        assert cut.of("origin", block, 50) == [block]
    assert at(60).of("client", block, 50) == [block[:10], block[10:]]
    assert at(50).of("client", block, 50) == [block]


def test_every_offset_of_a_short_case_and_a_sample_of_a_long_one() -> None:
    assert list(offsets(5)) == [1, 2, 3, 4]
    assert len(list(offsets(400))) == 399
    many = list(offsets(100_000))
    assert many == sorted(set(many))
    assert len(many) == 223
    assert many[-1] == 99_999


def test_the_receive_queue_is_seen(stage: Stage) -> None:
    host, port = stage.names()["origin"].split(":")
    client = connect((host, int(port)))
    client.send(b"abc")
    origin = stage.origins["origin"].read_until(lambda _: True)
    assert not wait_until_read(client.sock, limit=0.05)
    origin.read_until(lambda received: len(received) == 3)
    assert wait_until_read(client.sock, limit=0.05)
    origin.received.clear()
    client.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}:{case.line}")
def test_every_case_can_be_compiled(case: Case) -> None:
    assert any(isinstance(step, Hear) or step.verb == "sees close" for step in case.steps if not isinstance(step, Say))
    for step in case.steps:
        if isinstance(step, Hear):
            assert compile_lines(step.lines)
    complete(tomllib.loads(case.config))
