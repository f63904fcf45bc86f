"""The text of one expression: parsing, and from syntax nodes back to characters."""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING, TypeVar

from penstock.errors import ExpressionError

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_TEXT = 8192
"""Characters of an expression."""

T = TypeVar("T")
_LINE_END = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# Texts for which Python's tokenizer warns: an unknown escape, or a number that runs into a word.
_MAY_WARN = re.compile(r"\\|[0-9][A-Za-z_]")
# What people write who know another language, and what this one says.
_HINTS = (
    (re.compile(r"&&"), 'write "and" for "&&"'),
    (re.compile(r"\|\|"), 'write "or" for "||"'),
    (re.compile(r"!(?!=)"), 'write "not" for "!"'),
    (re.compile(r"(?<![=!<>:])=(?![=~])"), 'write "==" to compare'),
    (re.compile(r"=~|~"), 'write value.matches(r"…") for a regular expression'),
)
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)


class Source:
    """One expression's text with its syntax tree."""

    def __init__(self, text: str, *, errand: bool = False) -> None:
        """Parse. Raises `ExpressionError` for everything that is not one Python expression."""
        if len(text) > LONGEST_TEXT:
            what = f"an expression has at most {LONGEST_TEXT} characters"
            raise ExpressionError(text, (LONGEST_TEXT, len(text)), what)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ExpressionError(text, (error.start, error.end), "half of a surrogate pair is no character") from None
        self.text = text
        self.errand = errand
        """Whether it is asked of a request of a forward proxy, which has values that others have not."""
        self._simple = text.isascii() and "\n" not in text and "\r" not in text
        self._lines: list[tuple[int, str]] | None = None
        if found := _FORBIDDEN.search(text):
            raise ExpressionError(text, found.span(), "an expression has no control characters")
        if not text.strip():
            raise ExpressionError(text, (0, len(text)), "the expression is empty", 'a test such as path == "/"')
        self.tree = self._parse()

    def walk(self, read: Callable[[ast.expr], T]) -> T:
        """What `read` makes of the tree. Raises `ExpressionError` for one that is too deep to be walked."""
        try:
            return read(self.tree)
        except RecursionError:
            raise self.error(self.tree, "the expression is nested too deeply") from None

    def span(self, node: ast.expr) -> tuple[int, int]:
        """First and one-past-last character of a node."""
        # Every node that ast.parse makes from text carries its end.
        end_line, end_column = node.end_lineno or 1, node.end_col_offset or 0
        if self._simple:
            limit = len(self.text)
            return max(node.col_offset - 1, 0), min(max(end_column - 1, 0), limit)
        return self._offset(node.lineno, node.col_offset), self._offset(end_line, end_column)

    def error(self, node: ast.expr, message: str, expected: str = "") -> ExpressionError:
        """A mistake at this node."""
        return ExpressionError(self.text, self.span(node), message, expected)

    def _parse(self) -> ast.expr:
        # Parentheses around the text let it run over several lines; the line end keeps a comment from hiding the last
        # one.
        wrapped = f"({self.text}\n)"
        try:
            if _MAY_WARN.search(self.text):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    tree = ast.parse(wrapped, mode="eval").body
            else:
                tree = ast.parse(wrapped, mode="eval").body
        except SyntaxError as error:
            raise self._syntax_error(error) from None
        except (ValueError, RecursionError, MemoryError, Warning):
            raise ExpressionError(self.text, (0, len(self.text)), "this cannot be read as an expression") from None
        # A tree that begins with the added parenthesis means that the text closed it: `a) or (b`.
        if tree.lineno == 1 and tree.col_offset == 0 and not isinstance(tree, ast.Tuple | ast.GeneratorExp):
            place = _unbalanced(self.text)
            raise ExpressionError(self.text, (place, place + 1), "a closing parenthesis has no opening one")
        return tree

    def _syntax_error(self, error: SyntaxError) -> ExpressionError:
        start = self._offset(error.lineno or 1, -1) + max((error.offset or 1) - 1, 0)
        if (error.lineno or 1) == 1:
            start -= 1
        start = min(max(start, 0), len(self.text))
        message = (error.msg or "invalid syntax").partition(" Maybe you meant")[0].rstrip(".")
        message = message.replace("invalid syntax. Perhaps you forgot a comma?", "invalid syntax")
        if message.startswith("Exceeds the limit"):
            return ExpressionError(self.text, (start, start + 1), "the number is too large", "a port, 0 to 65535")
        if "escape sequence" in message:
            return ExpressionError(
                self.text, (start, start + 1), "unknown escape in a text", 'r"…" for a regular expression'
            )
        bare = _TEXT.sub(lambda found: " " * len(found[0]), self.text)
        for pattern, hint in _HINTS:
            if found := pattern.search(bare):
                return ExpressionError(self.text, found.span(), hint)
        if start >= len(self.text.rstrip()) or "never closed" in message or "')'" in message:
            if (place := _unbalanced(self.text)) < len(self.text):
                start = place
                message = "a parenthesis, bracket or text is not balanced"
            else:
                message = "the expression ends too early"
        return ExpressionError(self.text, (start, min(start + 1, len(self.text))), message)

    def _offset(self, line: int, column: int) -> int:
        """Character for a line (from 1) and a column in bytes of the wrapped text; column -1 is the line's begin."""
        if self._lines is None:
            # Python's tokenizer takes all three line ends for one, and so must we to count lines as it does.
            self._lines, begin = [], 0
            for found in _LINE_END.finditer(self.text):
                self._lines.append((begin, self.text[begin : found.start()]))
                begin = found.end()
            self._lines.append((begin, self.text[begin:]))
        if line > len(self._lines):
            return len(self.text)
        begin, content = self._lines[line - 1]
        if column < 0:
            return begin
        if line == 1:
            column = max(column - 1, 0)
        return begin + len(content.encode(errors="surrogatepass")[:column].decode(errors="ignore"))


def _unbalanced(text: str) -> int:
    """Place of the first bracket without its partner, or the text's length."""
    opened: list[tuple[str, int]] = []
    partner = {")": "(", "]": "[", "}": "{"}
    bare = _TEXT.sub(lambda found: " " * len(found[0]), text)
    for place, character in enumerate(bare):
        if character in "([{":
            opened.append((character, place))
        elif character in partner:
            if not opened or opened.pop()[0] != partner[character]:
                return place
        elif character in "'\"":
            return place
    return opened[-1][1] if opened else len(text)
