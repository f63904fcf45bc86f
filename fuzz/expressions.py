"""The expression compiler under generated and mutated texts, for as long as it is told.

Whatever the text, the compiler gives a predicate or an `ExpressionError` that points into the text, soon; what it
gives, the data plane takes, but for a regular expression that is none. One seed gives one sequence of texts."""

from __future__ import annotations

import json
import random
import time
import warnings
from pathlib import Path
from typing import Any

from fuzz.plan import plan
from penstock.config import compile_expression
from penstock.engine import check
from penstock.errors import ConfigError, ExpressionError

_CORPUS = Path(__file__).parent / "corpus" / "expression"
_PLAN = plan()
_SLOW = 1.0
"""Seconds of CPU that one text may take: a reload compiles thousands."""
_BATCH = 200
"""Predicates that cross into the data plane together."""

_TEXTS = (
    "host",
    "path",
    "method",
    "scheme",
    "listener",
    'header["X-A"]',
    'query["q"]',
    'cookie["c"]',
    "path.lower()",
    'json["/a"]',
)
_NUMBERS = ("port", "client.port", 'json["/n"]')
_PLAIN_WORDS = r"""
client client.ip header query cookie json sni alpn True False None and or not in is if else for lambda
== != < <= > >= = := && || ! & | ( ) [ ] { } , . : # \ ' " ''' -1 80 65536 1.5 0x1F 1_0 9e9 1j b'x' f'{x}'
"/a" "10.0.0.0/8" "::1" r"^/[a-z]+$" "(?i)a|b" "é" "\ud800" "\N{BULLET}" "\d"
.lower() .startswith( .endswith( .matches( .glob(
"""
_WORDS = (*_TEXTS, *_NUMBERS, *_PLAIN_WORDS.split(), "\n", "\t", "\r", "\f", "\x00", "\u2028", "x" * 300)
_REGEXES = (
    "^/a",
    "[a-z]+",
    "(a|b)*c",
    "a{2,5}",
    "(?i)x",
    "(",
    "[",
    "a{9999}{9999}",
    r"\d\w\b",
    r"(?P<n>x)",
    "é",
    r"\p{L}",
)
_DEEP = (("not ", ""), ("(", ")"), ("not (", ")"), ("[", "]"), ('"/a" in ', ""), ("-", ""), ("True and (", ")"))


class FoundError(Exception):
    """A text that breaks a property."""

    def __init__(self, text: str, what: str) -> None:
        """`what` says which."""
        self.text = text
        super().__init__(what)


class Texts:
    """An endless sequence of texts: well formed, nearly, or not at all."""

    def __init__(self, seed: int) -> None:
        """The same seed gives the same sequence."""
        self._dice = random.Random(seed)
        self.known = [path.read_text() for path in sorted(_CORPUS.iterdir())]

    def one(self) -> str:
        """The next text."""
        dice, kind = self._dice, self._dice.random()
        if kind < 0.35:
            return self._test(dice.randint(0, 5))
        if kind < 0.85:
            text = self._test(dice.randint(0, 3)) if dice.random() < 0.7 else dice.choice(self.known)
            for _ in range(dice.randint(1, 4)):
                text = self._mutated(text)
            return text
        if kind < 0.95:
            return dice.choice(("", " ")).join(dice.choice(_WORDS) for _ in range(dice.randint(1, 15)))
        before, behind = dice.choice(_DEEP)
        depth = dice.choice((10, 63, 64, 65, 100, 300, 1000))
        return before * depth + self._test(0) + behind * depth

    def _test(self, depth: int) -> str:
        dice = self._dice
        if depth == 0 or dice.random() < 0.3:
            return self._leaf()
        if dice.random() < 0.3:
            return f"not ({self._test(depth - 1)})"
        joint = dice.choice((" and ", " or ", "\n  and ", "\tor "))
        return joint.join(f"({self._test(depth - 1)})" for _ in range(dice.randint(2, 4)))

    def _leaf(self) -> str:
        dice = self._dice
        value, number = dice.choice(_TEXTS), dice.choice(_NUMBERS)
        several = ", ".join(self._literal() for _ in range(dice.randint(1, 12)))
        return dice.choice(
            (
                f"{value} {dice.choice(('==', '!=', '<', '<=', '>', '>='))} {self._literal()}",
                f"{dice.choice(_TEXTS)} == {value}",
                f"{dice.randint(0, 70000)} < {number} <= {dice.randint(0, 70000)}",
                f"{value} {dice.choice(('in', 'not in'))} [{several}]",
                f"{number} in ({dice.randint(0, 65535)}, {dice.randint(-1, 65536)})",
                f"{self._literal()} {dice.choice(('in', 'not in'))} {value}",
                f'"{dice.choice(("X-A", "a b", "q", ""))}" in {dice.choice(("header", "query", "cookie"))}',
                f"client.ip in [{self._network()}, {self._network()}]",
                f"client.ip == {self._network()}",
                f'{value} {dice.choice(("in", "not in"))} list("{dice.choice(("a", "", "é"))}")',
                'client.ip in list("a")',
                f"{value}.{dice.choice(('startswith', 'endswith'))}(({several}))",
                f"{value}.glob({self._literal()})",
                f"{value}.matches(r{dice.choice(_REGEXES)!r})",
                "True",
            )
        )

    def _literal(self) -> str:
        dice = self._dice
        text = dice.choice(
            ("/", "/a/*", "/**", "a.example", "A.", "GET", "http", "é", "", "*.png", "a:80", "/" + "x" * 50)
        )
        return json.dumps(text, ensure_ascii=dice.random() < 0.5)

    def _network(self) -> str:
        return json.dumps(
            self._dice.choice(("10.0.0.0/8", "::1", "10.0.0.1/8", "::/0", "::ffff:1.2.3.4/128", "1.2.3.4/33", "x"))
        )

    def _mutated(self, text: str) -> str:
        dice = self._dice
        at, to = dice.randint(0, len(text)), dice.randint(0, len(text))
        return dice.choice(
            (
                lambda: text[:at] + text[at + 1 :],
                lambda: text[:at] + dice.choice(_WORDS) + text[at:],
                lambda: text[:at] + chr(dice.choice((dice.randint(0, 127), dice.randint(0, 0x10FFFF)))) + text[at:],
                lambda: text[: min(at, to)] + text[max(at, to) :],
                lambda: text[:at] + text[to:],
                lambda: text[:at],
                lambda: text * dice.randint(2, 5),
                lambda: text.replace('"', dice.choice(("'", "", "'''", '\\"')), dice.randint(1, 3)),
            )
        )()


def run(seconds: float, seed: int) -> tuple[int, int, str]:
    """Fuzz for `seconds`, or until something is found: texts tried, expressions among them, and the finding."""
    texts, end = Texts(seed), time.monotonic() + seconds
    tried, compiled = 0, 0
    waiting: list[tuple[str, Any]] = []
    # A warning that gets out of the compiler would be printed into somebody's log.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            for text in texts.known:
                waiting += _compiled(text)
            while time.monotonic() < end:
                waiting += (found := _compiled(texts.one()))
                tried, compiled = tried + 1, compiled + len(found)
                if len(waiting) >= _BATCH:
                    _cross(waiting)
                    waiting = []
            _cross(waiting)
        except FoundError as finding:
            return tried, compiled, f"{finding}\n  the text, cut down: {_smallest(finding)!r}"
    return tried, compiled, ""


def _compiled(text: str) -> list[tuple[str, Any]]:
    """The text with its predicate, if it is an expression. Raises `FoundError`."""
    start = time.process_time()
    try:
        # Past the memory of texts that were compiled before, which would fill up.
        found = [(text, compile_expression.__wrapped__(text))]
    except ExpressionError as error:
        _check_refusal(text, error)
        found = []
    except Exception as error:
        raise FoundError(text, f"{type(error).__name__}: {error}") from error
    if (took := time.process_time() - start) > _SLOW:
        raise FoundError(text, f"took {took:.1f} s")
    return found


def _check_refusal(text: str, error: ExpressionError) -> None:
    start, end = error.span
    if not 0 <= start <= end <= len(text) + 1:
        raise FoundError(text, f"the refusal points at {error.span}")
    if error.column < 1 or error.line < 1 or "^" not in str(error) or not error.message:
        raise FoundError(text, f"the refusal says {error}")


def _cross(batch: list[tuple[str, Any]]) -> None:
    """What the compiler takes, the data plane takes."""
    if not batch:
        return
    try:
        _check_plan(batch)
    except ConfigError:
        for text, predicate in batch:
            try:
                _check_plan([(text, predicate)])
            except ConfigError as error:
                # Whether a regular expression is one, only the crate that runs it can say; lists, none are there.
                known = ("regular expression", "looks into the list")
                wrong = [one.message for one in error.faults if not any(word in one.message for word in known)]
                if wrong:
                    raise FoundError(text, f"the data plane refuses it: {wrong[0]}") from None


def _check_plan(batch: list[tuple[str, Any]]) -> None:
    route = _PLAN["routes"][0]
    routes = [
        {**route, "name": f"route-{n}", "match": {"text": text, "predicate": predicate}}
        for n, (text, predicate) in enumerate(batch)
    ]
    check(json.dumps({**_PLAN, "routes": routes}))


def _smallest(finding: FoundError) -> str:
    """The text with everything cut away that the finding does not need."""
    text, size = finding.text, len(finding.text) // 2
    while size:
        at = 0
        while at < len(text):
            shorter = text[:at] + text[at + size :]
            if _still_found(shorter):
                text = shorter
            else:
                at += size
        size //= 2
    return text


def _still_found(text: str) -> bool:
    try:
        _cross(_compiled(text))
    except FoundError:
        return True
    return False
