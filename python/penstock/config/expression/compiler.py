"""From an expression's syntax tree to a predicate: tests, their types, and what a missing value means."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from typing import Any

from penstock.config import texts
from penstock.config.expression.plain import PlainTest, plain_tests
from penstock.config.expression.source import Source
from penstock.config.expression.values import (
    METHODS,
    PLAIN,
    TABLES,
    Predicate,
    Type,
    Value,
    as_type,
    read_field,
    read_network,
    read_text,
    read_value,
)
from penstock.errors import ExpressionError

# With two levels of JSON for each and a few for a leaf, a plan stays below the 128 that its reader allows.
_DEEPEST = 50
_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
Wrong = tuple[str, str] | None
"""A mistake, as what it is and what was expected."""
_SCHEMES = ("http", "https")
_PROTOCOLS = ("tcp", "udp")
_MEDIA_TYPE = re.compile(r"[^\s/;,]+/[^\s/;,]+")
_HOST_WITH_PORT = re.compile(r"[^\[\]:]+:[0-9]+|\[.*\]:[0-9]+")

_NO_TESTS: tuple[tuple[Any, str, str], ...] = (
    (ast.Tuple | ast.List | ast.Set, "a list is not a test", 'tests joined by "and" or "or"'),
    (ast.IfExp, '"if … else" is not of the language', '"and", "or" and "not"'),
)


# A reload compiles what the load before it compiled, but for a few routes: by text, those cost a look-up. 32768 texts
# of ordinary length are a few dozen MB; errors are not kept.
@lru_cache(maxsize=32768)
def compile_expression(text: str, *, errand: bool = False) -> Predicate:
    """Compile one expression, of a rule of a forward proxy if it is for an `errand`. Raises `ExpressionError`. The
    result is shared between callers and must not be changed."""
    return _plainly(text) or _parsed(text, errand=errand)


def _plainly(text: str) -> Predicate | None:
    """The predicate of a plain expression without a mistake."""
    found = plain_tests(text)
    if found is None:
        return None
    tests = [_plain(test) for test in found]
    if None in tests:
        return None
    return tests[0] if len(tests) == 1 else {"and": tests}


def _plain(test: PlainTest) -> Predicate | None:
    value = PLAIN.get(test.name)
    if value is None or value.type is not Type.TEXT:
        return None
    if test.method is None:
        text, wrong = _fitted(test.text, value, exact=True)
        right = {"text": text}
        predicate = {"compare": {"left": value.operand, "operator": "==", "right": right, "at": test.at}}
    else:
        text, wrong = _affix(test.text, value, test.method)
        predicate = _of_method(test.method, value, [text], test.at)
    return None if wrong else predicate


def _parsed(text: str, *, errand: bool) -> Predicate:
    source = Source(text, errand=errand)
    return source.walk(lambda tree: _Compiler(source).test(tree, 1))


class _Compiler:
    """Walks one tree. Methods are named after what they compile."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def test(self, node: ast.expr, depth: int) -> Predicate:
        """Anything that is true or false."""
        if depth > _DEEPEST:
            raise self.source.error(node, f"tests are nested deeper than {_DEEPEST}")
        if isinstance(node, ast.Compare):
            return self.comparison(node)
        if isinstance(node, ast.BoolOp):
            key = "and" if isinstance(node.op, ast.And) else "or"
            return {key: [self.test(value, depth + 1) for value in node.values]}
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return {"not": self.test(node.operand, depth + 1)}
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return {"constant": node.value}
        raise self.not_a_test(node)

    def comparison(self, node: ast.Compare) -> Predicate:
        """`a == b`, `a < b < c`, `a in b`: each pair is one test."""
        sides = [node.left, *node.comparators]
        tests = [self.pair(node, sides[i], node.ops[i], sides[i + 1]) for i in range(len(node.ops))]
        return tests[0] if len(tests) == 1 else {"and": tests}

    def pair(self, whole: ast.Compare, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> Predicate:
        """One test of a comparison that may be a chain."""
        at = list(self.source.span(whole))
        if len(whole.ops) > 1:
            at = [self.source.span(left)[0], self.source.span(right)[1]]
        if isinstance(operator, ast.In | ast.NotIn):
            return self.membership(left, right, at, negated=isinstance(operator, ast.NotIn))
        if isinstance(operator, ast.Is | ast.IsNot):
            raise self.source.error(whole, '"is" is not of the language', '"==" or "!="')
        return self.relation(left, _OPERATORS[type(operator)], right, at)

    def relation(self, left: ast.expr, operator: str, right: ast.expr, at: list[int]) -> Predicate:
        """`==`, `!=` and the orders."""
        for side in (left, right):
            if isinstance(side, ast.List | ast.Tuple | ast.Set):
                raise self.source.error(side, f'a list cannot be compared with "{operator}"', '"in" before a list')
        for side, opposite in ((left, right), (right, left)):
            if isinstance(side, ast.Constant) and (side.value is None or isinstance(side.value, bool)):
                return self.json_is(opposite, operator, side.value, at)
        first, second = read_value(self.source, left), read_value(self.source, right)
        if first.type is second.type is Type.JSON:
            raise self.source.error(right, "both sides are values of JSON, whose types are not known", "a literal")
        first, second = as_type(first, second.type), as_type(second, first.type)
        if first.literal is not None and second.literal is not None:
            raise self.source.error(left, "both sides are literals", "a value of the request on one side")
        if Type.ADDRESS in (first.type, second.type):
            return self.address(left, operator, right, at)
        if first.type is not second.type:
            wrong, value, other = (left, first, second) if first.literal is not None else (right, second, first)
            raise self.mismatch(wrong, value, other)
        exact = operator in ("==", "!=")
        comparison = {
            "left": self.fit(left, first, second, exact=exact).operand,
            "operator": operator,
            "right": self.fit(right, second, first, exact=exact).operand,
            "at": at,
        }
        return {"compare": comparison}

    def json_is(self, node: ast.expr, operator: str, constant: bool | None, at: list[int]) -> Predicate:
        """`json["/flag"] == True`, `json["/none"] != None`."""
        value = read_value(self.source, node)
        if value.type is not Type.JSON or operator not in ("==", "!="):
            expected = 'json["/flag"] == True' if value.type is not Type.JSON else '"==" or "!="'
            raise self.source.error(node, f"{value.shown} cannot be compared so with {constant}", expected)
        test: Predicate = {"json_is": {"pointer": value.operand["field"]["json"], "value": constant, "at": at}}
        return test if operator == "==" else _absent(test, at, value)

    def address(self, left: ast.expr, operator: str, right: ast.expr, at: list[int]) -> Predicate:
        """`client.ip == "10.0.0.1"`."""
        client_first = isinstance(left, ast.Attribute)
        client, other = (left, right) if client_first else (right, left)
        if operator not in ("==", "!="):
            raise self.source.error(client, "addresses have no order", 'client.ip in ["10.0.0.0/8"]')
        networks = [read_network(self.source, other, single=True)]
        test = _in_networks(read_value(self.source, client), networks, at)
        return test if operator == "==" else {"not": test}

    def membership(self, left: ast.expr, right: ast.expr, at: list[int], *, negated: bool) -> Predicate:
        """`value in [...]`, `"part" in value`, `"name" in header`."""
        if isinstance(right, ast.Name) and right.id in TABLES:
            test: Predicate = {"exists": {"field": read_field(self.source, right.id, left), "at": at}}
            return {"not": test} if negated else test
        if isinstance(right, ast.List | ast.Tuple | ast.Set):
            return self.in_list(left, right.elts, right, negated=negated, at=at)
        if isinstance(right, ast.Call) and isinstance(right.func, ast.Name) and right.func.id == "list":
            return self.in_named_list(left, right, at, negated=negated)
        if isinstance(right, ast.Constant) and isinstance(right.value, str):
            raise self.source.error(
                right, 'a single text after "in" would look for a part of it', "[…], or == to compare"
            )
        value, part = (as_type(read_value(self.source, side), Type.TEXT) for side in (right, left))
        if value.type is Type.ADDRESS or part.type is Type.ADDRESS:
            raise self.source.error(right, "an address is looked for in a list", 'client.ip in ["10.0.0.0/8"]')
        for side, found in ((right, value), (left, part)):
            if found.type is not Type.TEXT:
                raise self.source.error(side, f"{found.shown} is {found.type.value}", "a text")
        part = self.fit(left, part, value, exact=False)
        test = {"contains": {"value": value.operand, "part": part.operand, "at": at}}
        return _absent(test, at, value, part) if negated else test

    def in_list(
        self, left: ast.expr, members: list[ast.expr], right: ast.expr, *, negated: bool, at: list[int]
    ) -> Predicate:
        """`value in ["a", "b"]`, `client.ip in ["10.0.0.0/8"]`."""
        if not members:
            raise self.source.error(right, "the list is empty", "at least one member")
        value = read_value(self.source, left)
        if value.literal is not None:
            raise self.source.error(left, "both sides are literals", "a value of the request before in")
        if value.type is Type.ADDRESS:
            networks = [read_network(self.source, member, single=False) for member in members]
            test = _in_networks(value, networks, at)
            return {"not": test} if negated else test
        literals = []
        for member in members:
            found = read_value(self.source, member)
            value = as_type(value, found.type)
            if found.literal is None:
                raise self.source.error(member, "a list holds literals only", value.type.value)
            if found.type is not value.type:
                raise self.mismatch(member, found, value)
            literals.append(self.fit(member, found, value, exact=True).operand)
        test = {"in": {"value": value.operand, "set": literals, "at": at}}
        return _absent(test, at, value) if negated else test

    def in_named_list(self, left: ast.expr, right: ast.Call, at: list[int], *, negated: bool) -> Predicate:
        """`host in list("social")`. Which lists there are, and of what kind, is not known here (`check_lists.py`)."""
        if len(right.args) != 1 or right.keywords:
            raise self.source.error(right, "list() takes the name of one list", 'list("social")')
        name = read_text(self.source, right.args[0], 'the name of a list, as list("social")')
        value = as_type(read_value(self.source, left), Type.TEXT)
        if value.literal is not None:
            raise self.source.error(left, "both sides are literals", "a value of the request before in")
        if value.type not in (Type.TEXT, Type.ADDRESS):
            raise self.source.error(left, f"{value.shown} is {value.type.value}", "a text such as host, or client.ip")
        test: Predicate = {"in_list": {"value": value.operand, "list": name, "at": at}}
        if value.operand == "dest_ip":
            test = {"dest_in_list": {"list": name, "at": at}}
        if value.type is Type.ADDRESS:
            return {"not": test} if negated else test
        return _absent(test, at, value) if negated else test

    def call(self, node: ast.Call) -> Predicate:
        """`value.startswith(…)` and the other methods that test."""
        function = node.func
        if not isinstance(function, ast.Attribute):
            raise self.source.error(
                node, "functions cannot be called", 'a method of a value, as path.startswith("/a/")'
            )
        name = function.attr
        if name not in METHODS:
            if isinstance(function.value, ast.Name) and function.value.id in TABLES:
                raise self.source.error(
                    node, f"{function.value.id}.{name}() is not of the language", f'{function.value.id}["name"]'
                )
            raise self.source.error(
                node,
                f"unknown method .{name}(){texts.nearest(name, METHODS)}",
                "one of " + ", ".join(f".{m}()" for m in METHODS),
            )
        if name == "lower":
            raise self.not_a_test(node)
        value = as_type(read_value(self.source, function.value), Type.TEXT)
        if value.type is Type.ADDRESS:
            raise self.source.error(
                node, f"{value.shown} is an address, not a text", f'{value.shown} in ["10.0.0.0/8"]'
            )
        if value.type is not Type.TEXT or value.literal is not None:
            raise self.source.error(function.value, f"{value.shown} has no .{name}()", "a text of the request")
        if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
            raise self.source.error(node, f".{name}() takes one text")
        return self.method(name, value, node.args[0], list(self.source.span(node)))

    def method(self, name: str, value: Value, argument: ast.expr, at: list[int]) -> Predicate:
        """A method with its one argument."""
        if name == "matches":
            regex = read_text(self.source, argument, 'a regular expression such as r"^/user/[0-9]+$"')
            return {"matches": {"value": value.operand, "regex": regex, "at": at}}
        if name == "glob":
            pattern = self.affix(value, argument, "glob")
            return {"glob": {"value": value.operand, "pattern": pattern, "at": at}}
        texts = list(argument.elts) if isinstance(argument, ast.Tuple | ast.List) else [argument]
        if not texts:
            raise self.source.error(argument, "the list is empty", "at least one text")
        return _of_method(name, value, [self.affix(value, text, name) for text in texts], at)

    def affix(self, value: Value, node: ast.expr, name: str) -> str:
        """The text that a method looks for, in the form that the value has."""
        text = read_text(self.source, node, "a text, or several in parentheses" if name != "glob" else "a pattern")
        text, wrong = _affix(text, value, name)
        if wrong:
            raise self.source.error(node, *wrong)
        return text

    def fit(self, node: ast.expr, value: Value, other: Value, *, exact: bool) -> Value:
        """A literal in the form that the value beside it has; refused where the test could never be true."""
        literal = value.literal
        if literal is None:
            return value
        if isinstance(literal, int):
            if other.base != "json" and not 0 <= literal <= 65535:
                raise self.source.error(node, f"{other.shown} is never {literal}", "a port, 0 to 65535")
            return value
        literal, wrong = _fitted(literal, other, exact=exact)
        if wrong:
            raise self.source.error(node, *wrong)
        return Value(value.type, {"text": literal}, value.shown, literal=literal)

    def mismatch(self, node: ast.expr, value: Value, other: Value) -> ExpressionError:
        """The error for a value whose type is not that of the other side."""
        message = f"{other.shown} is {other.type.value}, this is {value.type.value}"
        return self.source.error(node, message, other.type.value)

    def not_a_test(self, node: ast.expr) -> ExpressionError:
        """The error for a piece of syntax that is no test, with what was probably meant."""
        for kind, message, expected in _NO_TESTS:
            if isinstance(node, kind):
                return self.source.error(node, message, expected)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr):
            word, sign = ("and", "&") if isinstance(node.op, ast.BitAnd) else ("or", "|")
            return self.source.error(node, f'"{sign}" is not of the language', f'"{word}"')
        if isinstance(node, ast.Name) and node.id in TABLES:
            return self.source.error(node, f"{node.id} alone is not a test", f'"name" in {node.id}')
        try:
            value = read_value(self.source, node)
        except ExpressionError as failure:
            return failure
        expected = f"a comparison, such as {value.shown} == …"
        if value.literal is not None:
            expected = f"a comparison, such as host == {ast.unparse(node)[:40]}"
        elif isinstance(value.operand, dict) and "field" in value.operand:
            ((table, name),) = value.operand["field"].items()
            expected = f'"{name}" in {table}, or a comparison'
        return self.source.error(node, f"{value.shown} alone is not a test", expected)


def _affix(text: str, value: Value, name: str) -> tuple[str, Wrong]:
    """The text that a method looks for, in the form that the value has, and what is wrong with it."""
    if value.base == "response.content_type":
        return text.lower(), None
    if value.base == "host":
        text = text.lower()
        return (text if name == "startswith" else text.removesuffix(".")), None
    if wrong := _capitals(text, value):
        return text, wrong
    if value.base == "path" and name != "endswith" and text[:1] not in ("", "/", "*", "?"):
        return text, ("a path begins with /", f'"/{text}"')
    return text, None


def _fitted(literal: str, other: Value, *, exact: bool) -> tuple[str, Wrong]:
    """A literal in the form that the value beside it has, and why the test could never be true."""
    if other.base == "host":
        if exact and _HOST_WITH_PORT.fullmatch(literal):
            return literal, ("host has no port", "the host alone, and a test of port beside it")
        literal = literal.lower()
        return (literal.removesuffix(".") if exact else literal), None
    if exact and (expected := _never(literal, other)):
        return literal, (f'{other.base} is never "{literal}"', expected)
    if other.base == "response.content_type":
        return literal.lower(), None
    return literal, _capitals(literal, other)


def _never(literal: str, other: Value) -> str | None:
    """What the value can be, if it can never be this."""
    if other.base == "scheme" and literal not in _SCHEMES:
        return '"http" or "https"'
    if other.base == "dest.protocol" and literal not in _PROTOCOLS:
        return '"tcp" or "udp"'
    if other.base == "path" and literal != "*" and not literal.startswith("/"):
        return f'"/{literal}"'
    if other.base == "response.content_type" and not _MEDIA_TYPE.fullmatch(literal):
        return 'a type without parameters, such as "text/html"'
    return None


def _capitals(literal: str, value: Value) -> Wrong:
    """A lowered value has no capitals, so a literal with some is never found in it."""
    if isinstance(value.operand, dict) and "lower" in value.operand and literal != _lowered(literal):
        return f"{value.shown} has no capital letters", f'"{_lowered(literal)}"'
    return None


def _of_method(name: str, value: Value, affixes: list[str], at: list[int]) -> Predicate:
    if name == "startswith":
        return {"starts_with": {"value": value.operand, "prefixes": affixes, "at": at}}
    return {"ends_with": {"value": value.operand, "suffixes": affixes, "at": at}}


def _in_networks(address: Value, networks: list[str], at: list[int]) -> Predicate:
    kind = "dest_in_networks" if address.operand == "dest_ip" else "in_networks"
    return {kind: {"networks": networks, "at": at}}


def _lowered(text: str) -> str:
    """Lower case of ASCII letters only, as the data plane does it."""
    return text.encode().lower().decode()


def _absent(test: Predicate, at: list[int], *values: Value) -> Predicate:
    """`not in`: the opposite of a test, but false where a value is missing, as every test is."""
    tests: list[Predicate] = [_placed(value.presence, at) for value in values if value.presence is not None]
    opposite = {"not": test}
    return {"and": [*tests, opposite]} if tests else opposite


def _placed(presence: Predicate, at: list[int]) -> Predicate:
    ((kind, content),) = presence.items()
    placed: dict[str, Any] = {**content, "at": at}
    return {kind: placed}
