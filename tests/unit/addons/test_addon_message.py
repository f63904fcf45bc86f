from __future__ import annotations

import json
from typing import Any

import pytest

from penstock.addons.message import LARGEST_BODY, Headers, Request, Response, read_call, write_verdict

TOLD: dict[str, Any] = {
    "method": "GET",
    "scheme": "http",
    "host": "shop.example",
    "port": None,
    "path": "/a",
    "query": "x=1",
    "headers": [["Cookie", "a"], ["X-A", "1"], ["x-a", "2"]],
    "client": "192.0.2.1",
    "listener": "web",
    "route": "all",
    "id": "77",
}


def call(response: dict[str, Any] | None = None) -> tuple[Request, Response | None]:
    return read_call(json.dumps(TOLD if response is None else {**TOLD, "response": response}))


def verdict(request: Request, response: Response | None = None, returned: object = None) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(write_verdict(request, response, returned)[0])
    return written


def test_a_request_is_what_was_told() -> None:
    request, response = call()
    assert response is None
    assert {name: getattr(request, name) for name in TOLD if name != "headers"} == {
        key: value for key, value in TOLD.items() if key != "headers"
    }
    assert request.headers.items() == [("Cookie", "a"), ("X-A", "1"), ("x-a", "2")]
    assert verdict(request) == {"edits": []}


def test_headers_have_no_case_and_keep_their_order() -> None:
    headers = Headers([("X-A", "1"), ("b", "2"), ("x-a", "3")])
    assert (headers["x-A"], headers.all("X-a"), headers.get("c"), "B" in headers, len(headers)) == (
        "1",
        ["1", "3"],
        None,
        True,
        3,
    )
    headers.set("x-a", "4")
    headers.add("c", "5")
    headers.remove("B")
    assert headers.items() == [("x-a", "4"), ("c", "5")]
    with pytest.raises(KeyError):
        headers["b"]


def test_changes_are_told_as_they_were_made() -> None:
    request, _ = call()
    request.headers.set("X-User", "ann")
    request.headers.remove("cookie")
    request.path, request.query = "/b", None
    assert verdict(request) == {
        "edits": [["set", "X-User", "ann"], ["remove", "cookie", ""]],
        "path": "/b",
        "query": None,
    }


def test_what_a_hook_may_not_set_it_cannot() -> None:
    request, _ = call()
    with pytest.raises(AttributeError, match="method"):
        request.method = "POST"
    with pytest.raises(TypeError, match="int"):
        request.path = 7  # type: ignore[assignment]
    with pytest.raises(TypeError, match="NoneType"):
        request.headers.set("x-a", None)  # type: ignore[arg-type]


def test_an_answer_has_its_type_and_its_bytes() -> None:
    request, _ = call()
    document, body = write_verdict(request, None, Response(401, {"www-authenticate": "Basic"}, "whó?"))
    headers = [["www-authenticate", "Basic"], ["content-type", "text/plain; charset=utf-8"]]
    assert (json.loads(document), body) == ({"answer": {"status": 401, "headers": headers}}, "whó?".encode())
    assert Response(200, {"Content-Type": "text/html"}, "<p>").headers.items() == [("Content-Type", "text/html")]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (False, "returned bool"),
        (401, "returned int"),
        ((401, "x"), "returned tuple"),
        (Response("401"), "no whole number"),  # type: ignore[arg-type]
        (Response(body=None), "no text and no bytes"),  # type: ignore[arg-type]
        (Response(body=b"x" * (LARGEST_BODY + 1)), "1048577 bytes"),
    ],
)
def test_what_is_no_verdict_is_refused(returned: object, reason: str) -> None:
    with pytest.raises((TypeError, ValueError), match=reason):
        write_verdict(call()[0], None, returned)


def test_a_response_is_changed_in_place() -> None:
    request, response = call({"status": 200, "headers": [["x-a", "1"]]})
    assert response
    assert response.body is None
    response.status = 404
    response.headers.add("x-b", "2")
    assert verdict(request, response) == {"edits": [["add", "x-b", "2"]], "status": 404}
    with pytest.raises(TypeError, match="returned Response"):
        write_verdict(request, response, Response(500))


def test_a_response_without_a_body_keeps_its_status() -> None:
    request, response = call({"status": 304, "headers": []})
    assert response
    response.status = 200
    with pytest.raises(ValueError, match="304"):
        write_verdict(request, response, None)


def test_no_value_is_shown() -> None:
    request, response = call({"status": 200, "headers": [["set-cookie", "secret"]]})
    assert "secret" not in repr((request, request.headers, response, response and response.headers))
