"""What an expression can name: values of a request with their types, and literals."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from penstock.config import texts

if TYPE_CHECKING:
    from penstock.config.expression.source import Source

Predicate = dict[str, Any]
"""A tree in the shape of `crates/plan/src/predicate.rs`. Shared between plans: never changed."""

Operand = Any
"""An operand in the shape of the same file: a text for a plain name, a table for the rest."""


class Type(Enum):
    """The types of the language; the value is how a message speaks of it."""

    TEXT = "a text"
    NUMBER = "a number"
    ADDRESS = "an address"
    JSON = "a value of JSON"
    """Takes the type of what it is compared with."""


@dataclass(frozen=True, slots=True)
class Value:
    """One side of a test."""

    type: Type
    operand: Operand
    shown: str
    """How messages name it."""
    presence: Predicate | None = None
    """Without its place: what is true exactly if the request has the value. `None`: it always has."""
    literal: str | int | None = None
    """The value of a literal, `None` for a value of the request."""
    base: str = ""
    """For a value of the request: the plain name that it comes from, for rules of single names."""


# Values that every request has, or whose absence reads as empty, need no test of presence. A number is missing on a
# unix socket and the host in HTTP/1.0; "at least the smallest" is true exactly if they are there.
PLAIN = {
    "host": Value(
        Type.TEXT, "host", "host", {"compare": {"left": "host", "operator": ">=", "right": {"text": ""}}}, base="host"
    ),
    "path": Value(Type.TEXT, "path", "path", base="path"),
    "method": Value(Type.TEXT, "method", "method", base="method"),
    "scheme": Value(Type.TEXT, "scheme", "scheme", base="scheme"),
    "sni": Value(
        Type.TEXT, "sni", "sni", {"compare": {"left": "sni", "operator": ">=", "right": {"text": ""}}}, base="sni"
    ),
    "alpn": Value(
        Type.TEXT, "alpn", "alpn", {"compare": {"left": "alpn", "operator": ">=", "right": {"text": ""}}}, base="alpn"
    ),
    "listener": Value(Type.TEXT, "listener", "listener", base="listener"),
    "port": Value(
        Type.NUMBER,
        "port",
        "port",
        {"compare": {"left": "port", "operator": ">=", "right": {"number": 0}}},
        base="port",
    ),
}
_CLIENT = {
    "ip": Value(Type.ADDRESS, "client_ip", "client.ip", base="client.ip"),
    "port": Value(
        Type.NUMBER,
        "client_port",
        "client.port",
        {"compare": {"left": "client_port", "operator": ">=", "right": {"number": 0}}},
        base="client.port",
    ),
}
_CERTIFICATE = {
    name: Value(
        Type.TEXT,
        operand,
        f"tls.client.{name}",
        {"compare": {"left": operand, "operator": ">=", "right": {"text": ""}}},
        base=f"tls.client.{name}",
    )
    for name, operand in (
        ("subject", "client_subject"),
        ("san", "client_names"),
        ("fingerprint", "client_fingerprint"),
    )
}


def _number(operand: str, shown: str) -> Value:
    presence = {"compare": {"left": operand, "operator": ">=", "right": {"number": 0}}}
    return Value(Type.NUMBER, operand, shown, presence, base=shown)


_ERRAND = {
    # A missing user makes every test false.
    "user": {
        "": Value(
            Type.TEXT,
            "user",
            "user",
            {"compare": {"left": "user", "operator": ">=", "right": {"text": ""}}},
            base="user",
        )
    },
    # What a request of a forward proxy names is its host.
    "dest": {
        "host": replace(PLAIN["host"], shown="dest.host"),
        "ip": Value(Type.ADDRESS, "dest_ip", "dest.ip", base="dest.ip"),
        "port": _number("dest_port", "dest.port"),
        # Always there where it can be asked for.
        "protocol": Value(Type.TEXT, "dest_protocol", "dest.protocol", base="dest.protocol"),
    },
    "time": {
        "hour": _number("time_hour", "time.hour"),
        "weekday": _number("time_weekday", "time.weekday"),
    },
    # Known when the head of the answer is there: a rule that asks for it waits until then.
    "response": {
        "content_type": Value(
            Type.TEXT,
            "response_type",
            "response.content_type",
            {"compare": {"left": "response_type", "operator": ">=", "right": {"text": ""}}},
            base="response.content_type",
        )
    },
}
"""Values that only a request of a forward proxy has, by their two names."""
TABLES = ("header", "query", "cookie", "json")
METHODS = ("startswith", "endswith", "lower", "matches", "glob")
NAMES = (*PLAIN, *TABLES, "client.ip", "client.port", *(f"tls.client.{name}" for name in _CERTIFICATE))
ERRAND_NAMES = tuple(value.shown for values in _ERRAND.values() for value in values.values())
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_LONGEST_POINTER = 32
_NUMBERS = (-(1 << 63), (1 << 63) - 1)


def read_value(source: Source, node: ast.expr) -> Value:
    """A literal or a value of the request. Raises `ExpressionError` for anything else."""
    if isinstance(node, ast.Name):
        return _name(source, node)
    if isinstance(node, ast.Constant | ast.UnaryOp):
        return _literal(source, node)
    if isinstance(node, ast.Attribute):
        return _attribute(source, node)
    if isinstance(node, ast.Subscript):
        return _subscript(source, node)
    if isinstance(node, ast.Call):
        return _lower(source, node)
    raise source.error(node, f"{_kind(node)} is not a value", 'a name such as host, or a literal such as "x" or 80')


def read_text(source: Source, node: ast.expr, what: str) -> str:
    """A literal text. `what` completes the message: "expected …"."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        raise source.error(node, f"{_kind(node)} cannot stand here", what)
    try:
        node.value.encode()
    except UnicodeEncodeError:
        raise source.error(node, "the text holds half of a surrogate pair, which is no character") from None
    return node.value


def read_network(source: Source, node: ast.expr, *, single: bool) -> str:
    """A literal address or network, as a network. `single` refuses a network of several addresses."""
    text = read_text(source, node, 'an address such as "10.0.0.1" or a network such as "10.0.0.0/8"')
    try:
        network = texts.read_network(text)
    except ValueError as error:
        raise source.error(node, str(error)) from None
    if single and "/" in text:
        raise source.error(node, "one address is compared with a network", f'client.ip in ["{text}"]')
    return network


def as_type(value: Value, wanted: Type) -> Value:
    """A value of JSON as one of this type: whatever else stands in the body then counts as missing. Other values stay
    as they are."""
    if value.type is not Type.JSON or wanted not in (Type.TEXT, Type.NUMBER):
        return value
    operand: Operand = value.operand
    least: Operand = {"text": ""}
    if wanted is Type.NUMBER:
        operand, least = {"json_number": value.operand["field"]["json"]}, {"number": _NUMBERS[0]}
    presence = {"compare": {"left": operand, "operator": ">=", "right": least}}
    return Value(wanted, operand, value.shown, presence, base=value.base)


def unknown_name(source: Source, node: ast.expr, name: str) -> Exception:
    """The error for a name that the language does not have."""
    names = (*NAMES, *ERRAND_NAMES) if source.errand else NAMES
    return source.error(node, f'unknown name "{name}"{texts.nearest(name, names)}', f"one of {', '.join(names)}")


def _of_errand(source: Source, node: ast.expr, name: str, below: str) -> Value:
    """`dest.host`: a value of a forward proxy's request."""
    values = _ERRAND[name]
    shown = " or ".join(value.shown for value in values.values())
    if not source.errand:
        raise source.error(node, f'{name} is known to rules of a listener of "forward" alone')
    if below not in values:
        what = f'{name} has no "{below}"' if below else f"{name} is not a value"
        raise source.error(node, what, shown)
    return values[below]


def _name(source: Source, node: ast.Name) -> Value:
    if value := PLAIN.get(node.id):
        return value
    if node.id in _ERRAND:
        return _of_errand(source, node, node.id, "")
    if node.id in TABLES:
        raise source.error(node, f"{node.id} is a table, not a value", f'{node.id}["name"], or "name" in {node.id}')
    if node.id == "client":
        raise source.error(node, "client is not a value", "client.ip or client.port")
    raise unknown_name(source, node, node.id)


def _literal(source: Source, node: ast.Constant | ast.UnaryOp) -> Value:
    sign = 1
    constant: ast.expr = node
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, constant = -1, node.operand
    value = constant.value if isinstance(constant, ast.Constant) else None
    if isinstance(value, str) and sign == 1:
        text = read_text(source, constant, "a text")
        return Value(Type.TEXT, {"text": text}, "a text", literal=text)
    if isinstance(value, int) and not isinstance(value, bool):
        if not _NUMBERS[0] <= sign * value <= _NUMBERS[1]:
            raise source.error(node, "the number is too large", "a port, 0 to 65535")
        return Value(Type.NUMBER, {"number": sign * value}, "a number", literal=sign * value)
    raise source.error(node, f"{_kind(node)} is not a value of the language", 'a text such as "x" or a whole number')


def _attribute(source: Source, node: ast.Attribute) -> Value:
    if isinstance(node.value, ast.Name) and node.value.id == "client":
        if value := _CLIENT.get(node.attr):
            return value
        raise source.error(node, f'client has no "{node.attr}"', "client.ip or client.port")
    if isinstance(node.value, ast.Name) and node.value.id in _ERRAND and node.attr not in METHODS:
        return _of_errand(source, node, node.value.id, node.attr)
    if ast.unparse(node.value) == "tls.client":
        if value := _CERTIFICATE.get(node.attr):
            return value
        names = ", ".join(f"tls.client.{name}" for name in _CERTIFICATE)
        raise source.error(node, f'tls.client has no "{node.attr}"', names)
    if node.attr in METHODS:
        raise source.error(node, f".{node.attr} is not called", f".{node.attr}(…)")
    if isinstance(node.value, ast.Name) and node.value.id in TABLES:
        table = node.value.id
        raise source.error(node, f'{table} has no ".{node.attr}"', f'{table}["{node.attr}"]')
    read_value(source, node.value)
    raise source.error(node, f'a value has no ".{node.attr}"', "one of " + ", ".join(f".{m}()" for m in METHODS))


def _subscript(source: Source, node: ast.Subscript) -> Value:
    if not isinstance(node.value, ast.Name):
        raise source.error(node, "only header, query, cookie and json are read with [ ]", 'header["Name"]')
    table = node.value.id
    if table not in TABLES:
        if table in PLAIN or table == "client":
            raise source.error(node, f"{table} is not a table", 'header["Name"], query["name"] or cookie["name"]')
        raise unknown_name(source, node.value, table)
    field = read_field(source, table, node.slice)
    name = field[table]
    if table == "json":
        return Value(Type.JSON, {"field": field}, f'json["{name}"]', {"exists": {"field": field}}, base=table)
    return Value(Type.TEXT, {"field": field}, f'{table}["{name}"]', {"exists": {"field": field}}, base=table)


def read_field(source: Source, table: str, node: ast.expr) -> dict[str, str]:
    """The field of a table that a literal names."""
    name = read_text(source, node, f'the name of a {table}, such as {table}["name"]')
    if table == "header":
        if texts.wrong_token(name):
            raise source.error(node, f'"{name}" cannot be the name of a header field', "letters, digits and -")
        name = name.lower()
    elif table == "json":
        if not _POINTER.fullmatch(name):
            raise source.error(node, f'"{name}" is not a JSON Pointer (RFC 6901)', '"/plan" or "/items/0/id"')
        if name.count("/") > _LONGEST_POINTER:
            raise source.error(node, f"a JSON Pointer has at most {_LONGEST_POINTER} steps")
    elif not name:
        raise source.error(node, "the name is empty", f'{table}["name"]')
    return {table: name}


def _lower(source: Source, node: ast.Call) -> Value:
    function = node.func
    if not isinstance(function, ast.Attribute):
        raise source.error(node, "functions cannot be called", 'a method of a value, such as path.startswith("/a/")')
    if function.attr != "lower":
        if function.attr in METHODS:
            raise source.error(
                node, f".{function.attr}() is a test, not a value", "it alone, or joined by and, or, not"
            )
        _attribute(source, function)
    if node.args or node.keywords:
        raise source.error(node, ".lower() takes nothing")
    value = as_type(read_value(source, function.value), Type.TEXT)
    if value.type is not Type.TEXT or value.literal is not None:
        raise source.error(function.value, f"{value.shown} cannot be lowered", "a text of the request")
    if isinstance(value.operand, dict) and "lower" in value.operand:
        return value
    return Value(Type.TEXT, {"lower": value.operand}, f"{value.shown}.lower()", value.presence, base=value.base)


def _kind(node: ast.expr) -> str:
    """How a message speaks of a piece of syntax."""
    if isinstance(node, ast.Constant):
        kinds: dict[type, str] = {str: "a text", bytes: "a text of bytes", float: "a fraction", bool: "True or False"}
        return kinds.get(type(node.value), "a number" if isinstance(node.value, int) else "this")
    return {
        ast.BoolOp: 'a test joined by "and" or "or"',
        ast.Compare: "a comparison",
        ast.Call: "a call",
        ast.List: "a list",
        ast.Tuple: "a list",
        ast.Set: "a list",
        ast.BinOp: "arithmetic",
        ast.Lambda: "a function",
        ast.IfExp: '"if … else"',
        ast.JoinedStr: "an f-string",
        ast.NamedExpr: '":="',
        ast.Name: "a name",
        ast.Subscript: "a value of the request",
        ast.Attribute: "a value of the request",
    }.get(type(node), "this")
