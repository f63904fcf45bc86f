"""A request described in the form that `explain` takes, from a URL and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.config import texts
from penstock.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.config.model import Config, RouteTest


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must become of a request; `None` is not looked at."""

    route: str | None
    upstream: str | None
    mirror: str | None
    status: int | None


@dataclass(frozen=True, slots=True)
class TestRequest:
    """One of the file's tests, ready to be asked."""

    __test__ = False  # pytest takes classes named so for its own

    key: str
    """`tests[2]`, for a fault."""
    name: str
    test: RouteTest
    request: dict[str, Any]
    """In the form that `explain` takes."""
    expected: Expectation


def test_requests(config: Config) -> Iterator[TestRequest]:
    """The tests of a checked configuration as requests to explain."""
    for index, test in enumerate(config.tests):
        request = explain_request(
            test.method,
            test.url,
            test.headers.items(),
            body=test.body,
            client=test.client,
            listener=test.listener,
        )
        expected = Expectation(test.route, test.upstream, test.mirror, test.status)
        yield TestRequest(f"tests[{index}]", test.name or f"{test.method} {test.url}", test, request, expected)


test_requests.__test__ = False  # type: ignore[attr-defined]


def explain_request(  # noqa: PLR0913 - one parameter for each part of a request
    method: str,
    url: str,
    headers: Iterable[tuple[str, str]] = (),
    *,
    body: str | None = None,
    client: str | None = None,
    listener: str | None = None,
    user: str | None = None,
) -> dict[str, Any]:
    """Describe a request. Raises `UsageError` for what is not an absolute URL or not an address."""
    try:
        parts = texts.read_url(url)
    except ValueError as error:
        raise UsageError(f"{url} {error}") from None
    try:
        client = texts.read_client(client or "127.0.0.1")
    except ValueError as error:
        raise UsageError(str(error)) from None
    fields = [[name.lower(), value] for name, value in headers]
    if body is not None and not any(name in ("content-length", "transfer-encoding") for name, _ in fields):
        fields.append(["content-length", str(len(body.encode()))])
    # A Host that is given takes the place of the URL's, as with curl.
    host = next((value for name, value in fields if name == "host"), parts.netloc)
    return {
        "listener": listener,
        "method": method,
        "scheme": parts.scheme,
        "host": host,
        "target": (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        "headers": [field for field in fields if field[0] != "host"],
        "body": body,
        "user": user,
        "client": client,
    }
