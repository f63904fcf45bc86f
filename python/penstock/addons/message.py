"""What a hook gets and gives: a request, a response, their header fields.

A change is remembered as it is made and carried out by the data plane, which refuses what a header or a path may not
be; nothing is checked here but types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

AUTHENTICATE = "authenticate"
"""The hook that is told no request, but a name and a password."""
LARGEST_BODY = 1 << 20
"""Bytes of an answer's body."""

Fields = Mapping[str, str] | Iterable[tuple[str, str]]


class Headers:
    """Header fields in order, of which several may have one name. Capitals make no difference in names.

    Bytes beyond ASCII are one character each (Latin-1), as in WSGI.
    """

    __slots__ = ("_edits", "_fields")

    def __init__(self, fields: Fields = ()) -> None:
        """Begin with `fields`, pairs or a mapping."""
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        self._fields: list[tuple[str, str]] = [(_text(name), _text(value)) for name, value in pairs]
        self._edits: list[tuple[str, str, str]] = []

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of a name, or `default`."""
        return next(iter(self.all(name)), default)

    def all(self, name: str) -> list[str]:
        """Every value of a name, in order."""
        wanted = name.lower()
        return [value for found, value in self._fields if found.lower() == wanted]

    def items(self) -> list[tuple[str, str]]:
        """Every field, in order."""
        return list(self._fields)

    def set(self, name: str, value: str) -> None:
        """Put one field in place of all of its name."""
        self._drop(name)
        self._fields.append((_text(name), _text(value)))
        self._edits.append(("set", name, value))

    def add(self, name: str, value: str) -> None:
        """Append a field; others of its name stay."""
        self._fields.append((_text(name), _text(value)))
        self._edits.append(("add", name, value))

    def remove(self, name: str) -> None:
        """Drop every field of a name; none is well, too."""
        self._drop(name)
        self._edits.append(("remove", name, ""))

    def __getitem__(self, name: str) -> str:
        """The first value of a name. Raises `KeyError`."""
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        """Whether there is a field of this name."""
        return isinstance(name, str) and self.get(name) is not None

    def __len__(self) -> int:
        """How many fields there are."""
        return len(self._fields)

    def __repr__(self) -> str:
        """Names only: values may be secrets."""
        return f"Headers({', '.join(name for name, _ in self._fields)})"

    def _drop(self, name: str) -> None:
        unwanted = _text(name).lower()
        self._fields = [field for field in self._fields if field[0].lower() != unwanted]


class Request:
    """A request as the route's endpoint would get it: path and host canonical, the route's filters done.

    `path`, `query` and `headers` may be changed; setting anything else raises `AttributeError`.
    """

    __slots__ = (
        "_told", "client", "headers", "host", "id", "listener", "method", "path", "port", "query", "route", "scheme",
    )  # fmt: skip

    method: str
    scheme: str
    """`"http"` or `"https"`."""
    host: str
    """In lower case, without a port."""
    port: int | None
    """The port that `Host` named."""
    path: str
    """Escapes kept where they matter. Set, it is made canonical again."""
    query: str | None
    """What follows `?`, as sent; `None` without one. Set to `None`, it is dropped."""
    headers: Headers
    _told: tuple[str, str | None]
    client: str | None
    """Address of the original caller, after `trusted_proxies`; `None` on a unix socket."""
    listener: str
    route: str
    id: str
    """The request id: in the access log, on error pages, and what the endpoint gets."""

    def __init__(self, **parts: Any) -> None:
        """Take every part by name; `headers` are pairs."""
        for name in self.__slots__[1:]:
            object.__setattr__(self, name, parts[name])
        object.__setattr__(self, "headers", Headers(parts["headers"]))
        object.__setattr__(self, "_told", (self.path, self.query))

    def __setattr__(self, name: str, value: object) -> None:
        """Only path and query are a hook's to set."""
        if name == "path":
            object.__setattr__(self, name, _text(value))
        elif name == "query":
            object.__setattr__(self, name, None if value is None else _text(value))
        else:
            raise AttributeError(f"a hook cannot set {name} of a request; it may set path and query, and edit headers")

    def __repr__(self) -> str:
        """Without what may be a secret."""
        return f"Request({self.method}, route={self.route!r}, id={self.id!r})"


class Response:
    """An answer: made by a hook, or an endpoint's.

    A text as `body` is sent as UTF-8, with the Content-Type for plain text where none is given. Of an endpoint's
    response the body is not read: it is `None`, and only `status` and `headers` may be changed.
    """

    __slots__ = ("_told", "body", "headers", "status")

    def __init__(self, status: int = 200, headers: Fields = (), body: str | bytes = b"") -> None:
        """`headers` are pairs or a mapping; the length of the body is set by Penstock."""
        self.status = self._told = status
        self.headers = Headers(headers)
        self.body: bytes | None = body.encode() if isinstance(body, str) else body
        if isinstance(body, str) and body and "content-type" not in self.headers:
            self.headers.add("content-type", "text/plain; charset=utf-8")

    def __repr__(self) -> str:
        """Without what may be a secret."""
        return f"Response({self.status})"


def read_call(document: str) -> tuple[Request, Response | None]:
    """What the data plane tells of a request, and of its response where there is one."""
    parts = json.loads(document)
    answered = parts.pop("response", None)
    response = None
    if answered is not None:
        response = Response(answered["status"], answered["headers"])
        response.body = None
    return Request(**parts), response


def read_login(document: str) -> tuple[str, str]:
    """Who a client of a forward proxy says that it is, and the password."""
    parts = json.loads(document)
    return parts["user"], parts["password"]


def write_login(returned: object) -> str:
    """What the data plane is told of a login. Raises `TypeError` for what is neither true nor false."""
    if not isinstance(returned, bool):
        raise TypeError(f"returned {_kind(returned)}; return True for a user's name and password, or False")
    return "{}" if returned else json.dumps({"answer": {"status": 407, "headers": []}})


def write_verdict(request: Request, response: Response | None, returned: object) -> tuple[str, bytes]:
    """What the data plane is told after a hook has run, and the body of an answer.

    Raises `TypeError` or `ValueError` for what a hook may not return.
    """
    if response is not None:
        if returned is not None:
            raise TypeError(f"returned {_kind(returned)}; a response hook changes its response and returns None")
        return _response_changes(response), b""
    if returned is None:
        return _request_changes(request), b""
    if not isinstance(returned, Response):
        raise TypeError(f"returned {_kind(returned)}; return None to go on, or a penstock.Response")
    if type(returned.status) is not int or not isinstance(returned.body, bytes):
        raise TypeError("returned a Response whose status is no whole number or whose body is no text and no bytes")
    if len(returned.body) > LARGEST_BODY:
        raise ValueError(f"returned a body of {len(returned.body)} bytes; allowed: 1 MB")
    answer = {"status": returned.status, "headers": returned.headers.items()}
    return json.dumps({"answer": answer}), returned.body


def _request_changes(request: Request) -> str:
    path, query = request._told
    changes: dict[str, Any] = {"edits": request.headers._edits}
    if request.path != path:
        changes["path"] = request.path
    if request.query != query:
        changes["query"] = request.query
    return json.dumps(changes)


def _response_changes(response: Response) -> str:
    before = response._told
    changes: dict[str, Any] = {"edits": response.headers._edits}
    if response.status != before:
        if type(response.status) is not int:
            raise TypeError("set the status of a response to what is no whole number")
        if before in (101, 204, 205, 304):
            raise ValueError(f"changed the status of a {before} response, which has no body")
        changes["status"] = response.status
    return json.dumps(changes)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a header name, a value and a path are texts, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return type(value).__name__
