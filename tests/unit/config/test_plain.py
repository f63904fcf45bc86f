"""The quick way of plain expressions gives what the way over Python's parser gives, and leaves the rest to it."""

from __future__ import annotations

import itertools

import pytest

from penstock.config import expression
from penstock.config.expression import compiler
from penstock.config.expression.plain import plain_tests
from penstock.config.expression.source import LONGEST_TEXT
from penstock.errors import ExpressionError

_PLAIN = (
    'path.startswith("/a/")',
    "path.startswith('')",
    'path.endswith(".JPG")',
    'host == "A.Example."',
    'host.startswith("Www.")',
    'host.endswith(".Example.")',
    "method == 'GET'",
    """path == "/it's" """.strip(),
    """path.endswith('"')""",
    'path == "*"',
    'scheme == "https"',
    'listener == "web"',
    'sni == "a.example"',
    'alpn == "h2"',
)
_WRONG = (
    'path.startswith("a")',
    'path == "a"',
    'host == "a.example:80"',
    'host == "[::1]:80"',
    'scheme == "ftp"',
    'port == "80"',
    'client == "a"',
    'user == "a"',
    'header == "a"',
    'nonsense.startswith("#")',
    'None == "a"',
    'in == "a"',
    'not.startswith("a")',
    'path == "/" and ',
)
_NOT_PLAIN = (
    "",
    "True",
    "port == 80",
    'path.startswith("/a/") ',
    ' path == "/"',
    'path  == "/"',
    'path == "/" and',
    'path == "/" or host == "a"',
    'not path == "/"',
    'path.in("a")',
    'path.glob("/*")',
    'path == "\\n"',
    'path == "/é"',
    'path == "/a" "b"',
    'path == r"/a"',
    'path == "/a\tb"',
    'path == "/a\x7f"',
    'path == """/a"""',
    'path == "/a"\n',
    'path == "/a") or (path == "/b"',
    'path.startswith(("/a", "/b"))',
    'path.startswith("/a").lower()',
    'client.ip == "10.0.0.1"',
    'path == "/a" == "/b"',
    'path.startswith("/a", "/b")',
)


def _compiled(text: str) -> object:
    try:
        return expression.compile_expression(text)
    except ExpressionError as error:
        return str(error)


def _parsed(text: str) -> object:
    try:
        return compiler._parsed(text, errand=False)
    except ExpressionError as error:
        return str(error)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_plain_expression_compiles_to_what_its_syntax_tree_compiles_to(count: int) -> None:
    for tests in itertools.product(_PLAIN, repeat=count):
        text = " and ".join(tests)
        assert compiler._plainly(text) == _parsed(text), text


@pytest.mark.parametrize("wrong", _WRONG)
def test_mistakes_have_the_message_that_shows_their_place(wrong: str) -> None:
    for text in (wrong, f'path == "/" and {wrong}', f'{wrong} and path == "/"'):
        assert compiler._plainly(text) is None
        assert isinstance(_parsed(text), str)
        assert _compiled(text) == _parsed(text)


@pytest.mark.parametrize("text", _NOT_PLAIN)
def test_what_is_not_plain_is_left_to_the_parser(text: str) -> None:
    assert plain_tests(text) is None
    assert plain_tests(f'path == "/" and {text}') is None
    assert _compiled(text) == _parsed(text)


def test_the_longest_text_is_the_same() -> None:
    longest = 'path == "/' + "a" * (LONGEST_TEXT - 11) + '"'
    assert len(longest) == LONGEST_TEXT
    assert plain_tests(longest)
    for longer in (longest + " ", longest.replace("/", "//")):
        assert plain_tests(longer) is None
        assert "at most" in str(_compiled(longer))


def test_pieces_in_any_order_mean_the_same_on_both_ways() -> None:
    pieces = ("path", "host", "in", ".", "endswith", "(", ")", " == ", '"/a"', "'a'", '"', " and ", "and", " ", "\n")
    taken = 0
    for count in range(1, 6):
        for each in itertools.product(pieces, repeat=count):
            text = "".join(each)
            plain = compiler._plainly(text)
            if plain is not None:
                taken += 1
                assert plain == _parsed(text), text
    assert taken > 10
